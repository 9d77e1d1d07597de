"""One training run: a model, an optimizer, a data set and a seed."""

import math
import time
from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from adai.lab.data import Dataset
from adai.lab.models import build_model
from adai.lab.optimizers import Recipe

BATCH = 64
WARMUP_STEPS = 100


def train(
    recipe: Recipe, data: Dataset, *, seed: int, epochs: int, model: str = "smallnet"
) -> Iterator[dict[str, float]]:
    """Train a model, named as in `adai.lab.models.MODELS` and of the data's size, and yield what each epoch gave.

    The seed draws the initial weights and the order of the data: equal seeds are equal starts and orders, whatever the
    optimizer. The learning rate rises linearly over the first 100 steps and falls to 0 along a cosine.

    Yields:
        ``epoch`` from 1, ``train_loss`` (nats, mean over the epoch's minibatches), ``test_error`` (percent), ``lr`` (at
        the end of the epoch), ``ms_per_step`` (mean over the epoch's training steps, without evaluation).
    """
    torch.manual_seed(seed)
    device = data.mean.device
    channels, size = data.train.pixels.shape[1:3]
    net = build_model(model, channels=channels, size=size, classes=data.classes).to(device)
    optimizer = recipe.build(net.parameters())
    order = torch.Generator().manual_seed(seed)
    n = len(data.train.labels)
    batches = math.ceil(n / BATCH)
    scheduler = LambdaLR(optimizer, lambda step: schedule(step, epochs * batches))
    for epoch in range(1, epochs + 1):
        net.train()
        loss_sum = torch.zeros((), device=device)
        began = time.perf_counter()
        for where in torch.randperm(n, generator=order).to(device).split(BATCH):
            optimizer.zero_grad()
            loss = cross_entropy(net(data.normalised(data.train.pixels[where])), data.train.labels[where])
            loss.backward()
            optimizer.step()
            scheduler.step()
            loss_sum += loss.detach()
        train_loss = loss_sum.item() / batches  # waits for the device
        seconds = time.perf_counter() - began
        yield {
            "epoch": epoch,
            "train_loss": train_loss,
            "test_error": test_error(net, data),
            "lr": float(scheduler.get_last_lr()[0]),
            "ms_per_step": 1e3 * seconds / batches,
        }


def schedule(step: int, steps: int) -> float:
    """The factor on the learning rate: a linear warm-up over `WARMUP_STEPS`, then a cosine to 0 at the last step."""
    warmup = min(WARMUP_STEPS, steps // 2)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


@torch.no_grad()
def test_error(model: nn.Module, data: Dataset) -> float:
    """Share of the test images that the model gets wrong, in percent."""
    model.eval()
    wrong = 0
    for pixels, labels in zip(data.test.pixels.split(1000), data.test.labels.split(1000), strict=True):
        wrong += int((model(data.normalised(pixels)).argmax(dim=1) != labels).sum())
    return 100 * wrong / len(data.test.labels)
