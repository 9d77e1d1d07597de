"""The kind of a task by its name: images, a text, a table, or your own function."""

from pathlib import PurePath
from typing import Literal, NamedTuple

Kind = Literal["images", "text", "table", "own"]


class File(NamedTuple):
    """A data set in one file.

    Attributes:
        file: the name of the file, in a folder with the name of the data set.
        target: the column to predict.
    """

    file: str
    target: str | None = None


TEXTS = {"shakespeare": File("input.txt")}
TABLES = {"housing": File("housing.csv", "median_house_value")}


def kind_of(task: str) -> Kind:
    """The kind of a task: ``package.module:function`` is your own, ``*.txt`` a text, ``*.csv`` a table."""
    suffix = PurePath(task).suffix.lower()
    if task in TEXTS or suffix == ".txt":
        return "text"
    if task in TABLES or suffix == ".csv":
        return "table"
    return "own" if ":" in task else "images"
