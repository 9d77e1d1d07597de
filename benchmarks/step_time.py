"""Time of one optimizer step, side by side: Adai's engines, torch.optim's, and plain for-loops.

Every repetition runs all contenders once, one after the other, so that whatever else the machine does hits all of them
alike; a ratio is the median over repetitions of the ratio to fused AdamW. Prints a table per set of shapes and writes
everything as JSON::

    python benchmarks/step_time.py --json benchmarks/results/step_time.json

pytorch-optimizer's Adai is measured where it can be imported. The bandwidth is the bytes that the step has to move,
counted per contender, over its median time; "copy" is what ``Tensor.copy_`` reaches on a large tensor.
"""

import argparse
import importlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai import Adai, AdaiW
from adai.optim.cpu import library

BASELINE = "AdamW fused"


class Contender(NamedTuple):
    """One optimizer in one state; ``traffic`` is bytes moved per parameter if every pass misses the caches."""

    step: Callable[[], Any]
    traffic: int | None = None
    state: Callable[[], int] | None = None


def resnet18() -> list[tuple[int, ...]]:
    """Shapes of ResNet-18 in its CIFAR form: 62 tensors, 11.17 M parameters."""
    shapes: list[tuple[int, ...]] = [(64, 3, 3, 3), (64,), (64,)]
    before = 64
    for width in (64, 128, 256, 512):
        for _ in range(2):
            shapes += [(width, before, 3, 3), (width,), (width,), (width, width, 3, 3), (width,), (width,)]
            if before != width:
                shapes += [(width, before, 1, 1), (width,), (width,)]
            before = width
    return [*shapes, (10, 512), (10,)]


SHAPES: dict[str, list[tuple[int, ...]]] = {
    "resnet18": resnet18(),
    "small": [(64,), (128,), (16, 3, 3, 3), (64, 10), (256,)] * 100,
    "large": [(100_000_000,)],
}


def parameters(shapes: list[tuple[int, ...]]) -> list[Tensor]:
    """Parameters with gradients."""
    rng = torch.Generator().manual_seed(0)
    params = [torch.randn(shape, generator=rng).requires_grad_() for shape in shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=rng) * 0.01
    return params


def for_loop(params: list[Tensor]) -> Callable[[], None]:
    """Algorithm 2 line by line with one torch operator after the other, as one would write it down from the paper."""
    lr, beta0, beta2, eps = 0.1, 0.1, 0.99, 1e-3
    state = [(torch.zeros_like(p), torch.zeros_like(p), torch.ones_like(p)) for p in params]
    t = 0

    @torch.no_grad()
    def step() -> None:
        nonlocal t
        t += 1
        total = torch.zeros(())
        for p, (_, v, _) in zip(params, state, strict=True):
            if p.grad is not None:
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                total += (v / (1 - beta2**t)).sum()
        mean = total / sum(p.numel() for p in params)
        for p, (m, v, prod) in zip(params, state, strict=True):
            if p.grad is not None:
                mu = (1 - v / (1 - beta2**t) / mean * beta0).clamp(0, 1 - eps)
                m.mul_(mu).addcmul_(1 - mu, p.grad)
                prod.mul_(mu)
                p.sub_(lr * m / (1 - prod))

    return step


def of_class(cls: Any, shapes: list[tuple[int, ...]], traffic: int | None = None, **options: Any) -> Contender:
    """A contender that is an optimizer, after its first step."""
    optimizer = cls(parameters(shapes), lr=1e-4, **options)
    optimizer.step()
    return Contender(optimizer.step, traffic, lambda: state_bytes(optimizer))


def settled(cls: Any, shapes: list[tuple[int, ...]], traffic: int | None = None, **options: Any) -> Contender:
    """The same after so many steps that the bias correction is dropped."""
    optimizer = cls(parameters(shapes), lr=1e-4, **options)
    optimizer.step()
    for state in optimizer.state.values():
        state["step"].fill_(20_000)
        state["bias_correction"].fill_(1)
    optimizer.step()
    return Contender(optimizer.step, traffic, lambda: state_bytes(optimizer))


