"""Labelled images as rows of the `datasets` library, nothing decoded: from a folder, or from the Hugging Face hub."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from adai.errors import UserError

HUB = {
    "mnist": "ylecun/mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "imagenet": "ILSVRC/imagenet-1k",
}


class Rows(NamedTuple):
    """A part of a data set, and the names of its two columns that count."""

    rows: Any
    image: str
    label: str

    @property
    def classes(self) -> int:
        """How many there are."""
        return int(self.rows.features[self.label].num_classes)


def folder_in(variable: str) -> Path | None:
    """The folder that a variable of the environment names."""
    value = os.environ.get(variable)
    return Path(value) if value else None


def find(name: str, data_dir: Path | None) -> str:
    """What the `datasets` library is to load: a folder of that name in ``data_dir``, a folder, or a name on the hub.

    Args:
        name: of a data set, or a folder.
        data_dir: a folder with data sets by name; default the environment's ``ADAI_DATA_DIR``.

    Raises:
        UserError: ``data_dir`` does not exist.
    """
    data_dir = data_dir or folder_in("ADAI_DATA_DIR")
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"the data folder {data_dir} does not exist")
    for folder in (data_dir / name if data_dir else Path(name), Path(name)):
        if folder.is_dir():
            return str(folder.resolve())
    return HUB.get(name, name)


def read(source: str, limit: int | None = None) -> tuple[Rows, Rows]:
    """The training and the test part, each of ``limit`` rows at most.

    Raises:
        UserError: there is no such data set, it cannot be reached, or it is not one of labelled images.
    """
    import datasets

    try:
        parts = datasets.load_dataset(source)
    except (OSError, ValueError, datasets.exceptions.DatasetNotFoundError) as error:
        what = str(error).splitlines()[0]
        raise UserError(
            f"cannot get the data set {source!r} ({what}); point --data-dir or ADAI_DATA_DIR at a folder that holds it"
        ) from error
    # The hub's ImageNet has a test part without labels beside its validation part.
    names = ("validation", "test") if source == HUB["imagenet"] else ("test", "validation")
    test = next((part for part in names if part in parts), None)
    if "train" not in parts or test is None:
        raise UserError(f"{source!r} has the parts {', '.join(parts)}; it needs train, and test or validation")
    return _part(source, parts["train"], limit), _part(source, parts[test], limit)


def _part(source: str, rows: Any, limit: int | None) -> Rows:
    """The columns are known by their types."""
    from datasets import ClassLabel, Image

    columns = {kind: [n for n, f in rows.features.items() if isinstance(f, kind)] for kind in (Image, ClassLabel)}
    if not columns[Image] or not columns[ClassLabel]:
        raise UserError(f"{source!r} has the columns {', '.join(rows.features)}; it needs an image and a class label")
    chosen = some(len(rows), limit)
    return Rows(rows.select(chosen) if chosen else rows, columns[Image][0], columns[ClassLabel][0])


def some(count: int, limit: int | None) -> list[int] | None:
    """Which of so many to take where fewer are asked for, drawn once and for all; None for all."""
    if limit is None or limit >= count:
        return None
    chosen: list[int] = np.random.default_rng(0).permutation(count)[:limit].tolist()
    return chosen
