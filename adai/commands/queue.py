"""What commands that run comparisons share: where the runs are carried out, and what is shown meanwhile."""

import argparse
from collections.abc import Callable, Sequence

from rich.console import Console

from adai.commands.flags import in_flags
from adai.commands.status import FAILED, INTERRUPTED
from adai.lab.queue.attempts import Failure
from adai.lab.queue.executors import Executor
from adai.lab.queue.standings import standings
from adai.lab.queue.where import executor_named

GOES_ON = "Interrupted. Finished epochs are kept; the same command goes on from there."


def executor(options: argparse.Namespace) -> Executor:
    """What the options of `adai.commands.options.comparison.add_executors` ask for.

    Raises:
        UserError: an option is given that the executor does not take.
    """
    return executor_named(
        options.executor, jobs=options.jobs, address=options.address, cpus=options.cpus, gpus=options.gpus
    )


def carry_out(console: Console, comparisons: Sequence[Callable[..., list[Failure]]], execute: Executor) -> int:
    """Run comparisons one after the other under the live table, and name the runs that failed.

    Args:
        console: where the table is shown.
        comparisons: `adai.lab.queue.compare.compare` with all it needs but ``execute`` and ``watch``.
        execute: carries out the runs.

    Returns:
        The exit status: 0, `FAILED` or `INTERRUPTED`.
    """
    failures: list[Failure] = []
    interrupted = False
    with standings(console) as watch:
        try:
            for comparison in comparisons:
                failures += comparison(execute=execute, watch=watch)
        except KeyboardInterrupt:
            interrupted = True
    for failure in failures:
        console.print(in_flags(str(failure)), highlight=False, soft_wrap=True)
    return INTERRUPTED if interrupted else FAILED if failures else 0
