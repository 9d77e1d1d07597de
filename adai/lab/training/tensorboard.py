"""Writes the rows of a run for TensorBoard."""

from pathlib import Path

from adai.lab.host.extras import needed
from adai.lab.results.run import Row


class Board:
    """Event files in a folder, with a scalar for each column and epoch.

    Args:
        folder: the folder of the event files.

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
        """Write the rows that have not been written yet."""
        with self._writer(str(self.folder), purge_step=self.shown + 1) as writer:
            for row in rows[self.shown :]:
                for name, value in row.items():
                    if value is not None and name != "epoch":
                        writer.add_scalar(name, value, row["epoch"])
        self.shown = len(rows)
