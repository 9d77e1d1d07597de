"""How often does training blow up? Learning rate × floor under the inertia × warm-up, beside other optimizers.

Every run is what the lab runs (`adai.lab.training.learner.Learner`), on one of three tasks: the digits (smallnet, the
lab's defaults), and MNIST (20,000 training and 4,000 test images, one epoch, batch 128) with the lab's convnet and with
a net without batch norm. Images are kept as (N, H, W, C). A run blew up where it diverged or did not learn, as
`adai.lab.results.outcome` defines them.

The runs are a queue: seed 0 of every cell of every task, then seed 1, and so on. Each run that is done is a line in
``runs.jsonl``, so the same command goes on after an interruption, and a run that was under way is the only one lost. No
checkpoints are kept. Run it for as long as there is time, then draw::

    python benchmarks/blow_up.py --jobs 2 --limit-seconds 3600
    python benchmarks/blow_up.py --draw
"""

import argparse
import json
import math
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from scipy.stats import binomtest
from torch import nn

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.host.machine import processor
from adai.lab.host.processes import end_with_parent
from adai.lab.host.ranks import Ranks
from adai.lab.optimizers.recipes import recipe
from adai.lab.results.learning_rates import Tried
from adai.lab.results.outcome import DIED, Start, outcome
from adai.lab.results.run import Row, finite
from adai.lab.results.stats import Difference, paired_difference, spread
from adai.lab.settings import Settings
from adai.lab.tasks.data import Dataset, load
from adai.lab.tasks.named import named_task
from adai.lab.tasks.task import Factory, Task, image_task
from adai.lab.training.learner import Learner
from adai.report.learning_rates import draw as draw_rates
from adai.report.learning_rates import end_keys
from adai.report.picture import RC
from adai.report.style import style
from adai.report.tables import as_markdown

CPU = torch.device("cpu")
OUT = Path("results/stability")

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)  # on each recipe's own learning rate, which is 1 for Adai
FLOORS = (0.0, 0.3, 0.5, 0.7, 0.85, 0.9)
WARM_UPS = (0, 100)
OTHERS = ("sgd", "ema", "adamw")


@cache
def mnist() -> Dataset:
    """20,000 training and 4,000 test images."""
    whole = load("mnist", device=CPU)
    return whole._replace(train=whole.train.few(20_000), test=whole.test.few(4_000))


def mnist_convnet() -> Task:
    """The lab's convnet."""
    return image_task(mnist(), "convnet", augment=False)()


def mnist_plain() -> Task:
    """Two 5 x 5 convolutions with max pooling and a linear layer, without batch norm."""
    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 10),
    )  # fmt: skip
    return mnist_convnet()._replace(model=model)


class Kind(NamedTuple):
    """A task: its name in words, what `Settings.of` takes, what makes it (None: what the settings name), and seeds."""

    title: str
    task: str
    settings: dict[str, Any]
    factory: Factory | None
    seeds: int


_FAST = {"channels_last": True}  # a third less time for the same arithmetic
_ONE_EPOCH = {"epochs": 1, "batch": 128, **_FAST}
TASKS = {
    "digits": Kind("digits, smallnet", "digits", _FAST, None, 30),
    "mnist": Kind("MNIST, convnet", "blow_up:mnist_convnet", _ONE_EPOCH, mnist_convnet, 10),
    "mnist-plain": Kind("MNIST, no batch norm", "blow_up:mnist_plain", _ONE_EPOCH, mnist_plain, 10),
}


class Cell(NamedTuple):
    """What is run over several seeds; the floor is None where the optimizer is not Adai."""

    task: str
    optimizer: str
    factor: float
    min_inertia: float | None
    warmup_steps: int


class Unit(NamedTuple):
    """One run."""

    cell: Cell
    seed: int


def cells(task: str) -> Iterator[Cell]:
    """All cells of a task, from the recipe's own rate outwards."""
    for factor in sorted(FACTORS, key=lambda factor: abs(math.log(factor))):
        for warmup in WARM_UPS:
            for floor in FLOORS:
                yield Cell(task, "adai", factor, floor, warmup)
            for name in OTHERS:
                yield Cell(task, name, factor, None, warmup)


