"""Hugging Face Trainer, Accelerate and Lightning drive `Adai`: a few steps each, equal to a loop by hand.

Then each trains on MNIST with the line that docs/sharding.md shows for it.
"""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from adai import Adai
from tests import snippets

pytestmark = pytest.mark.slow

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


@pytest.fixture
def expected():
    """The parameters after two epochs of a plain loop."""
    model, (x, y) = net(), rows()
    optimizer = optimizer_of(model)
    for step in range(STEPS):
        here = slice(4 * (step % 3), 4 * (step % 3) + 4)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x[here]), y[here]).backward()
        optimizer.step()
    return [p.detach() for p in model.parameters()]


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


def test_hugging_face_trainer(expected, tmp_path):
    pytest.importorskip("accelerate")  # which Trainer needs
    transformers = pytest.importorskip("transformers")

    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x, labels):
            y = self.net(x)
            return {"loss": nn.functional.mse_loss(y, labels), "logits": y}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_):
            return torch.utils.data.SequentialSampler(self.train_dataset)

    model = Regression()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, num_train_epochs=2, per_device_train_batch_size=4, max_grad_norm=0.0,
        lr_scheduler_type="constant", report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    data = [{"x": x, "labels": y} for x, y in zip(*rows(), strict=True)]
    trainer = InOrder(model, arguments, train_dataset=data, optimizers=(optimizer_of(model), None))
    trainer.train()
    assert_trained(model.net, expected)


def test_lightning(expected, tmp_path):
    lightning = pytest.importorskip("lightning")

    class Regression(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = net()

        def training_step(self, batch, _):
            x, y = batch
            return nn.functional.mse_loss(self.net(x), y)

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
    """The names that a block of docs/sharding.md, the one with this text, leaves behind."""
    path = snippets.ROOT / "docs" / "sharding.md"
    names |= {"Adai": Adai}
    exec(snippets.block_with(path, "options = {") + snippets.block_with(path, text), names)
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
def test_the_documented_trainer_trains(clipping, tmp_path):
    pytest.importorskip("accelerate")
    transformers = pytest.importorskip("transformers")
    model = Classifier()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, num_train_epochs=1, per_device_train_batch_size=snippets.BATCH,
        lr_scheduler_type="constant", report_to=[], save_strategy="no", disable_tqdm=True, logging_strategy="no",
        **clipping,
    )  # fmt: skip
    data = [{"x": x, "labels": y} for x, y in zip(*snippets.mnist()[0], strict=True)]
    names = {"Trainer": transformers.Trainer, "model": model, "arguments": arguments, "data": data}
    carried_out("trainer = Trainer(", **names)["trainer"].train()
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
