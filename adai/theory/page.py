"""Generates docs/theory.md from the table of results."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from adai.theory import tex
from adai.theory.bounds import Array, checked
from adai.theory.escape import Escape
from adai.theory.record import KINDS, Result, Value, number
from adai.theory.results import RESULTS
from adai.theory.symbols import SYMBOLS

HEAD = """# The theory, checked

The numbered results of *Adai: Separating the Effects of Adaptive Learning Rate and Momentum Inertia* (Xie et al.,
arXiv 2006.15815): as printed, corrected, and the exact answer if there is one. `adai theory --docs docs`
generates this page and its figures from the table in `adai/theory/results.py`; `adai theory KEY` prints the numbers for
your own inputs. Results that are ours and not in the paper are at the end, with kind N.

The kinds are about what is printed: R means that a formula, or a step of its proof, is wrong. What the paper concludes
from it can still hold, perhaps under a condition: [which of the paper's claims hold](claims.md) says so for each claim,
from simulations and trained nets.
"""


def figure(result: Result) -> str:
    """The path of a result's figure beside the page."""
    return f"theory/{result.key}.png"


def anchor(key: str) -> str:
    """The anchor of a result's heading on the page."""
    return key.replace(".", "")


def markdown() -> str:
    """The whole page."""
    kinds = "\n".join(f"- **{kind}**: {meaning}" for kind, meaning in KINDS.items())
    return "\n".join([HEAD, kinds, "", _overview(), *(_section(result) for result in RESULTS), _symbols()])


def shown(value: Any) -> str:
    """One or several numbers in six digits, separated by commas."""
    return ", ".join(f"{x:.6g}" for x in np.atleast_1d(number(value)))


def ratio(result: Result, inputs: Mapping[str, Any]) -> Any:
    """The printed value over the best known one: the exact value if known, else the corrected one; None if neither."""
    if result.printed is None:
        return None
    values = [formula.value(inputs) for _, formula in result.formulas]
    best = next((value for value in [*values[2 if result.corrected else 1 :], *values[1:]] if value is not None), None)
    if values[0] is None or best is None:
        return None
    return quotient(values[0], best)


def quotient(printed: Value, other: Value) -> Any:
    """The ratio of two values. Escape times are divided part by part, which does not overflow."""
    if isinstance(printed, Escape) and isinstance(other, Escape):
        return printed.prefactor / other.prefactor * np.exp(printed.exponent - other.exponent)
    return number(printed) / number(other)


def judged(result: Result, inputs: Mapping[str, Any], value: Value) -> str:
    """The input that the value limits, divided by the value, and whether this is stable: below 1."""
    (given,) = checked(**{result.limits: inputs[result.limits]})
    margin = given / number(value)
    return f"{shown(margin)}, {'stable' if np.all(margin < 1) else 'not stable'}"


def judgement(result: Result, inputs: Mapping[str, Any]) -> str:
    """The heading of the column of `judged`."""
    return f"{SYMBOLS[result.limits].flag} {shown(inputs[result.limits])} / limit"


def given(inputs: Mapping[str, Any]) -> str:
    """The inputs as the command's options; a matrix in quotes, row by row."""
    return " ".join(f"--{SYMBOLS[name].flag} {_typed(np.asarray(value))}" for name, value in inputs.items())


def _typed(value: Array) -> str:
    if value.ndim == 2:
        return f"'{'; '.join(_typed(row) for row in value)}'"
    return " ".join(f"{x:.6g}" for x in np.atleast_1d(value))


def _overview() -> str:
    rows = ["| key | result | in the paper | kind | printed / true, example |", "|--|--|--|--|--|"]
    for result in RESULTS:
        times = ratio(result, result.inputs)
        rows.append(
            f"| [{result.key}](#{anchor(result.key)}) | {result.name} | {result.reference} | {result.kind} "
            f"| {'' if times is None else shown(times)} |"
        )
    return "\n".join(rows) + "\n"


def _section(result: Result) -> str:
    lines = [
        f"## {result.key}",
        "",
        f"**{result.name}** ({result.reference}). {result.kind}: {KINDS[result.kind]}.",
        "",
    ]
    lines += [f"- {what}: {tex.markdown(formula.text)}" for what, formula in result.formulas]
    lines += [f"- valid: {result.valid}", "", result.note, ""]
    if result.inputs:
        lines += _example(result)
    if result.picture:
        lines += [f"![{result.picture}]({figure(result)})", ""]
    elif result.sweep:
        flag = SYMBOLS[result.sweep.symbol].flag
        lines += [f"![{result.quantity} of {result.key} against {flag}]({figure(result)})", ""]
    return "\n".join(lines)


def _example(result: Result) -> list[str]:
    lines = [f"`adai theory {result.key} {given(result.inputs)}`", "", f"| {result.quantity} | value |", "|--|--|"]
    if result.limits:
        lines[2:] = [f"| {result.quantity} | value | {judgement(result, result.inputs)} |", "|--|--|--|"]
    kinds = [what for what, _ in result.formulas]
    for what, formula in result.formulas:
        value = formula.value(result.inputs)
        if value is not None:
            name = what if kinds.count(what) == 1 else f"{what}: {tex.markdown(formula.text)}"
            last = f" {judged(result, result.inputs, value)} |" if result.limits else ""
            lines.append(f"| {name} | {shown(value)} |{last}")
    return [*lines, ""]


def _symbols() -> str:
    rows = ["## Symbols", "", "| option | meaning | has to be |", "|--|--|--|"]
    used = {name for result in RESULTS for name in result.inputs}
    for name, symbol in SYMBOLS.items():
        if name in used:
            meaning = symbol.meaning.replace("|", "\\|")
            rows.append(f"| `--{symbol.flag}` | {meaning} | {symbol.bound} |")
    return "\n".join(rows) + "\n"