def queue(tasks: Sequence[str], seeds: int | None = None) -> list[Unit]:
    """All runs: seed 0 of every cell, then seed 1, …; the tasks by turns, so that each has its share at any time."""
    most = {task: TASKS[task].seeds if seeds is None else seeds for task in tasks}
    return [
        Unit(cell, seed)
        for seed in range(max(most.values()))
        for of_tasks in zip(*(cells(task) for task in tasks), strict=True)
        for cell in of_tasks
        if seed < most[cell.task]
    ]


def settings_of(unit: Unit) -> Settings:
    """What decides the run's results."""
    cell, kind = unit.cell, TASKS[unit.cell.task]
    options = {} if cell.min_inertia is None else {"min_inertia": cell.min_inertia}
    return Settings.of(
        kind.task,
        optimizer=cell.optimizer,
        lr=float(f"{recipe(cell.optimizer).options['lr'] * cell.factor:.12g}"),  # 0.1 · 3 is 0.3
        options=options,
        seed=unit.seed,
        warmup_steps=cell.warmup_steps,
        **kind.settings,
    )


def run(unit: Unit) -> dict[str, Any]:
    """Train, as far as the loss is finite; what became of it, and its last epoch."""
    began = time.monotonic()
    settings = settings_of(unit)
    factory = TASKS[unit.cell.task].factory or named_task(settings, CPU, None)
    learner = Learner(settings, factory, CPU, Ranks())
    before = finite(learner.start())
    start = Start(**{name: before[name] for name in Start._fields})
    rows: list[Row] = []
    while len(rows) < settings.epochs and (not rows or rows[-1]["train_loss"] is not None):
        rows.append(finite(learner.epoch(len(rows))))
    last = rows[-1]
    return {
        **unit.cell._asdict(),
        "seed": unit.seed,
        "lr": settings.options["lr"],
        "status": outcome(rows, settings.epochs, start),
        "epochs": len(rows),
        **{name: last[name] for name in ("test_error", "test_loss", "train_loss")},
        "seconds": round(time.monotonic() - began, 2),
    }


# --- the queue --------------------------------------------------------------------------------------------------------


def read(file: Path) -> dict[Unit, dict[str, Any]]:
    """What has been done. A last line that was cut off is not; of a run that was done twice the first counts."""
    done: dict[Unit, dict[str, Any]] = {}
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    for line in lines:
        if line.endswith("\n"):
            row = json.loads(line)
            done.setdefault(Unit(Cell(*(row[name] for name in Cell._fields)), row["seed"]), row)
    return done


def append(file: Path, row: Mapping[str, Any]) -> None:
    """Add a line by one write to the end of the file, so that several processes may; on disk when this returns."""
    line = json.dumps(row, allow_nan=False) + "\n"
    end = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(end, line.encode())
        os.fsync(end)
    finally:
        os.close(end)


def mend(file: Path) -> None:
    """Take away a last line that was cut off, so that the next does not go on behind it."""
    if file.exists() and (content := file.read_bytes()) and not content.endswith(b"\n"):
        write_whole(file, lambda part: part.write_bytes(content[: content.rfind(b"\n") + 1]))


def carry_out(units: Sequence[Unit], file: Path, *, jobs: int, limit: float, about: Mapping[str, Any]) -> None:
    """Do these runs, and begin none after so many seconds. Ctrl-C ends at once, and loses the runs under way."""
    began, waiting, finished = time.monotonic(), list(reversed(units)), 0
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin)
    under_way: set[Future[dict[str, Any]]] = set()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < jobs and time.monotonic() - began < limit:
                under_way.add(pool.submit(run, waiting.pop()))
            if not under_way:
                break
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                row = {**future.result(), **about}
                append(file, row)
                finished += 1
                each = (time.monotonic() - began) / finished
                left = each * (len(units) - finished)
                print(f"{finished} of {len(units)} runs, {_line(row)}; {left / 60:.0f} min left for all", flush=True)
    finally:
        pool.shutdown(wait=not under_way, cancel_futures=True)
        for process in list((getattr(pool, "_processes", None) or {}).values()) if under_way else []:
            process.terminate()


def _begin() -> None:
    """A process of the pool: one thread, since these nets are small, and it ends with the one that started it."""
    end_with_parent()
    torch.set_num_threads(1)


