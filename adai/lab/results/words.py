"""Numbers and lists as text for sentences."""

from collections.abc import Sequence


def joined(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def short(value: float) -> str:
    """The number with three significant digits; from 1000 on, all digits before the point."""
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
