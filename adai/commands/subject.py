"""Helpers of `adai curvature` and `adai noise`: the parameters, their data, and progress bars."""

import argparse
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.console import Console

from adai.commands.options.measurement import DATASET, MODEL
from adai.errors import UserError
from adai.lab.host.boundary import explain_each, theirs
from adai.lab.host.machine import device_named
from adai.lab.host.progress import progress_bar
from adai.lab.measure.objective import Objective, Progress
from adai.lab.measure.stored import brings_its_own, finished_runs, is_comparison, subject_at
from adai.lab.measure.subject import Subject, by_name, by_task

T = TypeVar("T")

NAMING = ("dataset", "model", "task")
ELSEWHERE = "give another folder with --out"


def settle(options: argparse.Namespace) -> None:
    """Fill in the default folder, and the default data set and net if some parameters need them.

    If every RUN has its own data and net, these stay None.

    Raises:
        UserError: a data set, net or task is given but no RUN would use it, or a task has its own data and net.
    """
    options.out = options.out or options.usual_out
    named = [f"--{name}" for name in NAMING if getattr(options, name) is not None]
    if options.states and all(map(brings_its_own, options.states)):
        if named:
            raise UserError(f"every RUN brings its own data and net; leave out {' and '.join(named)}")
    elif options.task is not None and len(named) > 1:
        raise UserError(f"--task brings its own data and net; leave out {' and '.join(named[:-1])}")
    elif options.task is None:
        options.dataset = DATASET if options.dataset is None else options.dataset
        options.model = MODEL if options.model is None else options.model


def measured(
    options: argparse.Namespace, measure: Callable[[str, Objective], T], failed: dict[str, UserError]
) -> Iterator[tuple[str, T, dict[str, Any]]]:
    """Measure at each set of parameters, one at a time; without any RUN, at the initial weights.

    Args:
        options: the options of the command.
        measure: measures at the parameters of this name.
        failed: gets the errors of the sets that cannot be measured, by name; what is wrong with one need not be with
            the next.

    Yields:
        The name, what was measured, and `Objective.about`.

    Raises:
        UserError: none could be measured.
    """
    makers = _makers(options)
    for name, make in makers.items():
        try:
            objective = make()
            with theirs(f"measuring {name}"):
                found = measure(name, objective)
        except UserError as error:
            if len(makers) == 1:
                raise
            failed[name] = error
            continue
        yield name, found, objective.about()
    if len(failed) == len(makers):
        raise UserError("\n".join(explain_each(options.out, failed)))


def _makers(options: argparse.Namespace) -> dict[str, Callable[[], Objective]]:
    """What makes the loss at each set of parameters, by name."""
    if not options.states:
        return {f"random, seed {options.seed}": lambda: _objective(options, _fresh(options))}
    places = [run for given in options.states for run in (finished_runs(given) if is_comparison(given) else [given])]
    places = list(dict.fromkeys(places))
    return {name: partial(_objective_at, place, options) for name, place in zip(names_of(places), places, strict=True)}


def _objective_at(place: Path, options: argparse.Namespace) -> Objective:
    """The loss at the parameters of a run, a checkpoint or a state dict."""
    logging.basicConfig(format="%(message)s")  # warnings, such as a damaged checkpoint, are one line
    device = device_named(options.device)
    return _objective(options, subject_at(place, lambda: _fresh(options), device=device, data_dir=options.data_dir))


Told = dict[str, dict[str, Any]]  # `Objective.about` of each set of parameters


def about(options: argparse.Namespace, told: Told) -> dict[str, Any]:
    """The settings of the results, to be written with them; data and net are None if they are the runs' own."""
    return {**given(options), "of_each": told}


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The options among these settings."""
    named = {key: getattr(options, key) for key in (*NAMING, "seed", "samples", "batch", "batch_norm", "dtype")}
    return {**named, "states": [str(file) for file in options.states]}


def say_about(console: Console, told: Told) -> None:
    """Print the mode of batch norm and the number of samples; only once if they are the same for all."""
    texts = {name: f"Batch norm: {one['batch_norm']}; {one['samples']} samples." for name, one in told.items()}
    if len(set(texts.values())) == 1:
        texts = {"": next(iter(texts.values()))}
    for name, text in texts.items():
        console.print(f"{name}: {text}" if name else text, soft_wrap=True)


def say_failed(console: Console, folder: Path, failed: Mapping[str, UserError]) -> None:
    """Print a line for each set of parameters that could not be measured."""
    for line in explain_each(folder, failed):
        console.print(line, soft_wrap=True, highlight=False)


def _objective(options: argparse.Namespace, subject: Subject) -> Objective:
    return subject.objective(
        samples=options.samples,
        seed=options.seed,
        batch_norm=options.batch_norm,
        batch=options.batch,
        dtype=getattr(torch, options.dtype),
    )


def _fresh(options: argparse.Namespace) -> Subject:
    device = device_named(options.device)
    if options.task:
        return by_task(options.task, seed=options.seed, device=device)
    return by_name(options.dataset, options.model, seed=options.seed, device=device, data_dir=options.data_dir)


def names_of(places: Sequence[Path]) -> list[str]:
    """Short names of the paths: their last parts, as many as needed to distinguish them."""
    whole = [place.absolute().with_suffix("") if place.is_file() else place.absolute() for place in places]
    depth = next(
        (n for n in range(1, max(len(p.parts) for p in whole)) if len({p.parts[-n:] for p in whole}) == len(whole)), 0
    )
    return ["/".join(p.parts[-depth:]) if depth else str(place) for p, place in zip(whole, places, strict=True)]


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str], Progress]]:
    """Yields a function from a name to a progress that shows a bar with the time left for every piece of work.

    Finished bars disappear when work on another name begins, because a comparison has many runs.
    """
    with progress_bar(console) as shown:
        tasks: dict[tuple[str, str], Any] = {}

        def named(name: str) -> Progress:
            def progress(what: str, done: int, total: int) -> None:
                key = name, what
                if key not in tasks:
                    for (other, _), task in tasks.items():
                        if other != name and shown.tasks[shown.task_ids.index(task)].finished:
                            shown.update(task, visible=False)
                    tasks[key] = shown.add_task(f"{name}: {what}", total=total)
                task = tasks[key]
                shown.update(task, advance=done)
                completed = shown.tasks[shown.task_ids.index(task)].completed
                if completed > total:  # the total was an estimate
                    shown.update(task, total=completed + 1)

            return progress

        yield named
