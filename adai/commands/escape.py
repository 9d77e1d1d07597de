"""`adai escape`: mean escape time against sharpness."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from adai.commands.kept import GOES_ON, kept_rows
from adai.commands.status import INTERRUPTED
from adai.errors import UserError
from adai.lab.host.progress import progress_bar
from adai.lab.host.terminal import terminal
from adai.lab.results.run import read_json
from adai.report import escape as report
from adai.report.rows import write_csv, write_json
from adai.simulate.rules import Rule
from adai.simulate.settings import SETTINGS, Setting
from adai.simulate.study import Store, Study
from adai.simulate.study import run as run_study


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    folder: Path = options.out or Path("runs") / f"escape-{options.setting}"
    if options.draw_only:
        _draw_kept(terminal(), folder)
        return 0
    setting = SETTINGS[options.setting]
    names = [name for given in options.optimizers or setting.first for name in given.split(",") if name]
    study = Study(
        setting=options.setting,
        rules=_rules(setting, names, options.lr),
        ks=tuple(sorted(set(options.k or setting.ks))),
        replicas=options.replicas,
        seed=options.seed,
        cap=options.cap,
    )
    return carry_out(study, folder, threads=options.threads, json_file=options.json)


def carry_out(
    study: Study, folder: Path, *, threads: int | None = None, json_file: Path | None = None, remark: str = ""
) -> int:
    """Run the missing replicas of a study and draw the whole study in the folder; returns the exit status.

    Args:
        study: the study to run.
        folder: the folder of its results.
        threads: the number of threads; None for one per core.
        json_file: also gets the numbers.
        remark: is shown in tables and figures.
    """
    console = terminal()
    try:
        with progress_bar(console) as bars:
            bar = bars.add_task("replicas", total=len(study.points()) * study.replicas)
            store = run_study(study, folder, threads=threads, progress=lambda count: bars.update(bar, advance=count))
    except KeyboardInterrupt:
        print(GOES_ON, file=sys.stderr)
        return INTERRUPTED
    _report(console, study, store, folder, json_file, remark)
    return 0


def _draw_kept(console: Console, folder: Path) -> None:
    """Draw the numbers that the folder has, from which the replicas may be missing.

    Raises:
        UserError: the folder has no escape times, or damaged ones.
    """
    file = folder / "escape.json"
    content = read_json(file) if file.exists() else {}
    table: list[report.Row] = kept_rows(content, report.Row, file)
    if not table:
        raise UserError(f"{folder} has no escape times to draw; run adai escape without --draw-only, or give --out")
    report.draw(folder / "escape.png", table, content.get("remark", ""))
    console.print(f"Figure: {folder}/escape.png", soft_wrap=True)


def _rules(setting: Setting, names: list[str], rates: list[str]) -> dict[str, Rule]:
    rules = {}
    for name in names:
        if name not in setting.rules:
            raise UserError(f"unknown optimizer {name!r}; choose from {', '.join(setting.rules)}")
        rules[name] = setting.rules[name]
    for rate in rates:
        name, _, value = rate.partition("=")
        try:
            lr = float(value)
        except ValueError:
            lr = -1.0
        if name not in rules or not 0 < lr < float("inf"):
            raise UserError(f"--lr {rate}: give an optimizer that runs and a number above 0, such as adam=0.03")
        rules[name] = rules[name]._replace(lr=lr)
    return rules


def _report(console: Console, study: Study, store: Store, folder: Path, json_file: Path | None, remark: str) -> None:
    table = report.rows(study, store)
    fits = report.fits(study, store)
    pairs = {(a, b): report.ratios(study, store, a, b) for a, b in (("adai", "momentum"), ("adai", "ema"))}
    slopes = report.slopes(study, store)
    if remark:
        console.print(remark)
    console.print(report.as_table(table))
    if fits:
        console.print(report.fits_table(fits))
    for (over, under), by_k in pairs.items():
        if by_k:
            title = f"{report.LABELS[over]} / {report.LABELS[under]}"
            console.print(report.ratios_table(title, by_k))
    for name, (slope, mean) in slopes.items():
        text = (
            f"{report.LABELS[name]}: slope of log(τ / prefactor) / theory = {slope:.3f}, mean τ / theory = {mean:.3f}"
        )
        console.print(text)
    extra = {
        "r_squared": {name: fit._asdict() for name, fit in fits.items()},
        "ratios": {f"{a}/{b}": {f"{k:g}": r._asdict() for k, r in by_k.items()} for (a, b), by_k in pairs.items()},
        "slope_and_mean_over_theory": slopes,
    }
    remarks = {"remark": remark} if remark else {}
    extra.update(remarks)
    write_csv(folder / "escape.csv", table, **remarks)
    write_json(folder / "escape.json", table, extra)
    if json_file is not None:
        try:
            write_json(json_file, table, extra)
        except OSError as error:
            raise UserError(f"cannot write {json_file}: {error.strerror}; the same is in {folder}") from error
    report.draw(folder / "escape.png", table, remark)
    console.print(f"Figure and numbers: {folder}/escape.png, escape.csv, escape.json", soft_wrap=True)
