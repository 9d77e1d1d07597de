"""`adai train`: one training run."""

import argparse
import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adai.commands.flags import in_flags
from adai.commands.options.training import checkpoints, settings, task
from adai.commands.pairs import options_of_one
from adai.commands.status import INTERRUPTED
from adai.lab.host.boundary import traced
from adai.lab.host.progress import progress_bar
from adai.lab.host.ranks import world_size
from adai.lab.host.terminal import terminal
from adai.lab.results.outcome import CURE, MARGIN
from adai.lab.results.run import Row, Run
from adai.lab.settings import Settings
from adai.lab.training.tensorboard import Board
from adai.lab.training.train import train


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    logging.basicConfig(format="%(message)s")  # warnings, such as a damaged checkpoint, are one line
    chosen = Settings.of(
        task(options),
        optimizer=options.optimizer,
        lr=options.lr,
        weight_decay=options.weight_decay,
        options=options_of_one(options.option),
        seed=options.seed,
        processes=world_size(),
        **settings(options),
    )
    folder: Path = options.out or Path("runs") / _name(chosen)
    console = terminal()
    there: list[int] = []  # how many epochs there were at the start, once that is known
    board = Board(folder / "tensorboard") if options.tensorboard else None
    with progress_bar(console) as bars:
        bar = bars.add_task(chosen.contender, total=None, visible=False)  # the first process of several has one

        def show(rows: list[Row]) -> None:
            there.append(len(rows))
            if board:
                board.show(rows)
            done = f"{len(rows)} of {chosen.epochs} epochs"
            said = _line(rows[-1], Run(folder).metric) if rows else ""
            bars.update(bar, description=f"{done}, {said}" if rows else chosen.contender, visible=True)
            if rows and not console.is_terminal:  # a log file, where nothing is drawn until the end
                loss, seconds = rows[-1]["train_loss"], rows[-1]["seconds"]
                text = f"{done}, train loss {loss:.4g}, " if loss is not None else f"{done}, "
                console.print(f"{text}{said}, {seconds:.1f} s", soft_wrap=True)

        def stepped(more: int, total: int) -> None:
            if bars.tasks[bar].total is None:
                bars.reset(bar, total=total, completed=more)  # the time left is of what is done from here on
            else:
                bars.advance(bar, more)

        try:
            with traced(folder):
                result = train(
                    chosen,
                    folder,
                    data_dir=options.data_dir,
                    **checkpoints(options),
                    command=shlex.join(["adai", *options.arguments]),
                    progress=show,
                    stepped=stepped,
                )
                if bars.tasks[bar].total is None:  # nothing was left to do
                    bars.update(bar, total=1, completed=1)
        except KeyboardInterrupt:
            print("Interrupted. Finished epochs are kept; the same command goes on from there.", file=sys.stderr)
            return INTERRUPTED
    if there:  # the first process of several
        console.print(in_flags(_verdict(result, done=there[-1] - there[0])), soft_wrap=True)
    return 0


def _name(chosen: Settings) -> str:
    task = Path(chosen.task.replace(":", "-")).name
    return "-".join(filter(None, (task, chosen.model, chosen.contender, f"seed{chosen.seed}")))


def _line(row: Row, metric: Mapping[str, Any] | None) -> str:
    """An epoch in a few words."""
    error, loss, own = (row.get(f"test_{name}") for name in ("error", "loss", "metric"))
    if metric and own is not None:
        unit = f" {metric['unit']}" if metric["unit"] else ""
        return f"test {metric['name']} {own:.{metric['digits']}f}{unit}"
    if error is not None:
        return f"test error {error:.2f} %"
    return "diverged" if loss is None else f"test loss {loss:.4g}"


def _bound(result: Run) -> str:
    """What a run that did not learn falls short of, with the number."""
    chance, loss = result.start.chance_error, result.start.test_loss
    if result.rows()[-1]["test_error"] is not None:
        return f"not {MARGIN:g} point better than the {chance:.2f} % of always answering the most frequent class"
    return f"no better than before training ({loss:.4g})"


def _verdict(result: Run, *, done: int) -> str:
    rows = result.rows()
    where = f"{result.path}/metrics.jsonl"
    if result.status == "diverged":
        return f"Diverged in epoch {len(rows)}: the loss is not a finite number; {CURE}. {where}"
    again = "" if done else "; it was finished already, nothing was done"
    if result.status == "did not learn":
        reached = f"{_line(rows[-1], result.metric)} after {_epochs(len(rows))}"
        return f"Did not learn: {reached} is {_bound(result)}; {CURE}{again}. {where}"
    return f"{_epochs(len(rows))}, {_line(rows[-1], result.metric)}{again}. {where}"


def _epochs(number: int) -> str:
    return f"{number} epoch" if number == 1 else f"{number} epochs"
