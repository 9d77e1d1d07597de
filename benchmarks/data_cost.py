"""The cost of data in a training step: picking a batch, crops and flips, and normalisation, compared with the network.

Both are measured in turn, batch by batch, in one run, so that other load on the machine affects both equally::

    python benchmarks/data_cost.py --json benchmarks/results/data_cost.json
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from adai.lab.host.machine import about, device_named
from adai.lab.models import build_model
from adai.lab.optimizers.recipes import recipe
from adai.lab.tasks.data import load
from adai.lab.tasks.sources import Tensors


def main() -> None:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="cifar10", help="as for adai train (default: %(default)s)")
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--optimizer", default="adai")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--limit", type=int, help="decode only this number of images")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    device = device_named(options.device)
    data = load(options.dataset, device=device, limit=options.limit)
    channels, size = data.train.pixels.shape[1:3]
    model = build_model(options.model, channels=channels, size=size, classes=data.classes).to(device)
    optimizer = recipe(options.optimizer).build(model.parameters())
    source = Tensors(data.train.pixels, data.train.labels, data.normalised, augment=True)
    draws = torch.Generator().manual_seed(0)

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        optimizer.zero_grad()
        cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    places = [torch.randint(len(source), (options.batch,), generator=draws) for _ in range(options.steps + 1)]
    batches = source.batches(places, draws)
    step(*next(batches))  # the first is not measured
    of_data, of_steps = [], []
    for _ in range(options.steps):
        (inputs, targets), seconds = _timed(lambda: next(batches), device)
        of_data.append(seconds)
        of_steps.append(_timed(partial(step, inputs, targets), device)[1])
    data_ms, step_ms = 1e3 * median(of_data), 1e3 * median(of_steps)
    print(f"data {data_ms:.2f} ms, step {step_ms:.2f} ms a batch of {options.batch}: {100 * data_ms / step_ms:.2f} %")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        numbers = {"data_ms": data_ms, "step_ms": step_ms, "ratio": data_ms / step_ms, "steps": options.steps}
        settings = {"model": options.model, "optimizer": options.optimizer, "batch": options.batch}
        content = {**about(device, "python benchmarks/data_cost.py"), **settings, **numbers}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def _timed(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    began = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, time.perf_counter() - began


if __name__ == "__main__":
    main()
