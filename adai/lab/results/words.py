"""Numbers and lists as sentences have them."""

from collections.abc import Sequence


def joined(parts: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def short(value: float) -> str:
    """Three digits, without an exponent in front of the point."""
    return f"{value:#.3g}".rstrip(".") if abs(value) < 1000 else f"{value:,.0f}"
