"""The display of progress: a bar, in a terminal and in a notebook."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.jupyter import JupyterMixin
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def progress_bar(console: Console) -> Progress:
    """A bar with a description, the share that is done, and the time left."""
    columns = (
        TextColumn("{task.description:30}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    return _Bars(*columns, console=console)


class _Bars(Progress):
    def stop(self) -> None:
        """End the display. If an error came before anything was done, leave no trace; rich leaves an empty line."""
        if any(task.completed for task in self.tasks):
            super().stop()
        else:
            self.live.transient = True
            self.live.stop()


@contextmanager
def live(first: RenderableType, console: Console) -> Iterator[Callable[[RenderableType], None]]:
    """Show something that changes while the block runs.

    A terminal draws it in place and clears it at the end. A notebook draws it in the output of the cell, where the last
    state stays; rich's own display would need ipywidgets there.

    Args:
        first: what to show first.
        console: where to show it.

    Yields:
        A function that shows something else in its place.
    """
    if not console.is_jupyter:
        with Live(first, console=console, refresh_per_second=4, transient=True) as shown:
            yield shown.update
        return
    from IPython.display import display

    handle = display(_Cell(first), display_id=True)
    yield lambda now: handle.update(_Cell(now))


class _Cell(JupyterMixin):
    """The output of a cell for anything that rich can draw."""

    def __init__(self, shown: RenderableType) -> None:
        self.shown = shown

    def __rich__(self) -> RenderableType:
        return self.shown
