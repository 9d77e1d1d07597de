"""The rows of a run for TensorBoard."""

from pathlib import Path

from adai.errors import UserError
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
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("`tensorboard` needs the package tensorboard; pip install tensorboard") from error
        self._writer = SummaryWriter

    def show(self, rows: list[Row]) -> None:
        """Write the epochs that are new; a run that goes on repeats none."""
        with self._writer(str(self.folder), purge_step=self.shown + 1) as writer:
            for row in rows[self.shown :]:
                for name, value in row.items():
                    if value is not None and name != "epoch":
                        writer.add_scalar(name, value, row["epoch"])
        self.shown = len(rows)
