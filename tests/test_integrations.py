"""Libraries that choose or drive optimizers take `Adai`: a few steps each, equal to a loop by hand.

Then the snippets of docs/integrations.md run as they stand, those of trainers on MNIST.
"""

import functools
import importlib
import io
import os
import sys
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec, module_from_spec

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from adai import Adai, AdaiW
from tests import snippets

pytestmark = pytest.mark.slow

PAGE = snippets.ROOT / "docs" / "integrations.md"

STEPS = 6


def rows():
    """Inputs and targets, three batches of four."""
    rng = torch.Generator().manual_seed(0)
    return torch.randn(12, 5, generator=rng), torch.randn(12, 1, generator=rng)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 1))


def optimizer_of(model):
    return Adai(model.parameters(), lr=0.1, weight_decay=0.01)


def undecayed_biases(model):
    """The groups of timm and of Hugging Face Trainer."""
    weights, biases = ([p for p in model.parameters() if (p.dim() > 1) is is_weight] for is_weight in (True, False))
    return [{"params": biases, "weight_decay": 0.0}, {"params": weights, "weight_decay": 0.01}]


def trained_by_hand(model, optimizer):
    """The parameters after two epochs of a plain loop."""
    x, y = rows()
    for step in range(STEPS):
        here = slice(4 * (step % 3), 4 * (step % 3) + 4)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[here]), y[here]).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.fixture
def expected():
    model = net()
    return trained_by_hand(model, optimizer_of(model))


def assert_trained(model, expected):
    for p, q in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), q, rtol=0, atol=1e-6)


def test_accelerate(expected):
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = net()
    model, optimizer, loader = accelerator.prepare(model, optimizer_of(model), DataLoader(TensorDataset(*rows()), 4))
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.mse_loss(model(x), y))
            optimizer.step()
    assert_trained(accelerator.unwrap_model(model), expected)


class Regression(nn.Module):
    """The net as Trainer takes it."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x, labels):
        y = self.net(x)
        return {"loss": nn.functional.mse_loss(y, labels), "logits": y}


def trained_by_trainer(model, folder, batch, *, optimizers=(None, None), optimizer_cls_and_kwargs=None, **settings):
    """The `Trainer` after two epochs over the rows in their order, without clipping."""
    transformers = importlib.import_module("transformers")

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    arguments = transformers.TrainingArguments(
        output_dir=str(folder), use_cpu=True, num_train_epochs=2, per_device_train_batch_size=batch, max_grad_norm=0.0,
        lr_scheduler_type="constant", report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
        weight_decay=0.01, **settings,
    )  # fmt: skip
    data = [{"x": x, "labels": y} for x, y in zip(*rows(), strict=True)]
    given = {"optimizers": optimizers, "optimizer_cls_and_kwargs": optimizer_cls_and_kwargs}
    trainer = InOrder(model, arguments, train_dataset=data, **given)
    trainer.train()
    return trainer


@pytest.mark.parametrize("given", ["an optimizer", "its class"])
def test_hugging_face_trainer(given, expected, tmp_path):
    pytest.importorskip("accelerate")  # which Trainer needs
    pytest.importorskip("transformers")
    model = Regression()
    if given == "an optimizer":
        optimizer = {"optimizers": (optimizer_of(model), None)}
    else:
        # The decay of the arguments holds, not this one, and not for biases.
        optimizer = {"optimizer_cls_and_kwargs": (Adai, {"lr": 0.1, "weight_decay": 0.3})}
        other = net()
        expected = trained_by_hand(other, Adai(undecayed_biases(other), lr=0.1))
    trained_by_trainer(model, tmp_path, 4, **optimizer)
    assert_trained(model.net, expected)


@contextmanager
def fsdp_on_cpus():
    """Have Accelerate shard on CPUs, where it uses DistributedDataParallel instead: it takes them for other devices."""
    rank = str(dist.get_rank())
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="0")
    there = importlib.import_module("accelerate.state")
    init = there.AcceleratorState.__init__

    def sharding(self, *args, fsdp_plugin=None, **rest):
        init(self, *args, fsdp_plugin=fsdp_plugin, **rest)
        if fsdp_plugin is not None:
            self.distributed_type = there.PartialState._shared_state["distributed_type"] = there.DistributedType.FSDP
            self.fsdp_plugin = fsdp_plugin
            self.device = there.PartialState._shared_state["device"] = torch.device("cpu")  # not cpu:0

    there.AcceleratorState.__init__ = sharding
    try:
        yield
    finally:
        there.AcceleratorState.__init__ = init
        there.AcceleratorState._reset_state(reset_partial_state=True)
        os.environ.pop("ACCELERATE_USE_FSDP", None)


def sharded_by_trainer(folder, version):
    """What Trainer makes of the net, and the whole parameters after training on this rank's half of each batch."""
    config = {"version": version, "cpu_ram_efficient_loading": False, "sync_module_states": False}
    options = {"lr": 0.1, "process_group": dist.group.WORLD if version == 1 else None}
    with fsdp_on_cpus():
        given = {"fsdp": True, "fsdp_config": config, "optimizer_cls_and_kwargs": (Adai, options)}
        wrapped = trained_by_trainer(Regression(), folder, 2, **given).model_wrapped
        whole = FullyShardedDataParallel.summon_full_params(wrapped) if version == 1 else nullcontext()
        with whole:
            params = [p.detach().clone() for p in wrapped.parameters()]
        return type(wrapped).__name__, params if version == 1 else [p.full_tensor() for p in params]


