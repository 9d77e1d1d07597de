"""A section of the page as a measure gives it: what is said, its table, its files and its figures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from adai.report.picture import Missing, Picture
from adai.report.tables import Cells


class Section(NamedTuple):
    """A section, or a part of one.

    Args:
        key: its anchor in the page.
        title: above it.
        paragraphs: what it says first.
        table: with a row for each of the optimizers in ``optimizers``; None without.
        optimizers: names, for the colours of the rows.
        note: below the table; may be empty.
        files: the numbers, which the page offers as downloads.
        pictures: its figures.
        parts: below all that, each under a title of its own.
        command: that which measures what the section is about, where nothing was measured.
    """

    key: str
    title: str
    paragraphs: Sequence[str] = ()
    table: Cells | None = None
    optimizers: Sequence[str] = ()
    note: str = ""
    files: Sequence[Path] = ()
    pictures: Sequence[Picture | Missing] = ()
    parts: Sequence["Section"] = ()
    command: str = ""
