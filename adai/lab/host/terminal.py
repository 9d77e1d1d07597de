"""The terminal that every command writes to."""

from rich.console import Console


def terminal() -> Console:
    """A console that shows text literally: square brackets and colons are not rich's markup."""
    return Console(markup=False, emoji=False, highlight=False)
