"""Tables for a terminal of any width: if one is too wide, each row becomes a few lines. No cell is cut off."""

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text


class Fitting:
    """A table if its widest words fit, else a paragraph for each row, with a line for each cell.

    Args:
        table: the table; its cells and headings are strings, and the first cell of a row is its name.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The content for rich."""
        if _needed(self.table) <= options.max_width:
            yield self.table
        else:
            yield Text("\n".join(_paragraphs(self.table)))


def _needed(table: Table) -> int:
    """The width that the table needs so that no word is cut off."""
    needed = 0
    for column in table.columns:
        texts = map(str, (column.header, *column.cells))
        words = [word for text in texts for word in (text.splitlines() if column.no_wrap else text.split())]
        needed += max(map(cell_len, words), default=0) + 2  # with a space on each side
    outside = (2 if table.show_edge else 0) - (0 if table.pad_edge else 2)
    return needed + len(table.columns) - 1 + outside  # with the lines between columns


def _paragraphs(table: Table) -> list[str]:
    """The title, then for each row its name and a line for each other cell that is not empty."""
    lines = [str(table.title)] if table.title else []
    headings = [_on_one_line(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        name, *cells = map(_on_one_line, row)
        lines.append(f"{headings[0]} {name}".strip())
        lines += [f"  {heading}: {cell}" for heading, cell in zip(headings[1:], cells, strict=True) if cell]
    return lines


def _on_one_line(cell: object) -> str:
    """A cell without its line breaks."""
    return str(cell).replace("-\n", "-").replace("\n", " ")
