"""Makes folders of invented comparisons."""

import json
import math

import numpy as np

from adai.lab.measure.curvature.kept import FlatnessSettings
from adai.lab.measure.curvature.measure import Row
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.measured import Measured

OLD = ("epoch", "train_loss", "test_error", "lr")


def comparison(path, errors, *, epochs=4, seeds=None, columns=None, **config):
    """Write a comparison whose run of each optimizer and seed ends with the given test error.

    Args:
        path: the folder.
        errors: by optimizer, the last test error of each seed; None for a run that never began, nan for one that
            diverged in its second epoch, inf for one that was interrupted after its first.
        epochs: how many.
        seeds: how many were asked for; default as many as there are.
        columns: what the rows hold; default all.
        config: more settings.
    """
    path.mkdir(parents=True, exist_ok=True)
    seeds = seeds or max(len(e) for e in errors.values())
    options = {name: RECIPES[name].options if name in RECIPES else {} for name in errors}
    about = {
        "command": "adai compare --seeds 3",
        "adai": "0.1.0",
        "torch": "2.13.0",
        "python": "3.11",
        "machine": "a CPU",
    }
    settings = {"task": "digits", "model": "smallnet", "epochs": epochs, "batch": 64, "seeds": seeds}
    (path / "config.json").write_text(json.dumps({**settings, "optimizers": options, **about, **config}))
    for number, (name, lasts) in enumerate(errors.items()):
        for seed, last in enumerate(lasts):
            if last is not None:
                rows = [row(name, number, epoch, epochs, last) for epoch in range(1, epochs + 1)]
                rows = rows[: 1 if last == math.inf else 2 if math.isnan(last) else epochs]
                write_rows(path / name / f"seed{seed}", rows, columns)
    return path


def row(name, number, epoch, epochs, last):
    """One epoch: the test error is lowest in the last but one."""
    diverged = math.isnan(last) and epoch > 1
    known = 10.0 if not math.isfinite(last) else last
    over = -0.5 if epoch == epochs - 1 else epochs - epoch
    values = {
        "epoch": epoch,
        "train_loss": None if diverged else (number + 1) / epoch,
        "train_error": 1.0,
        "test_loss": None if diverged else 0.1 * known + 1 / epoch,
        "test_error": 90.0 if diverged else known + over,
        "test_error_top5": 0.1,
        "lr": 0.1 / epoch,
        "seconds": 2.0,
        "images_per_second": 6400.0 * (number + 1),
        "grad_norm": 1.0,
        "optimizer_state_bytes": 1_000_000 * (number + 1),
        "peak_memory_bytes": None,
    }
    if name.startswith("adai"):
        quantiles = np.linspace(0.3, 0.99, 5) + 0.005 * epoch / epochs
        values["v_hat_mean"] = 1e-4
        values |= {f"inertia_{q}": x for q, x in zip(("01", "10", "50", "90", "99"), quantiles.tolist(), strict=True)}
    return values


def write_rows(folder, rows, columns=None):
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{k: v for k, v in row.items() if columns is None or k in columns} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def flatness(path, values, samples=1000, epoch=4):
    """Write the flatness of a comparison's runs, whose every measure is the given value of an optimizer's seeds."""
    for optimizer, of_seeds in values.items():
        for seed, value in enumerate(of_seeds):
            write_kept(path / optimizer / f"seed{seed}", [measurement(epoch, value, samples=samples)])


def measurement(epoch, value, samples=1000, **numbers):
    """One of a run, every number of which is the given value but for those that are named."""
    names = [name for name in Row._fields if name != "parameters"]
    about = {"batch_norm": "running statistics", "samples": samples}
    return Measured(epoch, FlatnessSettings(samples).as_dict(), about, dict.fromkeys(names, value) | numbers)


def write_kept(run, measured):
    (run / "curvature.json").write_text(json.dumps({"measured": [kept.as_dict() for kept in measured]}))
