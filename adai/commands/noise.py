"""`adai noise`: is the noise of a net's gradients Gaussian?"""

import argparse
import sys

from adai.commands.kept import refuse_others
from adai.commands.status import FAILED, INTERRUPTED
from adai.commands.subject import ELSEWHERE, Told, about, bars, given, measured, say_about, say_failed, settle
from adai.errors import UserError
from adai.files import made
from adai.lab.host.boundary import traced
from adai.lab.host.terminal import terminal
from adai.lab.measure.noise.measure import ENOUGH, noise_laws
from adai.lab.measure.noise.sampling import minibatch_noise
from adai.lab.measure.objective import Objective, Progress
from adai.lab.results.run import writing_to
from adai.report import noise as report
from adai.report.noise import Measured, Row


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status. The files are updated after each set of parameters."""
    settle(options)
    console = terminal()
    if options.batch_norm == "batch":
        options.batch = options.B  # noise is the deviation from the gradient over minibatches of the same size
    folder = made(options.out)
    decides = {**given(options), "B": options.B, "minibatches": options.minibatches, "followed": options.parameters}
    refuse_others(folder / "noise.json", decides, "the noise")
    results: dict[str, Measured] = {}
    told: Told = {}
    failed: dict[str, UserError] = {}
    rows: list[Row] = []
    status = 0
    with traced(folder), bars(console) as named:
        try:
            for name, noise, said in measured(options, lambda name, at: _noise(at, options, named(name)), failed):
                results[name], told[name] = noise, said
                with writing_to(folder, ELSEWHERE):
                    rows = report.write(folder, results, {**about(options, told), **decides})
                    report.write_figures(folder, {name: noise}, first=len(results))
        except KeyboardInterrupt:
            status = INTERRUPTED
    if rows:
        console.print(report.as_table(rows))
        for row in rows:
            console.print(report.sentence(row))
        say_about(console, told)
        where = f"Numbers and figures: {folder}/noise.csv, noise.json, parameters.csv, figure6.png, tails.png"
        console.print(where, soft_wrap=True)
        say_failed(console, folder, failed)
    if status == INTERRUPTED:
        print("Interrupted. What was finished is written.", file=sys.stderr)
    return status or (FAILED if failed else 0)


def _noise(objective: Objective, options: argparse.Namespace, progress: Progress) -> Measured:
    """The noise of the gradients at one set of parameters, and its laws."""
    if min(options.minibatches, objective.size) < ENOUGH:
        raise UserError(
            f"{options.minibatches} minibatches and {objective.size} parameters; tail indices need {ENOUGH} of each"
        )
    try:
        noise = minibatch_noise(
            objective,
            B=options.B,
            minibatches=options.minibatches,
            parameters=options.parameters,
            seed=options.seed,
            progress=progress,
        )
        return noise, noise_laws(noise, seed=options.seed)
    except ValueError as error:
        raise UserError(str(error)) from error
