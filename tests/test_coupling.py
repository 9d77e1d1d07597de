"""One mean of v̂ for several optimizers, and steps within the backward pass: as one optimizer with mean="previous"."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.distributed.optim import _apply_optimizer_in_backward

from adai import Adai
from adai.optim import Coupling, in_backward
from tests.engines import assert_close, each

on_each = pytest.mark.parametrize("engine", each("loop", "foreach", "fused", "triton"), indirect=True)
OPTIONS = [
    {},
    {"min_inertia": 0.9, "warmup_steps": 3},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True},
]


class Net(nn.Module):
    """Layers whose gradients differ much in size; the second is zero at first, so that the first has no gradient."""

    def __init__(self, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(8, 40), nn.Linear(40, 40), nn.Linear(40, 3)]).to(dtype)
        nn.init.zeros_(self.layers[1].weight)
        nn.init.zeros_(self.layers[1].bias)

    def forward(self, x):
        first, second, third = self.layers
        hidden = torch.tanh(first(x))
        return third(hidden.detach() + torch.tanh(second(torch.tanh(first(x)))))


def backwards(model, steps, seed=0):
    """Gradients of as many batches, one after the other."""
    rng = torch.Generator().manual_seed(seed)
    for k in range(steps):
        x = torch.randn(16, 8, generator=rng, dtype=torch.float64).to(next(model.parameters()).dtype)
        (model(x).square().sum() * (1 + k % 3)).backward()
        yield k


def train(model, optimizer, steps=10, seed=0, scheduler=None):
    for _ in backwards(model, steps, seed):
        optimizer.step()
        optimizer.zero_grad()
        if scheduler is not None:
            scheduler.step()
    return model


def expected(options, engine, steps=10):
    model = Net()
    return train(model, Adai(model.parameters(), lr=0.01, mean="previous", **options, **engine), steps)


class Several:
    """A list of optimizers that is stepped as one."""

    def __init__(self, optimizers):
        self.optimizers = optimizers

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self):
        for optimizer in self.optimizers:
            optimizer.zero_grad()


def coupled(model, options):
    coupling = Coupling()
    return Several([Adai([p], lr=0.01, coupling=coupling, **options) for p in model.parameters()])


@on_each
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_coupled_optimizers_train_as_one(engine, options):
    model = Net()
    train(model, coupled(model, {**options, **engine}))
    assert_close(model.parameters(), expected(options, engine).parameters(), 1e-10)


@on_each
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_steps_in_the_backward_pass_train_as_one_optimizer(engine, options):
    model = Net()
    optimizer = Adai(model.parameters(), lr=0.01, **options, **engine)
    in_backward(optimizer)
    for _ in backwards(model, 10):
        assert all(p.grad is None for p in model.parameters())
        optimizer.step()
    assert_close(model.parameters(), expected(options, engine).parameters(), 1e-10)


@pytest.mark.parametrize("removed", [True, False])
def test_a_frozen_parameter_counts_in_the_mean_until_it_is_removed(removed):
    ends = []
    for in_pass in (True, False):
        model = Net()
        optimizer = Adai(model.parameters(), lr=0.01, mean="current" if in_pass else "previous")
        if in_pass:
            in_backward(optimizer)
        for k in backwards(model, 10):
            optimizer.step()
            optimizer.zero_grad()
            if k == 4:
                model.layers[2].requires_grad_(False)
                if in_pass and removed:
                    (group,) = optimizer.param_groups
                    group["params"] = [p for p in group["params"] if p.requires_grad]
        ends.append(list(model.parameters()))
    apart = max((p - q).abs().max().item() for p, q in zip(*ends, strict=True))
    assert (apart < 1e-10) is removed


def test_without_the_coupling_it_is_another_rule():
    model = Net()
    train(model, Several([Adai([p], lr=0.01, mean="previous") for p in model.parameters()]))
    apart = [(p - q).abs().max() for p, q in zip(model.parameters(), expected({}, {}).parameters(), strict=True)]
    assert max(apart) > 1e-3


@on_each
@pytest.mark.parametrize("first", [1, 4])
def test_a_checkpoint_of_any_round_continues(engine, first):
    model = Net()
    optimizer = Adai(model.parameters(), lr=0.01, **engine)
    in_backward(optimizer)
    train(model, optimizer, first)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    train(model, optimizer, 5, seed=1)
    file.seek(0)
    net, state = torch.load(file, weights_only=True)
    again = Net()
    again.load_state_dict(net)
    resumed = Adai(again.parameters(), lr=0.01, **engine)
    resumed.load_state_dict(state)
    in_backward(resumed)
    train(again, resumed, 5, seed=1)
    assert_close(model.parameters(), again.parameters(), 0)


@on_each
@pytest.mark.parametrize("first", [1, 4])
def test_one_optimizer_goes_on_from_its_checkpoint(engine, first):
    model = Net()
    optimizer = Adai(model.parameters(), lr=0.01, **engine)
    in_backward(optimizer)
    train(model, optimizer, first)
    again = copy.deepcopy(model)
    other = Adai(again.parameters(), lr=0.01, mean="previous", **engine)
    other.load_state_dict(optimizer.state_dict())
    for net, steps in ((model, optimizer), (again, other)):
        train(net, steps, 5, seed=1)
    assert_close(model.parameters(), again.parameters(), 1e-10)


def test_rounds_without_a_gradient_do_not_count():
    parts = []
    for wait in (0, 2):
        params = [torch.ones(3, dtype=torch.float64).requires_grad_() for _ in range(2)]
        several = coupled(nn.ParameterList(params), {"betas": (0.1, 0.9)})
        for value in [0.0] * wait + [1.0, 2.0, 3.0]:
            params[0].grad, params[1].grad = torch.full((3,), value).double(), torch.full((3,), 5 * value).double()
            several.step()
        parts.append(params)
    assert_close(*parts, 1e-12)


def test_a_scheduler_drives_it():
    ends = []
    for hooked in (False, True):
        model = Net()
        optimizer = Adai(model.parameters(), lr=0.01, mean="previous")
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.1)
        if hooked:
            in_backward(optimizer)
        ends.append(list(train(model, optimizer, scheduler=scheduler).parameters()))
    assert_close(*ends, 1e-10)


def test_with_bfloat16_state_it_is_as_another_rounding_seed():
    def end(seed, *, hooked=False):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 700), nn.Tanh(), nn.Linear(700, 3))
        options = {"mean": "previous", "state_dtype": torch.bfloat16, "rounding_seed": seed}
        optimizer = Adai(model.parameters(), lr=0.01, **options)
        if hooked:
            in_backward(optimizer)
        train(model, optimizer)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    apart = (end(0, hooked=True) - end(0)).norm()
    assert 0 < apart < 2 * (end(1) - end(0)).norm()


def test_complex_parameters():
    ends = []
    for several in (False, True):
        rng = torch.Generator().manual_seed(0)
        params = [nn.Parameter(torch.randn(5, dtype=torch.complex128, generator=rng)) for _ in range(2)]
        optimizer = coupled(nn.ParameterList(params), {}) if several else Adai(params, lr=0.01, mean="previous")
        for k in range(6):
            params[0].grad, params[1].grad = (k + 1) * params[0].detach(), 5j * params[1].detach()
            optimizer.step()
        ends.append([torch.view_as_real(p.detach()) for p in params])
    assert_close(*ends, 1e-10)


def test_removed_it_is_an_ordinary_optimizer():
    model = Net()
    optimizer = Adai(model.parameters(), lr=0.01)
    in_backward(optimizer).remove()
    train(model, optimizer)
    other = Net()
    train(other, Adai(other.parameters(), lr=0.01))
    assert_close(model.parameters(), other.parameters(), 0)


def test_what_does_not_go_together_is_refused():
    params = list(Net().parameters())
    for option, value in (("max_grad_norm", 1.0), ("dampening", 0.5), ("differentiable", True)):
        with pytest.raises(ValueError, match=f"coupling is not possible with {option}={value}"):
            Adai(params, coupling=Coupling(), **{option: value})
        with pytest.raises(ValueError, match=f"coupling is not possible with {option}={value}"):
            in_backward(Adai(params, **{option: value}))
    optimizer = Adai(params)
    in_backward(optimizer)
    with pytest.raises(ValueError, match="without coupling"):
        in_backward(optimizer)
    with pytest.raises(TypeError, match="with a coupling cannot be copied"):
        copy.deepcopy(optimizer)


def test_torchs_apply_optimizer_in_backward_with_a_coupling(recwarn):
    model = Net()
    _apply_optimizer_in_backward(Adai, model.parameters(), {"lr": 0.01, "coupling": Coupling()})
    for _ in backwards(model, 10):
        assert all(p.grad is None for p in model.parameters())
    assert_close(model.parameters(), expected({}, {}).parameters(), 1e-10)
    assert not [w for w in recwarn if "mean of v" in str(w.message)]


def test_zero_gradients_later_on_keep_the_count():
    """With beta2 = 0, v is zero after such a round, and its mean too."""
    params = [nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2)]
    several = coupled(nn.ParameterList(params), {"betas": (0.1, 0.0)})
    for value in (1.0, 1.0, 0.0, 1.0, 1.0):
        for p in params:
            p.grad = torch.full_like(p, value)
        several.step()
    for p, optimizer in zip(params, several.optimizers, strict=True):
        assert optimizer.state[p]["step"] == 5
        assert p.isfinite().all()
