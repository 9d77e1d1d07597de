"""The measures that have a name. To add one: its class (`adai.lab.measure.base.Measure`), and a line here."""

from collections.abc import Mapping
from typing import Any

from adai.errors import UserError
from adai.lab.measure.base import Asked, Measure
from adai.lab.measure.curvature.kept import Flatness
from adai.lab.measure.stability.kept import Stability

MEASURES: dict[str, Measure] = {measure.name: measure for measure in (Flatness(), Stability())}


def asked(given: "Measure | Asked | str", every: int = 0) -> Asked:
    """A measure as `compare` takes it: by name, as an instance, or with how often.

    Args:
        given: the measure.
        every: how often, where it does not say so itself.

    Raises:
        UserError: there is none of that name.
    """
    if isinstance(given, Asked):
        return given
    if isinstance(given, Measure):
        return Asked(given, every)
    if given not in MEASURES:
        raise UserError(f"unknown measure {given!r}; choose from {', '.join(MEASURES)}, or give a Measure of your own")
    return Asked(MEASURES[given], every)


def defaults(name: str) -> Mapping[str, Any]:
    """The settings that a record of an earlier version lacks; none for a measure that has no name here."""
    return MEASURES[name].defaults if name in MEASURES else {}
