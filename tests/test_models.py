"""The networks: as large as their papers say, whole, and found by name."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from adai.errors import UserError
from adai.lab.models import MODELS, build_model

# channels, size, classes; parameters as the docstrings state them; millions as they are known
SIZES = {
    "smallnet": (1, 8, 10, 9_978, None),
    "convnet": (1, 28, 10, 29_178, None),
    "plainnet": (1, 28, 10, 28_938, None),
    "fc3": (1, 28, 10, 89_610, None),
    "fc3-10": (1, 28, 10, 8_070, None),
    "fc3-4": (1, 28, 10, 3_210, None),
    "resnet8": (3, 32, 10, 78_042, 0.078),
    "resnet20": (3, 32, 10, 272_474, 0.27),
    "resnet18": (3, 32, 10, 11_173_962, 11.17),
    "resnet34": (3, 32, 100, 21_328_292, 21.3),
    "resnet50": (3, 224, 1000, 25_557_032, 25.56),
    "vgg16": (3, 32, 10, 14_724_042, 14.7),
    "densenet121": (3, 32, 100, 7_048_548, 7.0),
    "googlenet": (3, 32, 100, 6_250_596, 6.3),
}


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def test_every_model_has_a_size_here():
    assert SIZES.keys() == MODELS.keys()


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts(name):
    channels, size, classes, exact, millions = SIZES[name]
    count = parameters(build_model(name, channels=channels, size=size, classes=classes))
    print(name, f"{count:,}")
    assert count == exact
    assert f"{exact:,} parameters" in " ".join(MODELS[name].__doc__.split())
    if millions is not None:
        assert count == pytest.approx(millions * 1e6, rel=0.03)


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("channels", "size", "classes"), [(3, 32, 10), (1, 28, 7)])
def test_logits_are_finite_and_every_parameter_learns(name, channels, size, classes):
    torch.manual_seed(0)
    net = build_model(name, channels=channels, size=size, classes=classes)
    images = torch.randn(2, channels, size, size)
    logits = net(images)
    assert logits.shape == (2, classes)
    cross_entropy(logits, torch.tensor([0, 1])).backward()
    silent = [key for key, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not silent
    with torch.no_grad():
        again = net.eval()(images)
    assert again.shape == (2, classes)
    assert again.isfinite().all()


@pytest.mark.parametrize("name", [name for name in SIZES if name.startswith("resnet")])
def test_a_residual_net_has_as_many_layers_as_its_name_says(name):
    """Along the longest way; shortcuts are beside it."""
    net = build_model(name, channels=3, size=32, classes=10)
    kinds = (torch.nn.Conv2d, torch.nn.Linear)
    layers = [key for key, module in net.named_modules() if isinstance(module, kinds) and "shortcut" not in key]
    assert len(layers) == int(name.removeprefix("resnet"))


@pytest.mark.parametrize("name", ["smallnet", "fc3", "resnet18", "densenet121"])
def test_the_seed_decides_the_weights(name):
    def weights(seed):
        torch.manual_seed(seed)
        return torch.nn.utils.parameters_to_vector(build_model(name, channels=1, size=8, classes=2).parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_eval_mode_gives_each_image_its_own_logits():
    """Also where training has random parts: GoogLeNet has dropout."""
    net = build_model("googlenet", channels=1, size=16, classes=3).eval()
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(net(images)[:1], net(images[:1]))


@pytest.mark.parametrize(("name", "size", "stages"), [
    ("resnet8", 32, [32, 32, 16, 8]),
    ("resnet20", 32, [32, 32, 16, 8]),
    ("resnet18", 32, [32, 32, 16, 8, 4]),
    ("resnet34", 32, [32, 32, 16, 8, 4]),
    ("resnet50", 64, [16, 16, 8, 4, 2]),
])  # fmt: skip
def test_residual_stages_shrink_the_image_as_the_form_says(name, size, stages):
    """CIFAR form: the stem keeps 32x32; ImageNet form: the stem divides by four."""
    net = build_model(name, channels=3, size=size, classes=10).eval()
    x = torch.zeros(1, 3, size, size)
    seen = []
    with torch.no_grad():
        for stage in list(net)[:-2]:
            x = stage(x)
            seen.append(x.shape[-1])
    assert seen == stages


def test_an_unknown_model_names_the_choices():
    with pytest.raises(UserError, match="unknown model 'alexnet'; choose from smallnet, convnet, plainnet, fc3"):
        build_model("alexnet", channels=3, size=32, classes=10)
