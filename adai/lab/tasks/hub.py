"""Labelled images as undecoded rows of the `datasets` library, from a folder or from the Hugging Face hub."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image

from adai.errors import UserError
from adai.lab.tasks.decoding import decoded, name_of
from adai.lab.tasks.folders import class_folders

HUB = {
    "mnist": "ylecun/mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "imagenet": "ILSVRC/imagenet-1k",
}

_CHUNK = 1000  # rows read at a time
_PATIENCE = 5.0  # seconds to wait for an answer of the hub


class Rows(NamedTuple):
    """A part of a data set, not decoded.

    Attributes:
        rows: of the `datasets` library; their images have ``path`` and ``bytes``.
        image: the column of the images.
        label: the column of the labels.
        names: the names of the classes in the training part, by index.
        numbers: for each class index in this part, its index in the training part.
    """

    rows: Any
    image: str
    label: str
    names: tuple[str, ...]
    numbers: tuple[int, ...]

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.names)

    def picture(self, number: int) -> Image:
        """An image, in mode ``L`` or ``RGB``.

        Raises:
            UserError: see `decoded`.
        """
        return _decoded(self.rows[number][self.image], number)

    def pictures(self) -> Iterator[Image]:
        """All images in order, each as in `picture`."""
        for start in range(0, len(self.rows), _CHUNK):
            for number, encoded in enumerate(self.rows[start : start + _CHUNK][self.image], start):
                yield _decoded(encoded, number)

    def class_of(self, number: int) -> int:
        """The class of an image, as the training part numbers it."""
        return self.numbers[int(self.rows[number][self.label])]

    def labels(self) -> list[int]:
        """The classes of all images, as the training part numbers them."""
        return [self.numbers[label] for label in self.rows[self.label][:]]


def _decoded(encoded: Mapping[str, Any] | None, number: int) -> Image:
    if encoded is None:
        raise UserError(f"row {number} has no image; remove it")
    return decoded(encoded, name_of(encoded, number))


def folder_in(variable: str) -> Path | None:
    """The folder that a variable of the environment names."""
    value = os.environ.get(variable)
    return Path(value) if value else None


def find(name: str, data_dir: Path | str | None) -> str:
    """The source that the `datasets` library loads: a folder of that name in ``data_dir``, a folder, or a hub name.

    Args:
        name: of a data set, or a folder.
        data_dir: a folder that contains data sets by name; default the environment's ``ADAI_DATA_DIR``.

    Raises:
        UserError: ``data_dir`` does not exist.
    """
    data_dir = Path(data_dir) if data_dir else folder_in("ADAI_DATA_DIR")
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"the data folder {data_dir} does not exist")
    for folder in (data_dir / name if data_dir else Path(name), Path(name)):
        if folder.is_dir():
            return str(folder.resolve())
    return HUB.get(name, name)


@contextlib.contextmanager
def sought(name: str, data_dir: Path | str | None) -> Iterator[str]:
    """Find the source of a data set, as `find` does, for the block that reads it.

    Raises:
        UserError: the block raised one. If the data folder has no such data set, the message begins with that.
    """
    source = find(name, data_dir)
    try:
        yield source
    except UserError as error:
        folder = data_dir or folder_in("ADAI_DATA_DIR")
        if folder is None or Path(source).is_dir():
            raise
        raise UserError(f"{folder} has no folder {name}, and {error}") from error


def read(source: str, limit: int | None = None) -> tuple[Rows, Rows]:
    """The training and the test part, each with at most ``limit`` rows.

    Classes are matched by name: if the test part numbers them differently, its labels are mapped to those of the
    training part.

    Raises:
        UserError: there is no such data set, it cannot be reached, it does not consist of labelled images, or its parts
            do not match.
    """
    parts = class_folders(Path(source)) if Path(source).is_dir() else None
    parts = _loaded(source) if parts is None else parts
    # The hub's ImageNet has a validation part, and a test part without labels.
    names = ("validation", "test") if source == HUB["imagenet"] else ("test", "validation")
    test = next((part for part in names if part in parts), None)
    if "train" not in parts or test is None:
        raise UserError(f"{source!r} has the parts {', '.join(parts)}; it needs train, and test or validation")
    train = _part(source, "train", parts["train"], limit)
    return train, _numbered_like(train, _part(source, test, parts[test], limit), source)


def _loaded(source: str) -> Mapping[str, Any]:
    """The parts, as the `datasets` library finds them."""
    import datasets

    try:
        with _offline() if not Path(source).is_dir() and _unreachable() else contextlib.nullcontext():
            builder = datasets.load_dataset_builder(source)
            _see_that_parts_are_apart(builder.config.data_files or {}, source)
            builder.download_and_prepare()
            parts = builder.as_dataset()
            return {part: _with_names(rows, builder, part) for part, rows in parts.items()}
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        what = str(error).splitlines()[0]
        raise UserError(
            f"cannot get the data set {source!r} ({what}); point `data_dir` or ADAI_DATA_DIR at a folder that holds it"
        ) from error


def _unreachable() -> bool:
    """Whether the hub does not answer. This check avoids the library's own retries, which take 25 seconds."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:  # its type depends on the HTTP library that the hub's library uses
        return True
    return False


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Make the `datasets` library use only what it has cached, without network."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _with_names(rows: Any, builder: Any, part: str) -> Any:
    """The rows with the class names of their own files, because the library uses those of the first part for all."""
    import datasets
    from pyarrow.parquet import read_schema

    files = builder.config.data_files[part] if builder.config.data_files else []
    if builder.name != "parquet" or not all(Path(file).is_file() for file in files):
        return rows
    for column, feature in rows.features.items():
        if isinstance(feature, datasets.ClassLabel):
            own = [datasets.Features.from_arrow_schema(read_schema(file))[column] for file in files]
            if any(other != own[0] for other in own):
                raise UserError(f"the files {files[0]}, … name the classes of {column} differently; use the same names")
            if isinstance(own[0], datasets.ClassLabel) and own[0] != feature:
                rows = rows.cast_column(column, own[0])
    return rows


