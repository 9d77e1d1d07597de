"""What commands that run comparisons share: where the runs are carried out, and what is shown meanwhile."""

import argparse
from collections.abc import Callable, Sequence

from rich.console import Console

from adai.commands.standings import standings
from adai.commands.status import FAILED, INTERRUPTED
from adai.errors import UserError
from adai.lab.queue.attempts import Failure
from adai.lab.queue.executors import Executor, Processes, in_process

GOES_ON = "Interrupted. Finished epochs are kept; the same command goes on from there."


def executor(options: argparse.Namespace) -> Executor:
    """What the options of `adai.commands.options.comparison.add_executors` ask for.

    Raises:
        UserError: an option is given that the executor does not take.
    """
    on_ray = options.executor == "ray"
    for name in ("jobs",) if on_ray else ("address", "cpus", "gpus"):
        if getattr(options, name) is not None:
            if on_ray:
                raise UserError(f"--{name} is for --executor local; leave it out, Ray runs as many as it has room for")
            raise UserError(f"--{name} is for --executor ray; add that, or leave --{name} out")
    if on_ray:
        from adai.lab.queue.on_ray import OnRay

        return OnRay(options.address, cpus=options.cpus or 1, gpus=options.gpus or 0.0)
    return Processes(options.jobs) if (options.jobs or 1) > 1 else in_process


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
        console.print(str(failure), highlight=False, soft_wrap=True)
    return INTERRUPTED if interrupted else FAILED if failures else 0
