"""The table that a comparison shows while it runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from rich.console import Console, Group
from rich.table import Table

from adai.lab.host.progress import live, progress_bar
from adai.lab.queue.jobs import Job, Watch
from adai.lab.results.outcome import DIED
from adai.lab.results.run import Row


class Standing(NamedTuple):
    """The state of a run."""

    rows: list[Row]
    status: str
    measured: bool


class Board:
    """Reads the state of the runs from their folders; a run that has ended is not read again."""

    def __init__(self) -> None:
        self._over: dict[Path, Standing] = {}

    def standing(self, job: Job) -> Standing:
        """The state of a run."""
        if job.folder in self._over:
            return self._over[job.folder]
        # The run may continue meanwhile: the values read last are never older than those read first.
        measured, status = job.measured, job.run.status
        standing = Standing(job.run.rows(), status, measured)
        if status != "unfinished" and measured:
            self._over[job.folder] = standing
        return standing

    def epochs(self, job: Job) -> int:
        """The number of epochs that need no more work; all of them if the run has died."""
        standing = self.standing(job)
        return job.settings.epochs if standing.status in DIED else len(standing.rows)

    def progress(self, job: Job) -> float:
        """The number of epochs done, including the part of the current epoch."""
        epochs = job.settings.epochs
        done = self.epochs(job)
        return done if done == epochs else max(done, min(job.share_of_steps, 1.0) * epochs)

    def measured(self, jobs: Sequence[Job]) -> tuple[int, int]:
        """The number of ended runs with all their measurements, and the number of runs that have measures."""
        asked = [self.standing(job) for job in jobs if job.measures]
        return sum(one.status != "unfinished" and one.measured for one in asked), len(asked)

    def table(self, jobs: Sequence[Job]) -> Table:
        """A row for every model and optimizer."""
        table = Table(box=None, pad_edge=False)
        metric = next((job.run.metric for job in jobs if job.run.metric), None)
        measure = f"test {metric['name']}" if metric else "test error"
        unit = metric["unit"] if metric else "%"
        for column in ("", "runs", "epochs", f"{measure} now{f' ({unit})' if unit else ''}"):
            table.add_column(column, justify="right" if column else "left")
        groups: dict[tuple[str | None, str], list[Job]] = {}
        for job in jobs:
            groups.setdefault((job.settings.model, job.settings.contender_label), []).append(job)
        several = len({model for model, _ in groups}) > 1
        for (model, label), own in groups.items():
            standings = [self.standing(job) for job in own]
            values = [s.rows[-1].get("test_metric" if metric else "test_error") for s in standings if s.rows]
            known = [value for value in values if value is not None]
            table.add_row(
                f"{model}, {label}" if several else label,
                f"{sum(s.status != 'unfinished' for s in standings)} of {len(own)}",
                f"{sum(map(self.epochs, own))} of {sum(job.settings.epochs for job in own)}",
                f"{fmean(known):.{metric['digits'] if metric else 2}f}" if known else "",
            )
        return table


@contextmanager
def standings(console: Console) -> Iterator[Watch]:
    """Show a bar with the time left, and the table below it, for the duration of the block."""
    board, bars = Board(), progress_bar(console)
    bar = bars.add_task("starting", total=None)
    ended = -1  # the number of ended runs in the last line that was printed
    with live(bars, console) as draw:

        def show(jobs: Sequence[Job]) -> None:
            nonlocal ended
            done, total = sum(map(board.epochs, jobs)), sum(job.settings.epochs for job in jobs)
            known, asked = board.measured(jobs)
            completed = known + sum(map(board.progress, jobs))
            if bars.tasks[bar].total != total + asked:
                # Start again, so that the time left is estimated from the work done from now on.
                bars.reset(bar, total=total + asked, completed=int(completed))
            names = ", ".join(dict.fromkeys(one.measure.said for job in jobs for one in job.measures))
            text = f"{done} of {total} epochs" + (f", {names} of {known} of {asked} runs" if asked else "")
            bars.update(bar, completed=completed, description=text)
            draw(Group(bars, board.table(jobs)))
            over = sum(board.standing(job).status != "unfinished" for job in jobs)
            quiet = console.is_terminal or console.is_jupyter  # in a log file nothing is drawn until the end
            if over != ended and not quiet:
                console.print(f"{over} of {len(jobs)} runs, {text}")
            ended = over

        yield show
