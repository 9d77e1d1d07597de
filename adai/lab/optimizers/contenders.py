"""The optimizers of a comparison: a label for each, and a recipe whose options and ranges have been checked."""

import inspect
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from adai.errors import UserError, did_you_mean
from adai.lab.optimizers.named import Maker, checked, importable, maker, options_of, spec_of
from adai.lab.optimizers.recipes import RECIPES, WRAPPED, Range, Recipe, defaults, recipe

# An optimizer as users give it: a name (adai, torch:NAdam, package.module:thing), a class, a function or a recipe.
Thing = str | Maker | Recipe

# What tuning searches of an option, as users give it.
Ends = Range | tuple[float, float]

LONGEST = 60  # characters of a label, which is the name of a folder and is printed in tables
_LABEL = re.compile(r"\w[\w.+-]*( [\w.+-]+)*")
_FOLDERS = ("figures", "lr-grid", "tuning")  # other folders in the folder of a comparison


def contender(
    label: str,
    thing: Thing,
    options: Mapping[str, Any] | None = None,
    ranges: Mapping[str, Ends] | None = None,
) -> Recipe:
    """The recipe of an optimizer that takes part in a comparison under a label.

    Args:
        label: the name of its folder, and its name in tables unless it is the name of a recipe. Empty for the
            optimizer's own name.
        thing: the name of an optimizer, see `adai.lab.optimizers.recipes.recipe`; a class of optimizers; a function
            that takes the model and returns an optimizer; or a `Recipe`. An optimizer that cannot be imported, such as
            a lambda, runs only in this process: see `adai.lab.optimizers.named.importable`.
        options: keyword arguments that differ from the recipe's.
        ranges: the ranges of options that tuning searches, besides the recipe's: a `Range`, or a pair ``(low, high)``.

    Raises:
        UserError: the label cannot be the name of a folder or is the name of another recipe; the optimizer does not
            exist, does not take one of the options, or lacks one; or a range is not a pair of numbers, or is empty.
        ModuleNotFoundError: the optimizer is from pytorch_optimizer, which is not installed.

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
    """The recipe of an optimizer under a label. Its options and ranges are not checked.

    Raises:
        UserError: the label cannot be the name of a folder or is the name of another recipe; or the optimizer does not
            exist.
        ModuleNotFoundError: the optimizer is from pytorch_optimizer, which is not installed.
    """
    base = _base(label, thing)
    label = label or base.name
    _check_label(label, base.spec)
    return base._replace(label=base.label if label == base.name else label, name=label)


def _base(label: str, thing: Thing) -> Recipe:
    """The recipe of an optimizer under its own name."""
    if isinstance(thing, str):
        if ":" not in thing and thing not in RECIPES and (hint := did_you_mean(thing, RECIPES)):
            raise UserError(f"unknown optimizer {thing!r}{hint}")
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
    """Split ``label=name`` into the label and the name of an optimizer; the label of ``name`` is empty."""
    label, equals, spec = text.partition("=")
    if equals and not (label and spec):
        raise UserError(f"{text!r}: give label=name, such as fast=adai or mine=package.module:thing")
    return (label, spec) if equals else ("", text)


def together(recipes: Iterable[Recipe]) -> dict[str, Recipe]:
    """The recipes of a comparison by label.

    Raises:
        UserError: there are no recipes, or two have the same label.
    """
    found: dict[str, Recipe] = {}
    for each in recipes:
        if each.name in found:
            raise UserError(
                f"two optimizers have the label {each.name!r}; give each its own label: fast={each.spec} "
                f"slow={found[each.name].spec}"
            )
        found[each.name] = each
    if not found:
        raise UserError("no optimizer is named; give at least one, such as adai")
    return found


def plain(value: Any, name: str, label: str) -> Any:
    """The value of an option as JSON stores it, for the settings of a run.

    Args:
        value: the value.
        name: the name of the option. The value of an option in `WRAPPED` may be a class, which becomes its name.
        label: the label of the optimizer.

    Raises:
        UserError: JSON cannot store the value.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return [plain(each, name, label) for each in value]
    if name in WRAPPED and callable(value):
        return spec_of(value, f"{name} of {label}")
    raise UserError(
        f"{label}: {name} is of type {type(value).__name__}; give a number, a string, True, False, None or a tuple of "
        "these, or write a function that takes the model and returns the optimizer"
    )


def _check_label(label: str, spec: str) -> None:
    if label in RECIPES and label != spec:
        raise UserError(f"the label {label!r} is the name of a recipe, but stands for {spec!r}; give another label")
    if not _LABEL.fullmatch(label) or label in _FOLDERS:
        why = "names another folder" if label in _FOLDERS else "may only have letters, digits, spaces and _ . + -"
        raise UserError(f"the label {label!r} {why}; give another, as in mine=package.module:thing")
    if len(label) > LONGEST:
        raise UserError(f"the label {label!r} has more than {LONGEST} characters; give a shorter one")


def _check_options(label: str, make: Maker, given: Mapping[str, Any]) -> None:
    """Check that the optimizer takes these options, and that it needs no others."""
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
    """The range as a `Range`."""
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
            raise UserError(
                f"the range of {label}.{name} is {low:g} to {high:g}; the second number has to be larger than the first"
            )
        if log and low <= 0:
            raise UserError(f"the range of {label}.{name} begins at {low:g}; a logarithmic range has to begin above 0")


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(names) or "none"


__all__ = ["Ends", "Thing", "contender", "importable", "labelled", "plain", "split", "together"]
