"""What a warm-up is worth to Adai at a large learning rate: a two-layer convolutional net on MNIST, with and without.

Adai's first step is exactly lr * g, and its first steps are nearly as large; at lr 1 they kill a net that has no batch
norm. Prints a table and writes it as JSON::

    python benchmarks/warmup.py --json benchmarks/results/warmup.json
"""

import argparse
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from adai import Adai
from adai.lab.data import load
from adai.lab.machine import processor
from adai.lab.stats import spread

BATCH = 128
Part = tuple[Tensor, Tensor]  # images (N, 1, 28, 28) as the net takes them, and labels (N,)


def net() -> nn.Module:
    """Two convolutions without batch norm, and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip


def test_errors(train: Part, test: Part, *, lr: float, warmup: int, seed: int, epochs: int) -> list[float]:
    """Test error in percent after each epoch; the rate rises linearly over ``warmup`` steps and stays."""
    torch.manual_seed(seed)
    model = net()
    optimizer = Adai(model.parameters(), lr=lr, weight_decay=5e-4)
    scheduler = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / (warmup + 1)))
    errors = []
    for _ in range(epochs):
        for where in torch.randperm(len(train[1])).split(BATCH):
            optimizer.zero_grad()
            cross_entropy(model(train[0][where]), train[1][where]).backward()
            optimizer.step()
            scheduler.step()
        with torch.no_grad():
            wrong = sum(
                int((model(x).argmax(1) != y).sum()) for x, y in zip(*(t.split(1000) for t in test), strict=True)
            )
        errors.append(100 * wrong / len(test[1]))
    return errors


def main() -> None:
    """Run every learning rate with and without a warm-up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="mnist", help="as adai compare --dataset takes it (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--normalise", action="store_true", help="mean 0 and variance 1 instead of [0, 1]")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = load(options.data, device=torch.device("cpu"))
    train, test = (
        (data.normalised(part.pixels) if options.normalise else part.pixels.float() / 255, part.labels)
        for part in (data.train, data.test)
    )
    rows = []
    for lr in options.lr:
        for warmup in (0, 100):
            runs = [
                test_errors(train, test, lr=lr, warmup=warmup, seed=seed, epochs=options.epochs)
                for seed in range(options.seeds)
            ]
            rows.append({"lr": lr, "warmup_steps": warmup, "test_errors": runs})
            means = "  ".join(f"epoch {i + 1}: {spread(e).mean:5.2f} ± {spread(e).sd:.2f}" for i, e in
                              enumerate(zip(*runs, strict=True)))  # fmt: skip
            print(f"lr {lr:<5g} warm-up {warmup:3d} steps   test error (%)  {means}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        about = {"torch": torch.__version__, "machine": processor(), "threads": torch.get_num_threads()}
        settings = {"batch": BATCH, "normalise": options.normalise}
        options.json.write_text(json.dumps({**about, **settings, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
