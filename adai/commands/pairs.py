"""Pairs that set an optimizer's options: ``adam=3e-4``, ``mine.beta=0.8``, ``mine.beta=0.5:0.99``."""

from collections.abc import Sequence
from typing import Any

from adai.errors import UserError
from adai.lab.optimizers.named import value
from adai.lab.optimizers.recipes import Range

Overrides = dict[str, dict[str, Any]]


def options_of_one(given: Sequence[str]) -> dict[str, Any]:
    """What ``beta=0.8`` says, of the only optimizer that runs."""
    pairs = [_pair(text, "option", "beta=0.8") for text in given]
    return {name: value(said) for name, said in pairs}


def overrides(
    labels: Sequence[str], lrs: Sequence[str], weight_decays: Sequence[str], options: Sequence[str]
) -> Overrides:
    """What ``adam=3e-4`` and ``mine.beta=0.8`` say, by label and option.

    Raises:
        UserError: a pair is not understood, no optimizer has its label, or an option is given twice.
    """
    found: Overrides = {}
    for name, texts in {"lr": lrs, "weight_decay": weight_decays}.items():
        for text in texts:
            label, number = _short(text, name, labels)
            _set(found, label, name, number)
    for text in options:
        label, name, said = _dotted(text, "option", "0.8", labels)
        _set(found, label, name, value(said))
    return found


def ranges(labels: Sequence[str], given: Sequence[str]) -> dict[str, dict[str, Range]]:
    """What ``mine.beta=0.5:0.99`` and ``mine.beta=1e-3:1:log`` say, by label and option.

    Raises:
        UserError: a pair is not understood, no optimizer has its label, or an option is given twice.
    """
    found: Overrides = {}
    for text in given:
        label, name, said = _dotted(text, "range", "0.5:0.99", labels)
        _set(found, label, name, _range(said, text))
    return found


def _range(said: str, text: str) -> Range:
    """What ``0.5:0.99`` or ``1e-3:1:log`` says."""
    match said.removesuffix(":log").split(":"):
        case [low, high] if all(isinstance(value(end), int | float) for end in (low, high)):
            return Range(value(low), value(high), said.endswith(":log"))
    raise UserError(f"--range {text}: give low:high or low:high:log, such as mine.beta=0.5:0.99")


def _set(found: Overrides, label: str, name: str, said: Any) -> None:
    own = found.setdefault(label, {})
    if name in own and own[name] != said:
        raise UserError(f"{label}.{name} is given twice, as {own[name]} and {said}; give it once")
    own[name] = said


def _short(text: str, name: str, labels: Sequence[str]) -> tuple[str, float]:
    """The label and the number of ``adam=3e-4``."""
    label, _, number = text.rpartition("=")
    said = value(number)
    known = isinstance(said, int | float) and (0 < said < float("inf") or (name == "weight_decay" and said == 0))
    if label not in labels or not known:
        what = "a number above 0" if name == "lr" else "a number, 0 or more"
        raise UserError(
            f"--{name.replace('_', '-')} {text}: give one of the optimizers that run ({', '.join(labels)}) and {what}, "
            f"such as {labels[0]}=3e-4"
        )
    return label, float(said)


def _dotted(text: str, flag: str, example: str, labels: Sequence[str]) -> tuple[str, str, str]:
    """The label, the option and what is said of it, of ``mine.beta=0.8``."""
    left, said = _pair(text, flag, f"{labels[0]}.beta={example}")
    label, _, name = left.rpartition(".")
    if label not in labels or not name:
        raise UserError(
            f"--{flag} {text}: give one of the optimizers that run ({', '.join(labels)}) and an option, such as "
            f"{labels[0]}.beta={example}"
        )
    return label, name, said


def _pair(text: str, flag: str, example: str) -> tuple[str, str]:
    name, _, said = text.partition("=")
    if not (name and said):
        raise UserError(f"--{flag} {text}: give a name and a value, such as {example}")
    return name, said
