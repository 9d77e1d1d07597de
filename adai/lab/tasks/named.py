"""Finds the task that settings name: your own function, or a data set with a network."""

from functools import lru_cache
from pathlib import Path

import torch

from adai.errors import UserError
from adai.lab.settings import Settings
from adai.lab.tasks.data import load
from adai.lab.tasks.hub import find, read, sought
from adai.lab.tasks.kinds import TABLES, TEXTS, kind_of
from adai.lab.tasks.tables import read_table, table_task
from adai.lab.tasks.task import Factory, image_task, imported, picture_task
from adai.lab.tasks.text import read_text, text_task

# Successive runs use the same data.
_loaded = lru_cache(maxsize=2)(load)
_read_text = lru_cache(maxsize=2)(read_text)
_read_table = lru_cache(maxsize=2)(read_table)


def named_task(settings: Settings, device: torch.device, data_dir: Path | str | None) -> Factory:
    """The function that makes the task of the settings.

    Args:
        settings: the settings of the run.
        device: the device that stores data that fit in memory.
        data_dir: the folder that contains the data sets; default the environment variable ``ADAI_DATA_DIR``.

    Raises:
        UserError: the data set or the function does not exist, or the data cannot be used.
    """
    kind, file = kind_of(settings.task), file_of(settings.task, data_dir)
    if kind == "own":
        return imported(settings.task)
    if file and kind == "text":
        return text_task(_read_text(file), device)
    if file:
        known = TABLES.get(settings.task)
        target = settings.target or (known.target if known else None)
        return table_task(_read_table(file, target), device)
    if settings.image_size is not None:
        with sought(settings.task, data_dir) as source:
            train_rows, test_rows = read(source, settings.limit)
        return picture_task(
            train_rows,
            test_rows,
            str(settings.model),
            size=settings.image_size,
            augment=settings.augment,
            device=device,
            workers=settings.workers,
        )
    data = _loaded(settings.task, device=device, data_dir=data_dir, limit=settings.limit)
    return image_task(data, str(settings.model), augment=settings.augment)


def file_of(task: str, data_dir: Path | str | None) -> Path | None:
    """The file of a text or a table; None for other tasks.

    Args:
        task: the name of a data set, whose file is in the data folder; or the path of a file.
        data_dir: as for `named_task`.

    Raises:
        UserError: the data folder does not have the file.
    """
    if kind_of(task) not in ("text", "table"):
        return None
    known = {**TEXTS, **TABLES}.get(task)
    if known is None:
        return Path(task).expanduser().resolve()
    file = Path(find(task, data_dir)) / known.file
    if not file.is_file():
        raise UserError(
            f"the data set {task} is not on this machine; point `data_dir` or ADAI_DATA_DIR at a folder that has "
            f"{task}/{known.file}"
        )
    return file
