"""The error that a command reports in one line, with exit status 2, and the hint at a name that was meant."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """The user's request cannot be carried out. The message says in one line what is wrong and what to do."""


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The end of a message about an unknown name: ``; did you mean adai?``, or nothing if no name is near.

    A name that differs only in case is the only one that it gives.
    """
    lower: dict[str, str] = {each.lower(): each for each in names}
    same = lower.get(name.lower())
    near = [same] if same else [lower[each] for each in get_close_matches(name.lower(), lower, n=2)]
    return f"; did you mean {' or '.join(near)}?" if near else ""
