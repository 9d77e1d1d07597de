"""Does training work at the learning rate that `adai lr` suggests? Compares its rule with other candidates.

The script runs a range test with three seeds, then whole runs at the rate of each rule, on three tasks: the digits,
MNIST (6,400 images, batch 64, one epoch) and two moons, a custom task. The rule of `adai lr` gets ``--seeds`` runs, the
other rules and the recipe's own rate ``--others``; the runs use other seeds than the test. A run is dead if it diverged
or ends with more than half of the error of guessing. It prints a table::

    python benchmarks/range_test.py --tasks digits --json benchmarks/results/range_test-digits.json
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import TensorDataset

from adai.files import write_whole
from adai.lab.host.machine import processor
from adai.lab.host.ranks import Ranks
from adai.lab.measure.range_test.of_run import find_lr_of_run
from adai.lab.measure.range_test.result import FIRST, RangeTest
from adai.lab.optimizers.recipes import recipe
from adai.lab.results.stats import spread
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.tasks.task import Task
from adai.lab.training.learner import Learner

FIRST_SEED = 1000  # of the runs; the range test has seeds 0 to 2
CPU = torch.device("cpu")


def moons() -> Task:
    """The two moons, with a net of one hidden layer."""

    def points(count: int, seed: int) -> TensorDataset:
        x, y = make_moons(count, noise=0.2, random_state=seed)
        return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y))

    return Task(
        nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 2)), train=points(1000, 0), test=points(500, 1)
    )


class Kind(NamedTuple):
    """A task: its settings, and the error of guessing in percent."""

    task: str
    settings: dict[str, Any]
    guessing: float


TASKS = {
    "digits": Kind("digits", {}, 90),
    "mnist": Kind("mnist", {"limit": 6400, "batch": 64, "epochs": 1}, 90),
    "moons": Kind("range_test:moons", {"epochs": 15}, 50),
}


def _steepest(test: RangeTest) -> float:
    """The rate at which the median falls fastest in the logarithm of the rate, before its lowest value.

    The first steps are left out, because their running mean is over few losses.
    """
    median, _, _ = test.over_seeds()
    first = 2 * FIRST
    return float(test.rates[first + np.argmin(np.gradient(median[first : int(np.argmin(median)) + 1]))])


# The rate of each rule; None if the rule gives none.
WITH_WARM_UP, WITHOUT = "suggested", "suggested, no warm-up"
OTHERS: dict[str, Callable[[RangeTest], float]] = {
    "steepest descent": _steepest,
    "lowest loss / 10": lambda test: test.at_lowest / 10,
    "lowest loss / 2": lambda test: test.at_lowest / 2,
    "lowest blow-up / 4": lambda test: float(test.blow_ups.min()) / 4,
    "lowest blow-up / 2": lambda test: float(test.blow_ups.min()) / 2,
    "median blow-up / 4": lambda test: test.blow_up / 4,
}


def final_error(settings: Settings, factory: Callable[[], Task]) -> float:
    """Test error in percent after the last epoch; nan if the run diverged."""
    learner = Learner(settings, factory, CPU, Ranks())
    for epoch in range(settings.epochs):
        row = learner.epoch(epoch)
        if not math.isfinite(row["train_loss"] or 0):
            return math.nan
    return float(row["test_error"] or 0)


def row_of(kind: Kind, optimizer: str, rule: str, lr: float, seeds: int) -> dict[str, Any]:
    """Train this number of runs at this rate."""
    given = {**kind.settings, **({"warmup_steps": 0} if "no warm-up" in rule else {})}
    settings = [
        Settings.of(kind.task, optimizer=optimizer, lr=lr, seed=FIRST_SEED + number, **given) for number in range(seeds)
    ]
    factory = named_task(settings[0], CPU, None)
    errors = [final_error(one, factory) for one in settings]
    dead = [not error <= kind.guessing / 2 for error in errors]
    return {"optimizer": optimizer, "rule": rule, "lr": lr, "errors": errors, "dead": sum(dead)}


def line(row: dict[str, Any]) -> str:
    """The row as text; the error is that of the runs that are not dead."""
    alive = sorted(row["errors"], key=lambda error: (math.isnan(error), error))[: len(row["errors"]) - row["dead"]]
    error = spread(alive)
    return (
        f"| {recipe(row['optimizer']).label} | {row['rule']} | {row['lr']:.3g} | {row['dead']} of {len(row['errors'])} "
        f"| {error.mean:.2f} ± {error.sd:.2f} |"
    )


def heading(task: str) -> str:
    """The text above the rows of a task."""
    return f"\n## {task}\n\n| optimizer | rule | lr | dead | test error (%) |\n|---|---|---|---|---|"


def save(path: Path, found: dict[str, Any]) -> None:
    """Write the results so far."""
    write_whole(path, lambda part: part.write_text(json.dumps(found, indent=1) + "\n"))


def main() -> None:
    """Run the range tests and the training runs, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--optimizers", nargs="+", default=["adai-paper", "sgd", "adamw"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--others", type=int, default=5)
    parser.add_argument("--rules", nargs="+", metavar="RULE", help="only these, as the table names them (default: all)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--show", type=Path, nargs="+", metavar="FILE", help="only print the tables in these files")
    options = parser.parse_args()
    for file in options.show or ():
        found = json.loads(file.read_text())
        print("\n".join([heading(found["task"]), *map(line, found["rows"])]))
    if options.show:
        return
    about = {"torch": torch.__version__, "machine": processor(), "threads": torch.get_num_threads()}
    for task in options.tasks:
        kind, table, tests = TASKS[task], [], {}
        print(heading(task), flush=True)
        for optimizer in options.optimizers:
            chosen = Settings.of(kind.task, optimizer=optimizer, **kind.settings)
            test = find_lr_of_run(chosen)
            tests[optimizer] = {"blow_ups": test.blow_ups.tolist(), "limit": test.limit}
            rates = [
                (WITH_WARM_UP, test.suggested, options.seeds),
                ("recipe", chosen.options["lr"], options.others),
                *((rule, rate(test), options.others) for rule, rate in OTHERS.items()),
                (WITHOUT, test.suggested_without_warm_up, options.seeds),
                (f"{WITH_WARM_UP}, but no warm-up", test.suggested, options.others),
            ]
            for rule, lr, seeds in rates:
                if lr is None or not seeds or (options.rules and rule not in options.rules):
                    continue
                table.append(row_of(kind, optimizer, rule, lr, seeds))
                print(line(table[-1]), flush=True)
                if options.json:
                    save(options.json, {**about, "task": task, "tests": tests, "rows": table})


if __name__ == "__main__":
    main()
