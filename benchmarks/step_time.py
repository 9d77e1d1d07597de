"""Time of one optimizer step, side by side: Adai's engines, torch.optim's, and plain for-loops.

Every repetition runs all contenders once, one after the other, so that other load on the machine affects all of them
equally; a ratio is the median over repetitions of the ratio to fused AdamW. The script prints a table per set of shapes
and writes everything as JSON::

    python benchmarks/step_time.py --json benchmarks/results/step_time.json
    python benchmarks/step_time.py --device cuda --json benchmarks/results/step_time-cuda.json

On a GPU a time runs from an idle device to an idle device, so it includes the time that the host needs to launch the
work; a last line says whether a CUDA graph of the step gives the same result as eager steps. pytorch-optimizer's Adai
is measured if it can be imported. The bandwidth is the bytes that the step has to move, counted per contender, over its
median time; "copy" is the bandwidth of ``Tensor.copy_`` on a large tensor.
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from contenders import BASELINE, CORE, ON_GPUS, SHAPES, Contender, Load, contenders, parameters

from adai import Adai
from adai.lab.host.machine import processor
from adai.optim.engines.cpu import library


def copy_bandwidth(device: str) -> float:
    """Bytes per second, read and written, of copying 256 MiB, or 2 GiB on a GPU; the best of several."""
    a = torch.ones(2**26 if device == "cpu" else 2**29, device=device)
    b = torch.empty_like(a)
    b.copy_(a)
    return 2 * a.numel() * a.element_size() / min(clock(lambda: b.copy_(a), device) for _ in range(10))


def clock(step: Callable[[], Any], device: str) -> float:
    """Seconds that a call takes, until the device has finished."""
    wait(device)
    start = time.perf_counter()
    step()
    wait(device)
    return time.perf_counter() - start


def wait(device: str) -> None:
    """Wait until the device has finished all work."""
    if device == "cuda":
        torch.cuda.synchronize()


def measure(load: Load, repetitions: int, *, core: bool) -> list[dict[str, Any]]:
    """One row per contender. At large sizes a GPU has no memory for all of them: two at a time, beside the baseline."""
    make = contenders(load, core=core)
    others = [name for name in make if name != BASELINE]
    together = 2 if core and load.device == "cuda" else len(others)
    rows: dict[str, dict[str, Any]] = {}
    for i in range(0, len(others), together):
        field = {name: make[name]() for name in (BASELINE, *others[i : i + together])}
        rows = {row["name"]: row for row in measure_together(field, load, repetitions)} | rows
        del field
        gc.collect()
    return [rows[name] for name in make]


def measure_together(field: dict[str, Contender], load: Load, repetitions: int) -> list[dict[str, Any]]:
    """One row per contender, all of which take turns."""
    for contender in field.values():
        contender.step()
    times: dict[str, list[float]] = {name: [] for name in field}
    for _ in range(repetitions):
        for name, contender in field.items():
            times[name].append(clock(contender.step, load.device))
    elements = load.elements
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


def show(name: str, load: Load, rows: list[dict[str, Any]]) -> None:
    """Print the table of one set of shapes."""
    print(f"\n{name}: {len(load.shapes)} tensors, {load.elements / 1e6:.2f} M parameters, float32")
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


def replays_as_eager(load: Load, steps: int = 5) -> bool:
    """Whether a CUDA graph of the step leaves the same parameters, bit for bit, as steps without one."""
    results = []
    for captured in (True, False):
        params = parameters(load)
        optimizer = Adai(params, lr=1e-2, weight_decay=5e-4, max_grad_norm=1.0, capturable=True)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            optimizer.step()
        torch.cuda.current_stream().wait_stream(side)
        step: Callable[[], Any] = optimizer.step
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            step = graph.replay
        for t in range(steps):
            for p in params:
                assert p.grad is not None
                p.grad.mul_(1 - 0.1 * t)
            step()
        results.append(params)
    return all(torch.equal(p, q) for p, q in zip(*results, strict=True))


def about(device: str, repetitions: int) -> dict[str, Any]:
    """The machine and versions of the measurement."""
    own: dict[str, Any] = {"instructions": library.best_variant()}
    if device == "cuda":
        own = {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
        try:
            own["triton"] = version("triton")
        except PackageNotFoundError:
            own["triton"] = None
    return {
        "torch": torch.__version__,
        "cpu": processor(),
        "threads": torch.get_num_threads(),
        **own,
        "load_average": os.getloadavg()[0],
        "copy_gb_per_s": copy_bandwidth(device) / 1e9,
        "repetitions": repetitions,
    }


def main() -> None:
    """Measure every requested set of shapes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--shapes", nargs="+", choices=SHAPES, help="default: all, on a CPU without a billion parameters"
    )
    parser.add_argument("--repetitions", type=int, default=40, help="a tenth of them for large sets of shapes")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = options.device
    if device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here; leave it out to measure on the CPU")
    machine = about(device, options.repetitions)
    numbers = (f"{key} {value:.1f}" if isinstance(value, float) else f"{key} {value}" for key, value in machine.items())
    print(", ".join(numbers))
    results = {}
    for name in options.shapes or [name for name in SHAPES if device == "cuda" or name not in ON_GPUS]:
        core, load = name in CORE, Load(SHAPES[name], device)
        repetitions = max(5, options.repetitions // 10) if core else options.repetitions
        results[name] = measure(load, repetitions, core=core)
        show(name, load, results[name])
    if device == "cuda":
        machine["graph_replays_as_eager"] = replays_as_eager(Load(SHAPES["resnet18"], device))
        print(f"\nA CUDA graph replays what eager steps do: {machine['graph_replays_as_eager']}")
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