def _see_that_parts_are_apart(files: Mapping[Any, Sequence[str]], source: str) -> None:
    """Refuse a file in two parts: the library takes any folder on its path for a part if the name matches."""
    where: dict[str, str] = {}
    for part, names in files.items():
        for name in names:
            if where.setdefault(name, str(part)) != str(part):
                raise UserError(
                    f"{name} of {source!r} is in the parts {where[name]} and {part}, by the names of its folders; "
                    "keep parts in folders train and test, and rename what is below them"
                )


def _part(source: str, part: str, rows: Any, limit: int | None) -> Rows:
    """The rows of a part, with its image and label columns, which are found by their types."""
    from datasets import ClassLabel
    from datasets import Image as Column

    columns = {kind: [n for n, f in rows.features.items() if isinstance(f, kind)] for kind in (Column, ClassLabel)}
    if not columns[Column] or not columns[ClassLabel]:
        raise UserError(f"{source!r} has the columns {', '.join(rows.features)}; it needs an image and a class label")
    (image, *_), (label, *_) = columns.values()
    names = tuple(rows.features[label].names)
    chosen = some(len(rows), limit)
    rows = rows.select(chosen) if chosen else rows
    if not len(rows):
        raise UserError(f"the {part} part of {source!r} is empty; it needs at least one image")
    unlabelled = sum(not (label is not None and 0 <= label < len(names)) for label in rows[label][:])
    if unlabelled:
        raise UserError(
            f"{unlabelled} of {len(rows)} images in the {part} part of {source!r} have no label; take them out, or "
            "give a part that has labels"
        )
    return Rows(rows.cast_column(image, Column(decode=False)), image, label, names, tuple(range(len(names))))


def _numbered_like(train: Rows, test: Rows, source: str) -> Rows:
    unknown = [name for name in test.names if name not in train.names]
    if unknown:
        raise UserError(
            f"the test part of {source!r} has classes that its training part does not have ({', '.join(unknown[:5])}; "
            f"training: {', '.join(train.names[:5])}{', …' if train.classes > 5 else ''}); give both the same names"
        )
    return test._replace(names=train.names, numbers=tuple(map(train.names.index, test.names)))


def some(count: int, limit: int | None) -> list[int] | None:
    """The indices of ``limit`` random examples out of ``count``, the same at every call; None if all are used."""
    if limit is None or limit >= count:
        return None
    chosen: list[int] = np.random.default_rng(0).permutation(count)[:limit].tolist()
    return chosen
