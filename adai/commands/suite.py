"""`adai suite`: optimizers compared on several tasks with equal budgets."""

import argparse
import logging
import shlex
import sys
from functools import partial

from adai.commands.options.training import checkpoints, listed, machine, separated
from adai.commands.pairs import overrides, ranges
from adai.commands.queue import GOES_ON, carry_out, executor
from adai.commands.status import INTERRUPTED
from adai.errors import UserError
from adai.lab.host.boundary import traced
from adai.lab.host.terminal import terminal
from adai.lab.optimizers.contenders import split
from adai.lab.optimizers.recipes import own_name
from adai.lab.queue.suite import suite
from adai.lab.results.suite import beside, read_suite
from adai.lab.tasks.suite import chosen
from adai.report import suite as report


def run(options: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    logging.basicConfig(format="%(message)s")
    console = terminal()
    status = 0
    if not options.draw_only:
        names = separated(options.optimizers)
        if not names:
            raise UserError("--optimizers names none; give at least one, such as adai")
        labels = [label or own_name(spec) for label, spec in map(split, names)]
        given = {name: value for name, value in machine(options).items() if value is not None}
        if options.epochs is not None:
            given["epochs"] = options.epochs
        if options.limit is not None:
            given["limit"] = options.limit
        whole = partial(
            suite,
            options.out,
            chosen(listed(options.tasks or ()), options.scale),
            optimizers=names,
            seeds=options.seeds,
            tune=options.tune,
            overrides=overrides(labels, options.lr, options.weight_decay, options.option),
            ranges=ranges(labels, options.range),
            data_dir=options.data_dir,
            **checkpoints(options),
            command=shlex.join(["adai", *options.arguments]),
            **given,
        )
        with traced(options.out):
            status = carry_out(console, [whole], executor(options))
    found = read_suite(options.out)
    if options.against is not None and found.comparisons:
        found = beside(found, read_suite(options.against))
    if status != INTERRUPTED or found.comparisons:
        page = report.write(found, options.reference)
        for line in report.verdicts(found, found.summaries(options.reference)):
            console.print(line, highlight=False)
        console.print(f"Suite: {page}, with {options.out}/suite.csv and {options.out}/figures", soft_wrap=True)
    if status == INTERRUPTED:
        print(GOES_ON, file=sys.stderr)
    return status
