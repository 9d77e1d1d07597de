"""Peak memory of a training step: gradients that wait for `step`, and gradients that are freed in the backward pass.

Each optimizer trains a chain of wide layers for a few steps in a process of its own. The figure is how far the
process's largest resident memory rises above what it holds before the first step, in bytes for each parameter:
gradients and state, and activations, which are small here. Beside it stands the time of a step, as a ratio to the first
row of the same run::

    python benchmarks/in_backward.py --json benchmarks/results/in_backward.json
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from adai import Adai
from adai.lab.host.machine import processor
from adai.optim import in_backward

BATCH = 8


def _adamw(model: nn.Module) -> Any:
    return torch.optim.AdamW(model.parameters(), fused=True)


def _adamw_in_backward(model: nn.Module) -> Any:
    """As torch's tutorial has it: an optimizer for each parameter, stepped by its hook."""
    optimizers = {id(p): torch.optim.AdamW([p], fused=True) for p in model.parameters()}

    def hook(p: torch.Tensor) -> None:
        optimizers[id(p)].step()
        optimizers[id(p)].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(hook)
    return None


def _adai(model: nn.Module, **options: Any) -> Any:
    return Adai(model.parameters(), lr=0.01, **options)


def _adai_in_backward(model: nn.Module, **options: Any) -> Any:
    optimizer = _adai(model, **options)
    in_backward(optimizer)
    return optimizer


OPTIMIZERS: dict[str, Callable[[nn.Module], Any]] = {
    "AdamW": _adamw,
    "AdamW in backward": _adamw_in_backward,
    "Adai": _adai,
    "Adai in backward": _adai_in_backward,
    "Adai, bfloat16 state": lambda model: _adai(model, state_dtype=torch.bfloat16),
    "Adai in backward, bfloat16 state": lambda model: _adai_in_backward(model, state_dtype=torch.bfloat16),
}


def measure(name: str, width: int, layers: int, steps: int) -> dict[str, float]:
    """Peak memory and time of one optimizer, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers)))
    elements = sum(p.numel() for p in model.parameters())
    optimizer = OPTIMIZERS[name](model)
    before, times = _peak(), []
    for _ in range(steps):
        start = time.perf_counter()
        model(torch.randn(BATCH, width)).square().mean().backward()
        if optimizer is not None:
            optimizer.step()
            optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return {"bytes": (_peak() - before) / elements, "seconds": median(times[1:] or times)}


def _peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    """Measure each optimizer, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=2048, help="of each layer (default %(default)s)")
    parser.add_argument("--layers", type=int, default=12, help="how many (default %(default)s)")
    parser.add_argument("--steps", type=int, default=5, help="of training (default %(default)s)")
    parser.add_argument("--json", type=Path, help="where the numbers are written")
    parser.add_argument("--only", choices=OPTIMIZERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.width, args.layers, args.steps)))
        return
    sizes = [f"--{key}={getattr(args, key)}" for key in ("width", "layers", "steps")]
    rows: list[dict[str, Any]] = []
    print(f"{'optimizer':34}bytes a parameter   time of a step")
    for name in OPTIMIZERS:
        command = [sys.executable, __file__, *sizes, "--only", name]
        # glibc keeps freed memory for itself up to this size, and would hide what has been freed.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        row = json.loads(done.stdout)
        first = rows[0]["seconds"] if rows else row["seconds"]
        rows.append({"optimizer": name, **row, "ratio": row["seconds"] / first})
        print(f"{name:34}{row['bytes']:17.1f}{rows[-1]['ratio']:17.2f}", flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        about = {"torch": torch.__version__, "machine": processor(), "sizes": sizes}
        args.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
