"""The measures by name. To add one, write a class (`adai.lab.measure.base.Measure`), and add it here."""

from collections.abc import Mapping
from typing import Any

from adai.errors import UserError
from adai.lab.measure.base import Asked, Measure
from adai.lab.measure.curvature.kept import Flatness
from adai.lab.measure.stability.kept import Stability

MEASURES: dict[str, Measure] = {measure.name: measure for measure in (Flatness(), Stability())}


def asked(given: "Measure | Asked | str", every: int = 0) -> Asked:
    """A measure as a comparison takes it: by name, as an instance, or as `Asked`.

    Args:
        given: the measure.
        every: `Asked.every`, unless ``given`` is an `Asked`.

    Raises:
        UserError: there is no measure of that name.
    """
    if isinstance(given, Asked):
        return given
    if isinstance(given, Measure):
        return Asked(given, every)
    if given not in MEASURES:
        raise UserError(f"unknown measure {given!r}; choose from {', '.join(MEASURES)}, or give a Measure of your own")
    return Asked(MEASURES[given], every)


def defaults(name: str) -> Mapping[str, Any]:
    """Values for the settings that a record of an earlier version lacks; empty for a measure of the user's own."""
    return MEASURES[name].defaults if name in MEASURES else {}
