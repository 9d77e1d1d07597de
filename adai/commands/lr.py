"""`adai lr`: suggests a learning rate."""

import argparse
import shlex
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from adai.commands.flags import in_flags
from adai.commands.options.training import task
from adai.commands.pairs import options_of_one
from adai.commands.subject import ELSEWHERE
from adai.errors import UserError
from adai.files import made, removed_if_refused
from adai.lab.host.boundary import theirs, traced
from adai.lab.host.machine import about, device_named
from adai.lab.host.progress import progress_bar
from adai.lab.host.terminal import terminal
from adai.lab.measure.range_test.find import rising
from adai.lab.measure.range_test.of_run import find_lr_of_run
from adai.lab.measure.range_test.result import RangeTest
from adai.lab.results.run import writing_to
from adai.lab.settings import Settings
from adai.report import range_test as report

GIVEN = ("model", "target", "optimizer", "weight_decay", "batch", "limit", "seed", "device")


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    chosen = Settings.of(
        task(options), options=options_of_one(options.option), **{name: getattr(options, name) for name in GIVEN}
    )
    try:
        rising(options.lowest, options.highest, options.steps)
    except ValueError as error:
        raise UserError(f"{error}; see --lowest, --highest and --steps") from error
    folder = options.out or Path("runs") / _name(chosen)
    console = terminal()
    test = _test(console, chosen, folder, options)
    command = shlex.join(["adai", *options.arguments])
    settings = {**about(device_named(chosen.device), command), "settings": chosen.as_dict()}
    subject = f"{chosen.contender_label} on {chosen.task}"
    with writing_to(folder, ELSEWHERE):
        report.write(folder, test, settings)
        report.draw(folder / "lr.png", test, subject)
    for line in report.lines(test, subject, default=chosen.options.get("lr")):
        console.print(in_flags(line), highlight=False, soft_wrap=True)
    console.print(f"Figure and numbers: {folder}/lr.png, lr.csv, lr.json", highlight=False, soft_wrap=True)
    return 0


def _test(console: Console, chosen: Settings, folder: Path, options: argparse.Namespace) -> RangeTest:
    with progress_bar(console) as bars:
        bar = bars.add_task(chosen.contender, total=options.seeds * options.steps)

        def show(done: int, total: int) -> None:
            description = f"test {min(done * options.seeds // total + 1, options.seeds)} of {options.seeds}"
            bars.update(bar, completed=done, description=description)

        own = chosen.model is None  # without a task of the user's, an error is a bug of ours
        with (
            traced(folder),
            removed_if_refused(folder),
            theirs(f"the task {chosen.task}") if own else nullcontext(),
        ):
            made(folder)
            test = find_lr_of_run(
                chosen,
                lowest=options.lowest,
                highest=options.highest,
                steps=options.steps,
                seeds=options.seeds,
                data_dir=options.data_dir,
                progress=show,
            )
        bars.update(bar, completed=options.seeds * options.steps)
    return test


def _name(chosen: Settings) -> str:
    name = Path(chosen.task.replace(":", "-")).name
    return "-".join(filter(None, ("lr", name, chosen.model, chosen.contender)))