def _line(row: Mapping[str, Any]) -> str:
    floor = "" if row["min_inertia"] is None else f", floor {row['min_inertia']:g}"
    error = "" if row["test_error"] is None else f", test error {row['test_error']:.2f} %"
    warm_up = f"warm-up {row['warmup_steps']}"
    return f"{row['task']}, {row['optimizer']} × {row['factor']:g}{floor}, {warm_up}, seed {row['seed']}{error}"


def commit() -> str:
    """Of the working tree; with ``-dirty`` where what is run was changed since."""

    def git(*asked: str) -> str:
        root = Path(__file__).parents[1]
        return subprocess.run(["git", *asked], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    dirty = git("status", "--porcelain", "--untracked-files=no", "--", "adai", "benchmarks/blow_up.py")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("-dirty" if dirty else "")


# --- what it comes to -------------------------------------------------------------------------------------------------


class Rate(NamedTuple):
    """How often runs blew up: a share with Wilson's 95 % interval."""

    dead: int
    runs: int

    @property
    def interval(self) -> tuple[float, float]:
        """In percent."""
        found = binomtest(self.dead, self.runs).proportion_ci(method="wilson")
        return 100 * found.low, 100 * found.high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.dead} of {self.runs} ({low:.0f} to {high:.0f} %)"


Found = dict[Cell, list[dict[str, Any]]]


def by_cell(rows: Iterable[Mapping[str, Any]]) -> Found:
    """The runs of each cell."""
    found: Found = {}
    for row in rows:
        found.setdefault(Cell(*(row[name] for name in Cell._fields)), []).append(dict(row))
    return found


def rate(rows: Sequence[Mapping[str, Any]]) -> Rate:
    """How many of them blew up."""
    return Rate(len(ends(rows)), len(rows))


