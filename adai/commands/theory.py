"""`adai theory`: the table of results, one result for the user's inputs, a fixtures file, the page."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.host.terminal import terminal
from adai.report.fitting import Fitting
from adai.theory import page
from adai.theory.escape import Escape
from adai.theory.fixtures import check
from adai.theory.record import KINDS, Result, Value
from adai.theory.results import RESULTS, find
from adai.theory.saddle import Displacement
from adai.theory.symbols import LISTS, SYMBOLS


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    symbols = {name: value for name in SYMBOLS if (value := getattr(options, name, None)) is not None}
    chosen = [name for name in ("key", "check", "docs") if getattr(options, name) is not None]
    if len(chosen) > 1:
        raise UserError("give one of KEY, --check and --docs, not several")
    if symbols and chosen != ["key"]:
        raise UserError(f"--{SYMBOLS[next(iter(symbols))].flag} needs a result; give its key first")
    try:
        if options.check is not None:
            return _check(options.check)
        if options.docs is not None:
            return _write(options.docs)
        if options.key is not None:
            return _show(find(options.key), symbols)
    except ValueError as error:
        raise UserError(str(error)) from error
    return _list()


def _list() -> int:
    table = Table(title="the paper's results, and ours (N); adai theory KEY says what is wrong", title_justify="left")
    for column in ("key", "result", "in the paper", "kind"):
        table.add_column(column, no_wrap=column == "key")
    table.add_column("printed / true", justify="right")
    for result in RESULTS:
        quotient = page.ratio(result, result.inputs)
        shown = "" if quotient is None else page.shown(quotient).replace(", ", "\n")
        table.add_row(result.key, result.name, result.reference, result.kind, shown)
    console = terminal()
    console.print(Fitting(table))
    console.print("\n".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items()))
    console.print("printed / true: at the example of adai theory KEY; true is exact where known, else corrected")
    return 0


def _show(result: Result, symbols: Mapping[str, Any]) -> int:
    unknown = [SYMBOLS[name].flag for name in symbols if name not in result.inputs]
    if unknown:
        known = ", ".join(f"--{SYMBOLS[name].flag}" for name in result.inputs) or "no options"
        raise UserError(f"{result.key} has no --{unknown[0]}; it takes {known}")
    inputs = {**result.inputs, **{name: _plain(result, name, values) for name, values in symbols.items()}}
    with np.errstate(all="ignore"):  # an overflow is shown as inf
        answers = _answers(result, inputs)  # before anything is printed, because it may refuse the inputs
    console = terminal()
    lines = [f"{result.name} ({result.reference}). {result.kind}: {KINDS[result.kind]}.", result.note]
    lines += [f"Valid: {result.valid}.", f"Inputs: {page.given(inputs)}" if inputs else ""]
    console.print("\n".join(line for line in lines if line))
    console.print(answers)
    return 0


def _answers(result: Result, inputs: Mapping[str, Any]) -> Fitting:
    table = Table()
    table.add_column("")
    table.add_column("formula", ratio=1, overflow="fold")
    printed = None if result.printed is None else result.printed.value(inputs)
    if inputs:
        beside = page.judgement(result, inputs) if result.limits else "printed / this"
        for column in [result.quantity, *([beside] if result.limits or result.printed else [])]:
            table.add_column(column, justify="right", no_wrap=True)
    for what, formula in result.formulas:
        value = formula.value(inputs)
        row = [what, formula.text]
        if value is not None:
            row.append(page.shown(value).replace(", ", "\n") + _parts(value))
            if result.limits:
                row.append(page.judged(result, inputs, value))
            elif printed is not None:
                row.append(page.shown(page.quotient(printed, value)).replace(", ", "\n"))
        table.add_row(*row)
    return Fitting(table)


def _parts(value: Value) -> str:
    """Drift and diffusion, or prefactor, exponent and iterations, each on its own line."""
    match value:
        case Displacement():
            parts = value._asdict()
        case Escape():
            parts = {"prefactor": value.prefactor, "exponent": value.exponent, "iterations": value.iterations}
        case _:
            return ""
    return "".join(f"\n{name} {page.shown(part)}" for name, part in parts.items())


def _plain(result: Result, name: str, given: Any) -> Any:
    """One number; if the result's example is a tuple, also several, or a matrix."""
    values = given if name in LISTS else [given]
    flag = f"--{SYMBOLS[name].flag}"
    matrix = any(isinstance(value, tuple) for value in values)
    if not isinstance(result.inputs[name], tuple):
        if matrix or len(values) > 1:
            raise UserError(f"{flag} takes one number, but got {'a matrix' if matrix else len(values)}")
        return values[0]
    if matrix and len(values) > 1:
        raise UserError(f"{flag} takes eigenvalues or one matrix in quotes, '2 .5; .5 1', but got {len(values)} values")
    return values[0] if matrix else tuple(values)


def _check(path: Path) -> int:
    results = check(path)
    failed = [result for result in results if not result.passed]
    for result in failed:
        print(f"FAILED {result.name}: expected {result.expected:.10g}, got {result.got:.10g}, rtol {result.rtol:g}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def _write(folder: Path) -> int:
    from adai.report.theory import draw_all  # imported here, because matplotlib is slow to import

    try:
        paths = draw_all(folder)
        write_whole(folder / "theory.md", lambda part: part.write_text(page.markdown(), encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; give another folder") from error
    print(f"Written: {folder}/theory.md and {len(paths)} figures")
    return 0