@pytest.mark.parametrize(("version", "wrapped"), [(1, "FullyShardedDataParallel"), (2, "FSDPRegression")])
def test_hugging_face_trainer_with_fsdp(version, wrapped, ranks, tmp_path):
    pytest.importorskip("accelerate")
    pytest.importorskip("transformers")
    model = net()
    expected = trained_by_hand(model, Adai(undecayed_biases(model), lr=0.1))
    for name, params in ranks(2).run(sharded_by_trainer, str(tmp_path), version):
        assert name == wrapped
        for p, q in zip(params, expected, strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=1e-6)


def regression(lightning):
    """The net as Lightning takes it, without an optimizer."""

    class Regression(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()

        def training_step(self, batch, _):
            x, y = batch
            return nn.functional.mse_loss(self.net(x), y)

    return Regression


def test_lightning(expected, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Regression(regression(lightning)):
        def configure_optimizers(self):
            return optimizer_of(self)

    model = Regression()
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, DataLoader(TensorDataset(*rows()), 4))
    assert_trained(model.net, expected)


def carried_out(text, **names):
    """The names that a block of docs/integrations.md, the one with this text, leaves behind."""
    names |= {"Adai": Adai}
    exec(snippets.block_with(PAGE, "options = {"), names)
    exec(snippets.block_with(PAGE, text), names)
    return names


class Classifier(nn.Module):
    """The net of the snippets, as Trainer takes it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = snippets.net(batch_norm=False)

    def forward(self, x, labels):
        y = self.net(x)
        return {"loss": nn.functional.cross_entropy(y, labels), "logits": y}


@snippets.needs_mnist
@pytest.mark.parametrize("clipping", [{}, {"max_grad_norm": 0.0}], ids=["Trainer's default", "none"])
def test_the_documented_trainer_trains(clipping, tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    model = Classifier()
    data = [{"x": x, "labels": y} for x, y in zip(*snippets.mnist()[0], strict=True)]
    settings = {
        "use_cpu": True, "num_train_epochs": 1, "per_device_train_batch_size": snippets.BATCH, "report_to": [],
        "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", **clipping,
    }  # fmt: skip
    whole = transformers.TrainingArguments
    monkeypatch.setattr(transformers, "TrainingArguments", functools.partial(whole, **settings))
    monkeypatch.chdir(tmp_path)
    trainer = carried_out("trainer = Trainer(", model=model, data=data)["trainer"]
    trainer.train()
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.0, 5e-4}
    assert snippets.error(model.net) < snippets.BOUND


@snippets.needs_mnist
def test_the_documented_accelerate_trains():
    accelerate = pytest.importorskip("accelerate")
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(*snippets.mnist()[0]), snippets.BATCH, shuffle=True)
    names = {"accelerator": accelerate.Accelerator(cpu=True), "model": snippets.net(batch_norm=False), "loader": loader}
    names = carried_out("accelerator.prepare", **names)
    for x, y in names["loader"]:
        names["optimizer"].zero_grad()
        names["accelerator"].backward(nn.functional.cross_entropy(names["model"](x), y))
        names["optimizer"].step()
    assert snippets.error(names["model"]) < snippets.BOUND


@snippets.needs_mnist
def test_the_documented_lightning_trains(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = snippets.net(batch_norm=False)

        def training_step(self, batch, _):
            x, y = batch
            return nn.functional.cross_entropy(self.net(x), y)

        configure_optimizers = carried_out("def configure_optimizers")["configure_optimizers"]

    model = Module()
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, DataLoader(TensorDataset(*snippets.mnist()[0]), snippets.BATCH, shuffle=True))
    assert snippets.error(model.net) < snippets.BOUND


def without_their_init(monkeypatch, *packages):
    """Let parts of these packages be imported where the whole cannot: their ``__init__`` does not run."""
    for name in packages:
        spec = find_spec(name)
        if spec is None:
            pytest.skip(f"could not import {name!r}: not installed; `make env-slow` installs it")
        monkeypatch.setitem(sys.modules, name, module_from_spec(spec))


@pytest.fixture
def timm_optim(monkeypatch):
    """`timm.optim`; alone where torchvision is missing, without which the rest of timm cannot be imported."""
    if find_spec("torchvision") is None:
        without_their_init(monkeypatch, "timm", "timm.models")
        sys.modules["timm.models"].group_parameters = None  # for layer decay
    pytest.importorskip("timm")
    return importlib.import_module("timm.optim")


def test_timm(timm_optim):
    importlib.import_module("adai.integrations.timm").register()
    model, other = net(), net()
    optimizer = timm_optim.create_optimizer_v2(model, "adai", lr=0.1, weight_decay=0.01, momentum=0.9, eps=1e-8)
    expected = trained_by_hand(other, Adai(undecayed_biases(other), lr=0.1))
    for p, q in zip(trained_by_hand(model, optimizer), expected, strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6)
    assert [group["eps"] for group in optimizer.param_groups] == [1e-3, 1e-3]
    options = {"lr": 0.1, "betas": (0.2, 0.9), "min_inertia": 0.5, "foreach": True}
    (group,) = timm_optim.create_optimizer_v2(model.parameters(), "AdaiW", weight_decay=0.1, **options).param_groups
    (made,) = AdaiW(model.parameters(), weight_decay=0.1, **options).param_groups
    assert {**group, "params": None} == {**made, "params": None}


def test_timm_lists_the_names_once_however_often_they_are_registered(timm_optim, caplog):
    register = importlib.import_module("adai.integrations.timm").register
    register()
    register()
    assert timm_optim.list_optimizers("adai*") == ["adai", "adaiw"]
    assert caplog.records == []


def test_the_documented_timm(timm_optim):
    model = net()
    optimizer = carried_out("create_optimizer_v2(", model=model)["optimizer"]
    expected = {"lr": 1.0, "min_inertia": 0.9, "warmup_steps": 100}
    for group, decay in zip(optimizer.param_groups, (0.0, 5e-4), strict=True):
        assert group.items() >= {**expected, "weight_decay": decay}.items()


def assert_documented(optimizer):
    """It has the options of the page, and a checkpoint of it can be loaded with torch alone."""
    assert type(optimizer) is Adai
    options = carried_out("options = {")["options"]
    assert optimizer.param_groups[0].items() >= options.items()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"][0]["betas"] == (0.1, 0.99)


def test_the_documented_lightning_cli(tmp_path):
    lightning = pytest.importorskip("lightning")
    pytest.importorskip("jsonargparse")
    lightning_cli = pytest.importorskip("lightning.pytorch.cli").LightningCLI

    class Regression(regression(lightning)):
        def train_dataloader(self):
            return DataLoader(TensorDataset(*rows()), 4)

    (tmp_path / "config.yaml").write_text(snippets.block_with(PAGE, "class_path", "yaml"))
    quiet = ["accelerator=cpu", "max_epochs=1", "logger=false", "enable_checkpointing=false",
             "enable_progress_bar=false", "enable_model_summary=false", f"default_root_dir={tmp_path}"]  # fmt: skip
    arguments = ["fit", f"--config={tmp_path / 'config.yaml'}", *(f"--trainer.{setting}" for setting in quiet)]
    cli = lightning_cli(Regression, args=arguments, save_config_callback=None)
    assert_documented(cli.trainer.optimizers[0])


def test_the_documented_hydra():
    hydra, omegaconf = pytest.importorskip("hydra"), pytest.importorskip("omegaconf")
    pytest.importorskip("hydra.utils")
    config = omegaconf.OmegaConf.create(snippets.block_with(PAGE, "_target_", "yaml"))
    config.optimizer.betas = [0.1, 0.99]
    names = {"hydra": hydra, "config": config, "model": net()}
    assert_documented(carried_out("hydra.utils.instantiate", **names)["optimizer"])


def test_the_documented_torchtune(monkeypatch):
    omegaconf = pytest.importorskip("omegaconf")
    without_their_init(monkeypatch, "torchtune", "torchtune.config")
    made = importlib.import_module("torchtune.config._instantiate")
    config = omegaconf.OmegaConf.create(snippets.block_with(PAGE, "_component_", "yaml"))
    assert_documented(made.instantiate(config.optimizer, net().parameters()))
