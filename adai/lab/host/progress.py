"""What long work shows while it goes on: a bar, in a terminal and in a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.jupyter import JupyterMixin
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def progress_bar(console: Console) -> Progress:
    """A bar with what is being done, its share, and the time left."""
    columns = (
        TextColumn("{task.description:30}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


@contextmanager
def live(first: RenderableType, console: Console) -> Iterator[Callable[[RenderableType], None]]:
    """Show something that changes, for as long as the block runs; call what is given with what to show next.

    A terminal draws it in place and clears it at the end. A notebook does so in the cell's output, where the last state
    stays. rich's own way needs ipywidgets there.
    """
    if not console.is_jupyter:
        with Live(first, console=console, refresh_per_second=4, transient=True) as shown:
            yield shown.update
        return
    from IPython.display import display

    handle = display(_Cell(first), display_id=True)
    yield lambda now: handle.update(_Cell(now))


class _Cell(JupyterMixin):
    """Makes a cell's output of anything that rich can draw."""

    def __init__(self, shown: RenderableType) -> None:
        self.shown = shown

    def __rich__(self) -> RenderableType:
        return self.shown
