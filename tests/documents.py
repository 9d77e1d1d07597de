"""The fenced blocks of README and docs. Each says by its language, or in a comment above it, what a test does with it.

- ``python``: the blocks of a page, one after the other, are a script, and `tests/test_documents.py` runs it. Above a
  block ``<!-- run by tests/test_x.py -->`` leaves it to that test, ``<!-- not run: reason -->`` to the reader, and
  ``<!-- saved as x.py -->`` puts it into a module of its own, which the script may import.
- ``sh``: commands, to be typed as they stand. They are parsed, and what they name has to be there.
- ``yaml``: configurations, which a test reads; ``math``: formulas; ``text``: anything else, such as usage and folders.
"""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LANGUAGES = {"python", "sh", "yaml", "math", "text"}

_BLOCK = re.compile(r"^(?:<!-- (.*?) -->\n+)?```([^\n]*)\n(.*?)^```$", re.M | re.S)


class Block(NamedTuple):
    """A fenced block, with the comment above it, "" if there is none."""

    mark: str
    language: str
    code: str


def name(page):
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


def blocks(page, *languages):
    """The page's fenced blocks; with languages, those alone."""
    found = [Block(*parts) for parts in _BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [block for block in found if not languages or block.language in languages]


def without_blocks(page):
    """The page's text without its fenced blocks."""
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def inline(page, command="adai [a-z][^`]*"):
    """The commands that stand within its sentences and tables."""
    return re.findall(rf"`({command})`", without_blocks(page))