def clipped_adamw(shapes: list[tuple[int, ...]], max_norm: float) -> Contender:
    """Fused AdamW behind clip_grad_norm_, which scales gradients that are already short enough by 1."""
    params = parameters(shapes)
    optimizer = torch.optim.AdamW(params, lr=1e-4, fused=True)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(params, max_norm)
        optimizer.step()

    step()
    return Contender(step, 40, lambda: state_bytes(optimizer))


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all state tensors with more than two elements."""
    tensors = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors if t.numel() > 2)


def contenders(shapes: list[tuple[int, ...]], *, core: bool) -> dict[str, Callable[[], Contender]]:
    """Everybody, by name; ``core`` leaves out whoever does not fit into memory or time at large sizes."""
    sgd, adamw = torch.optim.SGD, torch.optim.AdamW
    all_of_them: dict[str, Callable[[], Contender]] = {
        BASELINE: lambda: of_class(adamw, shapes, 28, fused=True),
        "Adai fused": lambda: of_class(Adai, shapes, 40, fused=True),
        "Adai fused, settled": lambda: settled(Adai, shapes, 32, fused=True),
    }
    if core:
        return all_of_them
    all_of_them |= {
        "Adai fused, clipping, settled": lambda: settled(Adai, shapes, 32, fused=True, max_grad_norm=1.0),
        "AdamW fused behind clip_grad_norm_": lambda: clipped_adamw(shapes, 1.0),
        "Adai fused, L2": lambda: of_class(Adai, shapes, 44, fused=True, weight_decay=5e-4),
        "AdaiW fused": lambda: of_class(AdaiW, shapes, 40, fused=True),
        "AdaiW fused, settled": lambda: settled(AdaiW, shapes, 32, fused=True),
        "Adai foreach": lambda: of_class(Adai, shapes, foreach=True),
        "Adai foreach, settled": lambda: settled(Adai, shapes, foreach=True),
        "Adai for-loop": lambda: of_class(Adai, shapes, foreach=False),
        "Adai for-loop, settled": lambda: settled(Adai, shapes, foreach=False),
        "Algorithm 2 as a for-loop": lambda: Contender(for_loop(parameters(shapes))),
        "AdamW foreach": lambda: of_class(adamw, shapes, foreach=True),
        "AdamW for-loop": lambda: of_class(adamw, shapes, foreach=False),
        "SGD momentum fused": lambda: of_class(sgd, shapes, 20, momentum=0.9, fused=True),
        "SGD momentum foreach": lambda: of_class(sgd, shapes, momentum=0.9, foreach=True),
        "SGD momentum for-loop": lambda: of_class(sgd, shapes, momentum=0.9, foreach=False),
    }
    try:
        other = importlib.import_module("pytorch_optimizer").Adai
    except ImportError:
        return all_of_them
    return all_of_them | {"pytorch-optimizer's Adai": lambda: of_class(other, shapes)}


def copy_bandwidth() -> float:
    """Bytes per second, read and written, of copying 256 MiB; the best of several."""
    a = torch.ones(2**26)
    b = torch.empty_like(a)
    b.copy_(a)
    return 2 * a.numel() * a.element_size() / min(clock(lambda: b.copy_(a)) for _ in range(10))


def clock(step: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(shapes: list[tuple[int, ...]], repetitions: int, *, core: bool) -> list[dict[str, Any]]:
    """One row per contender."""
    field = {name: make() for name, make in contenders(shapes, core=core).items()}
    for contender in field.values():
        contender.step()
    times: dict[str, list[float]] = {name: [] for name in field}
    for _ in range(repetitions):
        for name, contender in field.items():
            times[name].append(clock(contender.step))
    elements = sum(torch.Size(shape).numel() for shape in shapes)
    rows = []
    for name, contender in field.items():
        ratios = [a / b for a, b in zip(times[name], times[BASELINE], strict=True)]
        low, _, high = quantiles(times[name], n=4)
        middle = median(times[name])
        rows.append(
            {
                "name": name,
                "ms": 1e3 * middle,
                "ms_quartiles": [1e3 * low, 1e3 * high],
                "ms_min": 1e3 * min(times[name]),
                "ratio": median(ratios),
                "ratio_of_min": min(times[name]) / min(times[BASELINE]),
                "bytes_per_parameter": contender.traffic,
                "gb_per_s": contender.traffic * elements / middle / 1e9 if contender.traffic else None,
                "state_bytes_per_parameter": contender.state() / elements if contender.state else None,
            }
        )
    return rows


def show(name: str, shapes: list[tuple[int, ...]], rows: list[dict[str, Any]]) -> None:
    """Print the table of one set of shapes."""
    elements = sum(torch.Size(shape).numel() for shape in shapes)
    print(f"\n{name}: {len(shapes)} tensors, {elements / 1e6:.2f} M parameters, float32")
    print(f"{'':36}{'ms':>8}{'quartiles':>18}{'min':>8}{'ratio':>7}{'of min':>8}{'B/par':>7}{'GB/s':>6}{'state':>7}")
    for row in rows:
        low, high = row["ms_quartiles"]
        moved = f"{row['bytes_per_parameter'] or '':>7}{format(row['gb_per_s'], '6.1f') if row['gb_per_s'] else '':>6}"
        state = row["state_bytes_per_parameter"]
        print(
            f"{row['name']:36}{row['ms']:8.2f}{f'{low:.2f} to {high:.2f}':>18}{row['ms_min']:8.2f}{row['ratio']:7.2f}"
            f"{row['ratio_of_min']:8.2f}{moved}{'' if state is None else f'{state:7.1f}'}",
            flush=True,
        )


def cpu_name() -> str:
    """The processor's name, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Measure every set of shapes that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--repetitions", type=int, default=40, help="a tenth of them for the large tensor")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    about = {
        "torch": torch.__version__,
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "instructions": library.best_variant(),
        "load_average": os.getloadavg()[0],
        "copy_gb_per_s": copy_bandwidth() / 1e9,
        "repetitions": options.repetitions,
    }
    print(
        ", ".join(
            f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in about.items()
        )
    )
    results = {}
    for name in options.shapes:
        large = name == "large"
        repetitions = max(5, options.repetitions // 10) if large else options.repetitions
        results[name] = measure(SHAPES[name], repetitions, core=large)
        show(name, SHAPES[name], results[name])
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