def ends(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What became of those that blew up."""
    return [row["status"] for row in rows if row["status"] in DIED]


def errors(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """The test errors of those that did not."""
    return [row["test_error"] for row in rows if row["status"] not in DIED]


class Line(NamedTuple):
    """A line of the figure of sensitivity: an optimizer, or Adai with a floor."""

    label: str
    style: str
    optimizer: str
    min_inertia: float | None


LINES = (
    Line("Adai, no floor", "adai-paper", "adai", 0.0),
    Line("Adai, floor 0.9", "adai", "adai", 0.9),
    *(Line(recipe(name).label, name, name, None) for name in OTHERS),
)


def heat_maps(found: Found, tasks: Sequence[str]) -> Figure:
    """The blow-up rate of Adai over rate and floor, a row a task, without and with a warm-up."""
    figure = Figure(figsize=(9.2, 0.6 + 3.1 * len(tasks)), layout="constrained")
    axes = figure.subplots(len(tasks), len(WARM_UPS), squeeze=False)
    images = [
        _heat_map(ax, found, task, warmup)
        for row, task in zip(axes, tasks, strict=True)
        for ax, warmup in zip(row, WARM_UPS, strict=True)
    ]
    figure.colorbar(images[0], ax=axes, label="runs that blew up (%)", shrink=0.6)
    return figure


def _heat_map(ax: Axes, found: Found, task: str, warmup: int) -> AxesImage:
    shares = np.full((len(FLOORS), len(FACTORS)), np.nan)
    for y, floor in enumerate(FLOORS):
        for x, factor in enumerate(FACTORS):
            rows = found.get(Cell(task, "adai", factor, floor, warmup), [])
            if rows:
                of = rate(rows)
                shares[y, x] = 100 * of.dead / of.runs
            said, light = (f"{of.dead}/{of.runs}", shares[y, x] < 55) if rows else ("–", True)
            ax.text(x, y, said, ha="center", va="center", fontsize=9, color="#22211f" if light else "#ffffff")
    image = ax.imshow(shares, origin="lower", aspect="auto", vmin=0, vmax=100, cmap="Oranges")
    ax.grid(visible=False)
    ax.set_xticks(range(len(FACTORS)), [f"{factor:g}" for factor in FACTORS])
    ax.set_yticks(range(len(FLOORS)), [f"{floor:g}" for floor in FLOORS])
    title = f"{TASKS[task].title}, {_warmed(warmup)}"
    ax.set(xlabel="learning rate", ylabel="floor under the inertia", title=title)
    ax.title.set_fontsize(10)
    return image


def sensitivity(found: Found, tasks: Sequence[str]) -> Figure:
    """Test error against the rate, a line an optimizer, and above it how many runs blew up, at their rate."""
    figure = Figure(figsize=(9.2, 0.9 + 3.5 * len(tasks)), layout="constrained")
    axes = figure.subplots(len(tasks), len(WARM_UPS), squeeze=False)
    for row, task in zip(axes, tasks, strict=True):
        for ax, warmup in zip(row, WARM_UPS, strict=True):
            _sensitivity(ax, found, task, warmup)
        row[0].set_ylabel("test error (%)")
    keys = []
    for line in LINES:
        look = style(line.style)
        key = Line2D([], [], color=look.light, marker=look.marker, ms=5, lw=1.6, label=line.label)
        key.set_dashes(look.dashes)
        keys.append(key)
    keys += end_keys({*DIED})
    figure.legend(handles=keys, loc="outside lower center", ncols=3, handlelength=2.8)
    return figure


def _sensitivity(ax: Axes, found: Found, task: str, warmup: int) -> None:
    tried = {}
    for line in LINES:
        at = {f: found.get(Cell(task, line.optimizer, f, line.min_inertia, warmup), []) for f in FACTORS}
        tried[line.style] = {f: Tried(errors(rows), ends(rows), len(rows)) for f, rows in at.items() if rows}
    draw_rates(ax, tried, FACTORS)
    if not any(tried.values()):
        ax.set_yticks([])
        ax.text(0.5, 0.5, "not run yet", transform=ax.transAxes, ha="center")
    ax.set(xlabel="factor on the recipe's learning rate")
    title = f"{TASKS[task].title}, {_warmed(warmup)}"
    ax.set_title(title, fontsize=10, pad=50)


def tables(found: Found, task: str) -> str:
    """Blow-ups and test error of every cell that has a run, a table for each warm-up."""
    text = []
    for warmup in WARM_UPS:
        rows = []
        for cell in _lines_of(task, warmup):
            at = [found.get(cell._replace(factor=factor), []) for factor in FACTORS]
            if any(at):
                rows.append([_label(cell), *(_cell(of) for of in at)])
        if rows:
            text.append(f"\n{_warmed(warmup).capitalize()}:\n")
            text.append(as_markdown(["optimizer", *(f"× {factor:g}" for factor in FACTORS)], rows).rstrip())
    return "\n".join(text)


def _lines_of(task: str, warmup: int) -> list[Cell]:
    return [cell for cell in cells(task) if (cell.warmup_steps, cell.factor) == (warmup, 1.0)]


def _label(cell: Cell) -> str:
    label = recipe(cell.optimizer).label
    return label if cell.min_inertia is None else f"{label}, floor {cell.min_inertia:g}"


def _cell(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "–"
    alive = spread(errors(rows))
    error = (
        "" if math.isnan(alive.mean) else f"; {alive.mean:.2f}" + ("" if math.isnan(alive.sd) else f" ± {alive.sd:.2f}")
    )
    return f"{rate(rows)}{error}"


def at_recipes_rates(found: Found) -> str:
    """How many runs of all tasks blew up at the recipes' learning rates, a row an optimizer."""
    rows = []
    for of in _lines_of(next(iter(TASKS)), 0):
        runs = [
            [row for task in TASKS for row in found.get(of._replace(task=task, warmup_steps=warmup), [])]
            for warmup in WARM_UPS
        ]
        if all(runs):
            rows.append([_label(of), *(str(rate(some)) for some in runs)])
    return as_markdown(["optimizer", *(_warmed(warmup) for warmup in WARM_UPS)], rows)


class Chosen(NamedTuple):
    """The setting with the lowest error on half of the seeds, and its errors on the other half, by seed."""

    cell: Cell
    errors: dict[int, float]


def choose(found: Found, some: Iterable[Cell]) -> Chosen | None:
    """The cell with the lowest mean error over the even seeds, of which none may have blown up; None if all have."""
    means = {}
    for cell in some:
        even = [row for row in found.get(cell, []) if row["seed"] % 2 == 0]
        if even and not ends(even):
            means[cell] = spread(errors(even)).mean
    if not means:
        return None
    best = min(means, key=means.__getitem__)
    return Chosen(best, {row["seed"]: row["test_error"] for row in found[best] if row["seed"] % 2})


CONTROL = "ema"
ADAI = "Adai, best floor"


def at_best_rates(found: Found, tasks: Sequence[str], warmup: int) -> str:
    """A row for each task and optimizer: its setting, its error with that, and the difference to the control's."""
    rows, said = [], []
    for task in tasks:
        by_name = {
            "Adai, floor 0": [cell for cell in _settings(task, warmup, "adai") if cell.min_inertia == 0],
            ADAI: _settings(task, warmup, "adai"),
            **{recipe(name).label: _settings(task, warmup, name) for name in OTHERS},
        }
        chosen = {name: best for name, some in by_name.items() if (best := choose(found, some))}
        control = chosen.pop(recipe(CONTROL).label, None)
        if control is None:
            continue
        rows.append([TASKS[task].title, recipe(CONTROL).label, _setting(control.cell), _error(control), ""])
        for name, best in chosen.items():
            gap = _difference(best, control, len(chosen))
            text = f"{gap.mean:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})".replace("-", "−")
            rows.append(["", name, _setting(best.cell), _error(best), text])
            if name == ADAI:
                said.append(gap)
    lower = sum(gap.shown and gap.mean < 0 for gap in said)
    higher = sum(gap.shown and gap.mean > 0 for gap in said)
    return as_markdown(["task", "optimizer", "setting", "test error (%)", "difference to EMA momentum"], rows) + (
        f"\n**Does adaptive inertia beat its control?** With its best floor Adai is shown to have a lower error than\n"
        f"EMA momentum on {lower} of {len(said)} tasks, and a higher one on {higher}.\n"
    )


def _settings(task: str, warmup: int, optimizer: str) -> list[Cell]:
    return [cell for cell in cells(task) if (cell.warmup_steps, cell.optimizer) == (warmup, optimizer)]


def _setting(cell: Cell) -> str:
    floor = "" if cell.min_inertia is None else f", floor {cell.min_inertia:g}"
    edge = ", the edge of the grid" if cell.factor in (FACTORS[0], FACTORS[-1]) else ""
    return f"× {cell.factor:g}{edge}{floor}"


def _error(best: Chosen) -> str:
    error = spread(list(best.errors.values()))
    return f"{error.mean:.2f} ± {error.sd:.2f}"


def _difference(best: Chosen, control: Chosen, comparisons: int) -> Difference:
    shared = sorted(best.errors.keys() & control.errors.keys())
    a, b = ([of.errors[seed] for seed in shared] for of in (best, control))
    return paired_difference(a, b, comparisons=comparisons)


def _warmed(warmup: int) -> str:
    return f"{warmup} steps of warm-up" if warmup else "no warm-up"


PAGE = """# How often does training blow up?

A run blew up if it diverged or did not learn ([the definition](../../docs/report.md#the-verdict)).
{state}
[What follows](#what-follows) comes first, then the figures and all numbers.

## What was run

Four optimizers on three tasks, at five learning rates, with and without a linear warm-up of 100 steps:

- **Adai**, with six values of `min_inertia`, a lower bound of the momentum, here called *floor*; floor 0 is the paper's
  rule.
- **EMA momentum** (`ema`): Adai with the momentum 0.9 for all parameters. It is the control: what adaptive inertia is
  worth is Adai's difference to it.
- **SGD** with momentum 0.9, and **AdamW**.

Learning rates are given as factors: × 1 is the rate of the lab's recipe, 1 for Adai and EMA momentum (the paper's for
Adai), 0.1 for SGD, 0.001 for AdamW. Weight decay is the recipes', the schedule a cosine.

| task | net | images for training, for testing | epochs | batch | seeds |
|---|---|---|---|---|---|
{about}

## What follows

**At the recipes' learning rates** (× 1), runs of all three tasks that blew up, with Wilson's 95 % interval:

{at_recipes_rates}
**At each optimizer's best rate**, with 100 steps of warm-up. The even seeds choose the setting, a rate and for Adai a
floor: of those at which no run blew up, the one with the lowest mean error. The odd seeds give the test error and the
difference to EMA momentum in points; below 0 is better than the control. Differences are paired over seeds, and the
intervals of one task hold together in 95 % of cases.

{at_best_rates}
## Figures

![Blow-up rate](blow-up.png)

![Test error against the rate](sensitivity.png)

In the second figure lines are means over the runs that did not blow up, and bars go from their lowest to their highest
error. Marks above the axes say how many runs blew up at that rate.

## All numbers

Each cell has the runs that blew up, of how many, with Wilson's 95 % interval; then the test error of the others in
percent, mean ± standard deviation over seeds. Where many blew up, that is the error of the lucky ones. A run that was
damaged early and recovered in part has not blown up by this definition, but its error is high.
{tables}
## Run on

{run_on}

Drawn by `python benchmarks/blow_up.py --draw` from `runs.jsonl`. `python benchmarks/blow_up.py` adds a line to that
file for every run.
"""


def page(found: Found, done: Mapping[Unit, Mapping[str, Any]], tasks: Sequence[str]) -> str:
    """The README beside the figures."""
    whole = queue(list(TASKS))
    there = sum(unit in done for unit in whole)
    state = f"All {len(whole):,} runs are done."
    if there < len(whole):
        state = (
            f"**This is a partial result: {there:,} of {len(whole):,} runs are done.** The first table says how many "
            "seeds each cell has so far; the same command goes on."
        )
    return PAGE.format(
        state=state,
        about="\n".join(_about_task(found, task) for task in TASKS),
        at_recipes_rates=at_recipes_rates(found),
        at_best_rates=at_best_rates(found, tasks, max(WARM_UPS)),
        tables="".join(f"\n### {TASKS[task].title}\n{tables(found, task)}\n" for task in tasks),
        run_on="\n".join(_run_on(done.values())),
    )


def _about_task(found: Found, task: str) -> str:
    kind, settings = TASKS[task], settings_of(Unit(next(cells(task)), 0))
    net = {"digits": "smallnet", "mnist": "convnet", "mnist-plain": "two 5×5 convolutions (16, 32), linear"}[task]
    data = "1,198 / 599 images" if task == "digits" else "20,000 / 4,000 images"
    counts = [len(found.get(cell, [])) for cell in cells(task)]
    so_far = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    seeds = so_far if min(counts) >= kind.seeds else f"{so_far} of {kind.seeds} so far"
    return f"| {kind.title} | {net} | {data} | {settings.epochs} | {settings.batch} | {seeds} |"


def _run_on(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Machines, versions and commits, with how many runs each."""
    counts: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        counts.setdefault((row["machine"], row["torch"], row["commit"]), []).append(row["seconds"])
    return [
        f"- {machine}, one thread a run, torch {version}, commit {of}: {len(seconds)} runs, "
        f"{sum(seconds) / len(seconds):.1f} s each."
        for (machine, version, of), seconds in counts.items()
    ]


def draw(out: Path) -> None:
    """Figures and page from the file."""
    done = read(out / "runs.jsonl")
    found = by_cell(done.values())
    tasks = [task for task in TASKS if any(cell.task == task for cell in found)]
    if not tasks:
        raise SystemExit(f"{out / 'runs.jsonl'} holds no run; leave --draw out to make some")
    with rc_context(RC):
        for name, figure in (("blow-up", heat_maps(found, tasks)), ("sensitivity", sensitivity(found, tasks))):
            write_whole(out / f"{name}.png", partial(figure.savefig, dpi=130))
    write_whole(out / "README.md", lambda part: part.write_text(page(found, done, tasks)))
    print(f"{len(done)} runs: {out}/README.md, blow-up.png, sensitivity.png")


def main() -> None:
    """Go on with the queue, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS), help="default: all")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, a thread each (default: %(default)s)")
    parser.add_argument("--seeds", type=int, help="default: 30 on the digits, 10 on MNIST")
    parser.add_argument("--limit-seconds", type=float, default=math.inf, help="begin no run after so many")
    parser.add_argument("--out", type=Path, default=OUT, help="default: %(default)s")
    parser.add_argument("--draw", action="store_true", help="only draw what there is")
    options = parser.parse_args()
    if options.draw:
        draw(options.out)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "runs.jsonl"
    mend(file)
    done = read(file)
    left = [unit for unit in queue(options.task, options.seeds) if unit not in done]
    print(f"{len(left)} runs to do, {len(done)} done", flush=True)
    about = {"machine": processor(), "torch": torch.__version__, "commit": commit()}
    try:
        carry_out(left, file, jobs=options.jobs, limit=options.limit_seconds, about=about)
    except KeyboardInterrupt:
        print("Interrupted. Runs that are done are kept; the same command goes on.")
    except UserError as error:
        raise SystemExit(f"blow_up.py: {error}") from error


if __name__ == "__main__":
    main()
