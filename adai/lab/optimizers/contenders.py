"""The optimizers of a comparison: a label for each, and a recipe whose options and ranges have been checked."""

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adai.errors import UserError
from adai.lab.optimizers.named import Maker, checked, importable, maker, options_of, spec_of
from adai.lab.optimizers.recipes import RECIPES, WRAPPED, Range, Recipe, defaults, recipe

# The name of an optimizer (adai, torch:NAdam, package.module:thing), a class or function that makes it, or a recipe.
Thing = str | Maker | Recipe

# What tuning searches of an option, as users give it.
Ends = Range | tuple[float, float]

LONGEST = 60  # letters of a label, which is the name of a folder and stands in tables
_LABEL = re.compile(r"\w[\w.+-]*( [\w.+-]+)*")
_FOLDERS = ("figures", "lr-grid", "tuning")  # of a comparison, beside those of its optimizers


def contender(
    label: str,
    thing: Thing,
    options: Mapping[str, Any] | None = None,
    ranges: Mapping[str, Ends] | None = None,
) -> Recipe:
    """The recipe of an optimizer that takes part under a label.

    Args:
        label: the name of its folder and, unless it is that of a recipe, in tables; empty for its own name.
        thing: the name of an optimizer, see `recipe`; a class of optimizers; a function that takes the model and
            returns an optimizer; or a `Recipe`. Anything that cannot be imported, such as a lambda, runs in this
            process only: see `adai.lab.optimizers.named.importable`.
        options: keyword arguments other than the recipe's.
        ranges: what tuning searches, other than the recipe's; a pair is ``(low, high)``.

    Raises:
        UserError: the label cannot be a folder's name or is that of another recipe; there is no such optimizer; it does
            not take one of the options, or lacks one; or a range is no pair of numbers, or is empty.
        ModuleNotFoundError: it comes from pytorch_optimizer, which is not installed.

    Example:
        >>> from adai.lab.optimizers.contenders import contender
        >>> contender("fast", "torch:NAdam", {"lr": 0.01}).options
        {'lr': 0.01, 'weight_decay': 0.0}
    """
    base = labelled(label, thing)
    own = {**base.options, **{name: plain(value, name, base.name) for name, value in (options or {}).items()}}
    chosen = {name: _range(ends, name, base.name) for name, ends in {**base.ranges, **(ranges or {})}.items()}
    _check_options(base.name, base.maker, own)
    _check_ranges(base.name, base.maker, chosen, own)
    return base._replace(options=own, ranges=chosen)


def labelled(label: str, thing: Thing) -> Recipe:
    """The recipe under a label, without further options and ranges, which are not checked here.

    Raises:
        UserError: the label cannot be a folder's name or is that of another recipe; or there is no such optimizer.
        ModuleNotFoundError: it comes from pytorch_optimizer, which is not installed.
    """
    base = _base(label, thing)
    label = label or base.name
    _check_label(label, base.spec)
    return base._replace(label=base.label if label == base.name else label, name=label)


def _base(label: str, thing: Thing) -> Recipe:
    """What the thing stands for, under its own name."""
    if isinstance(thing, str):
        return recipe(thing)
    if not isinstance(thing, Recipe):
        return _of(label or getattr(thing, "__name__", type(thing).__name__), checked(thing, label), {})
    if thing.spec:
        return thing
    if isinstance(thing.make, str):
        named = recipe(thing.make)
        return thing._replace(options={**named.options, **thing.options}, name=thing.label, spec=thing.make)
    made = _of(thing.label, checked(thing.make, thing.label), thing.options)
    return made._replace(ranges=thing.ranges)


def _of(label: str, make: Maker, options: Mapping[str, Any]) -> Recipe:
    own = {name: plain(value, name, label) for name, value in options.items()}
    return Recipe(label, make, {**defaults(make), **own}, name=label, spec=spec_of(make, label))


def split(text: str) -> tuple[str, str]:
    """The label, empty if there is none, and the name of an optimizer, of ``label=name`` or ``name``."""
    label, equals, spec = text.partition("=")
    if equals and not (label and spec):
        raise UserError(f"{text!r}: give label=name, such as fast=adai or mine=package.module:thing")
    return (label, spec) if equals else ("", text)


def together(recipes: Iterable[Recipe]) -> dict[str, Recipe]:
    """Those of a comparison by label.

    Raises:
        UserError: there is none, or two have the same label.
    """
    found: dict[str, Recipe] = {}
    for each in recipes:
        if each.name in found:
            raise UserError(
                f"two optimizers have the label {each.name!r}; give each one of its own: fast={each.spec} "
                f"slow={found[each.name].spec}"
            )
        found[each.name] = each
    if not found:
        raise UserError("no optimizer is named; give at least one, such as adai")
    return found


def plain(value: Any, name: str, label: str) -> Any:
    """The value of an option as JSON has it, for the settings of a run.

    Raises:
        UserError: JSON has none for it.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [plain(each, name, label) for each in value]
    if name in WRAPPED and callable(value):
        return spec_of(value, f"{name} of {label}")
    raise UserError(
        f"{label}: {name} is {type(value).__name__}; give a number, a text, True, False, None or a tuple of these, or "
        "write a function of the model that returns the optimizer"
    )


def _check_label(label: str, spec: str) -> None:
    if label in RECIPES and label != spec:
        raise UserError(f"the label {label!r} is the name of a recipe, but stands for {spec!r}; give another label")
    if not _LABEL.fullmatch(label) or label in _FOLDERS:
        why = "names another folder" if label in _FOLDERS else "may have letters, digits, spaces and _ . + - alone"
        raise UserError(f"the label {label!r} {why}; give another, as in mine=package.module:thing")
    if len(label) > LONGEST:
        raise UserError(f"the label {label!r} is longer than {LONGEST} letters; give a shorter one")


def _check_options(label: str, make: Maker, given: Mapping[str, Any]) -> None:
    """See to it that the optimizer takes these, and needs no others."""
    takes = options_of(make)
    for name, value in given.items():
        if name not in takes.defaults and not takes.others:
            raise UserError(f"{label} takes no option {name!r}; it takes {_listed(takes.defaults)}")
        if name in WRAPPED and isinstance(value, str) and ":" in value:
            maker(value)
    missing = [n for n, default in takes.defaults.items() if default is inspect.Parameter.empty and n not in given]
    if missing:
        name = missing[0]
        raise UserError(f"{label} has no default for {name}; give {label}.{name} a value in `options`")


def _range(ends: Ends, name: str, label: str) -> Range:
    """The range between the ends, of a pair too."""
    if isinstance(ends, tuple) and len(ends) in (2, 3) and all(isinstance(end, int | float) for end in ends):
        return Range(*ends)
    raise UserError(
        f"the range of {label}.{name} is {ends!r}; give two numbers, (low, high), or Range(low, high, log=True)"
    )


def _check_ranges(label: str, make: Maker, ranges: Mapping[str, Range], given: Mapping[str, Any]) -> None:
    takes = options_of(make)
    for name, (low, high, log) in ranges.items():
        if name not in takes.defaults and name not in given and not takes.others:
            raise UserError(f"{label} takes no option {name!r} to search; it takes {_listed(takes.defaults)}")
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise UserError(f"the range of {label}.{name} is {low:g} to {high:g}; the second has to be the larger one")
        if log and low <= 0:
            raise UserError(f"the range of {label}.{name} begins at {low:g}; a logarithmic one has to begin above 0")


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


__all__ = ["Ends", "Thing", "contender", "importable", "labelled", "plain", "split", "together"]
