"""The rows of a run for TensorBoard."""

from pathlib import Path

from adai.lab.host.extras import needed
from adai.lab.results.run import Row


class Board:
    """Event files in a folder, one scalar a column and epoch.

    Args:
        folder: where they go.

    Raises:
        UserError: the package tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shown = 0
        with needed("tensorboard", by="`tensorboard`", install="tensorboard"):
            from torch.utils.tensorboard import SummaryWriter
        self._writer = SummaryWriter

    def show(self, rows: list[Row]) -> None:
        """Write the epochs that are new; a run that goes on repeats none."""
        with self._writer(str(self.folder), purge_step=self.shown + 1) as writer:
            for row in rows[self.shown :]:
                for name, value in row.items():
                    if value is not None and name != "epoch":
                        writer.add_scalar(name, value, row["epoch"])
        self.shown = len(rows)
