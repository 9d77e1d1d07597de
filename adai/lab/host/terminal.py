"""The terminal, as every command writes to it."""

from rich.console import Console


def terminal() -> Console:
    """A console that shows text as it is: square brackets and colons are not rich's markup."""
    return Console(markup=False, emoji=False, highlight=False)
