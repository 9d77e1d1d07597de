"""What Adai's cheaper forms cost in test error: state in two bytes, the mean of the step before, and both.

Each form trains the same nets from the same starts with the same batches, at the settings of the README's first
snippet::

    python benchmarks/cheaper.py --tasks digits mnist cifar10 --seeds 10 --jobs 2 --json benchmarks/results/cheaper.json

The table has the test error over the seeds, and the difference to the exact rule with float32 state, paired over seeds,
with its 95 % interval. Runs are kept in ``--out``: an interrupted call goes on. A later call with other tasks adds its
tasks to the JSON file.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adai import Adai
from adai.lab import compare
from adai.lab.host.machine import processor

TASKS: dict[str, dict[str, Any]] = {
    "digits": {"epochs": 20},
    "mnist": {"epochs": 1},
    "cifar10": {"epochs": 3, "model": "resnet8", "channels_last": True},
}
OPTIONS: dict[str, Any] = {"lr": 1.0, "weight_decay": 5e-4, "min_inertia": 0.9, "warmup_steps": 100}


def exact(model: nn.Module) -> Adai:
    """The rule, with float32 state."""
    return Adai(model.parameters(), **OPTIONS)


def bfloat16_state(model: nn.Module) -> Adai:
    """State in two bytes."""
    return Adai(model.parameters(), **OPTIONS, state_dtype=torch.bfloat16)


def one_pass(model: nn.Module) -> Adai:
    """The mean of the step before."""
    return Adai(model.parameters(), **OPTIONS, mean="previous")


def both(model: nn.Module) -> Adai:
    """State in two bytes, and the mean of the step before."""
    return Adai(model.parameters(), **OPTIONS, state_dtype=torch.bfloat16, mean="previous")


# By name, so that other processes find them.
FORMS = {
    form.__name__.replace("_", "-"): f"{Path(__file__).stem}:{form.__name__}"
    for form in (exact, bfloat16_state, one_pass, both)
}


def measure(task: str, seeds: int, out: Path, device: str, jobs: int) -> list[dict[str, Any]]:
    """A row for each form."""
    result = compare(
        task,
        optimizers=FORMS,
        seeds=seeds,
        folder=out / task,
        device=device,
        jobs=jobs,
        graph=device == "cuda",
        **TASKS[task],
    )
    print(f"{task}: {result.verdict()}")
    rows: list[dict[str, Any]] = json.loads(result.summary("exact").to_json(orient="records"))
    return rows


def main() -> None:
    """Measure, and print a table for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["digits", "mnist"])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/cheaper"), help="where runs are kept")
    parser.add_argument("--json", type=Path, help="where the numbers are written")
    args = parser.parse_args()
    for task in args.tasks:
        rows = measure(task, args.seeds, args.out, args.device, args.jobs)
        for row in rows:
            print(row)
        if args.json:
            kept = json.loads(args.json.read_text()) if args.json.exists() else {}
            machine = processor() if args.device == "cpu" else torch.cuda.get_device_name()
            about = {"machine": machine, "torch": torch.__version__, "seeds": args.seeds}
            kept[task] = {**about, **TASKS[task], "rows": rows}
            args.json.parent.mkdir(parents=True, exist_ok=True)
            args.json.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
