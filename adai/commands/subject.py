"""What `adai curvature` and `adai noise` share: which parameters, on what data, and a bar for each piece of work."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from adai.commands.progress import progress_bar
from adai.lab.machine import device_named
from adai.lab.objective import Objective, Progress
from adai.lab.subject import Subject, by_name, by_task, with_state


def objectives(options: argparse.Namespace) -> Iterator[tuple[str, Objective]]:
    """The name and the loss of each set of parameters asked for, one at a time; the fresh weights if there is none."""
    for file in options.states or [None]:
        subject = _subject(options)
        if file is not None:
            subject = with_state(subject, file)
        name = f"random, seed {options.seed}" if file is None else _short(file, options.states)
        yield (
            name,
            subject.objective(
                samples=options.samples,
                seed=options.seed,
                batch_norm=options.batch_norm,
                batch=options.batch,
                dtype=getattr(torch, options.dtype),
            ),
        )


def about(options: argparse.Namespace, objective: Objective) -> dict[str, Any]:
    """What decides the results, to be written beside them."""
    kept = ("dataset", "model", "task", "seed")
    given = {key: getattr(options, key) for key in kept}
    return {**given, "states": [str(file) for file in options.states], **objective.about()}


def _subject(options: argparse.Namespace) -> Subject:
    device = device_named(options.device)
    if options.task:
        return by_task(options.task, seed=options.seed, device=device)
    return by_name(options.dataset, options.model, seed=options.seed, device=device, data_dir=options.data_dir)


def _short(file: Path, files: list[Path]) -> str:
    """The file's name where that tells it from the others, and else its path."""
    return file.stem if sum(other.stem == file.stem for other in files) == 1 else str(file)


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str], Progress]]:
    """Gives, for each name, a progress that shows a bar with time left for every piece of work."""
    with progress_bar(console) as shown:
        tasks: dict[tuple[str, str], Any] = {}

        def named(name: str) -> Progress:
            def progress(what: str, done: int, total: int) -> None:
                key = name, what
                if key not in tasks:
                    tasks[key] = shown.add_task(f"{name}: {what}", total=total)
                task = tasks[key]
                shown.update(task, advance=done)
                completed = shown.tasks[shown.task_ids.index(task)].completed
                if completed > total:  # the total was a guess
                    shown.update(task, total=completed + 1)

            return progress

        yield named
