"""The report of a comparison: one page that needs nothing but itself, with its figures and its table as files too."""

import base64
import re
from collections.abc import Mapping
from importlib.resources import files
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.results.comparison import WHERE, Comparison, Entrant, Record, read
from adai.lab.results.learning_rates import Grid, read_grid
from adai.lab.results.stats import BOOTSTRAP_SEEDS, MIN_SEEDS
from adai.lab.results.summary import Summary, summarise, verdict
from adai.lab.results.words import joined
from adai.report import learning_rates, tables
from adai.report.figures import pictures
from adai.report.measures import views
from adai.report.picture import RC, Missing, Picture
from adai.report.section import Section
from adai.report.style import themed, variable, variables
from adai.report.text import encodable

# The rule of `adai.lab.results.outcome`, below the table.
DID_NOT_LEARN: dict[str, str] = {
    "test_error": "A run did not learn where its last test error is not at least one point below chance: the error of "
    "always answering the most frequent class of the test data.",
    "test_loss": "A run did not learn where its last test loss is not below the loss before training.",
}


class Report(NamedTuple):
    """What a report is about.

    Args:
        comparison: of a grid of learning rates the one at each optimizer's best.
        summary: its table.
        grid: the comparison at all rates, if there are several.
    """

    comparison: Comparison
    summary: Summary
    grid: Grid | None

    def draw(self) -> Path:
        """Write the report into the comparison's folder, as `write` does; returns the page.

        Raises:
            UserError: the folder cannot be written.
        """
        try:
            return write(*self)
        except OSError as error:
            path = self.comparison.path
            raise UserError(f"cannot write to {path}: {error.strerror}; make it writable") from error


def report_of(path: Path, reference: str | None = None) -> Report:
    """Read the folder of a comparison for its report.

    Args:
        path: the folder.
        reference: the optimizer that the others are compared with; default ``adai``, else the first.

    Raises:
        UserError: it holds no comparison, or the reference takes no part.
    """
    comparison = read(path)
    grid = read_grid(comparison)
    comparison = grid.at_best() if grid else comparison
    return Report(comparison, summarise(comparison, reference), grid)


def write(comparison: Comparison, summary: Summary, grid: Grid | None = None) -> Path:
    """Write ``report.html``, ``summary.*``, ``figures/``, and the files of what was measured, into the folder.

    Each file is written whole or not at all; the page last, so that it is never ahead of its figures.

    Args:
        comparison: of a grid the one at each optimizer's best rate.
        summary: of it.
        grid: the comparison at all rates, if there are several.

    Returns:
        The page.
    """
    folder = comparison.path
    (folder / "figures").mkdir(exist_ok=True)
    tables.write_csv(folder / "summary.csv", summary)
    for name, text in (("summary.md", tables.markdown(summary)), ("summary.tex", tables.latex(summary))):
        _write_text(folder / name, text)
    with rc_context(RC):
        figures = [written(folder / "figures", picture) for picture in pictures(comparison, summary.measure)]
        sections = [view.section(comparison, summary.reference) for view in views(comparison)]
        measured = [_section(comparison, section) for section in sections if section]
        rates = _learning_rates(folder, grid) if grid else None
    text = _render(comparison, summary, figures, measured, rates)
    _write_text(folder / "report.html", text)
    return folder / "report.html"


def _section(comparison: Comparison, section: Section) -> dict[str, Any]:
    """What the page needs of a section, whose figures are written as files."""
    table = section.table
    return {
        **section._asdict(),
        "lines": [
            (variable(n, comparison.names), cells) for n, cells in zip(section.optimizers, table.rows, strict=True)
        ]
        if table
        else [],
        "downloads": [download(file) for file in section.files],
        "figures": [written(comparison.path / "figures", picture) for picture in section.pictures],
        "parts": [_section(comparison, part) for part in section.parts],
    }


def _learning_rates(folder: Path, grid: Grid) -> dict[str, Any]:
    """Write the files of the grid of learning rates; returns what the page needs of it."""
    points = folder / "lr-grid.csv"
    learning_rates.write_points(points, grid)
    table, names = learning_rates.cells(grid), grid.optimizers
    return {
        "table": table,
        "lines": [(variable(name, names), cells) for name, cells in zip(names, table.rows, strict=True)],
        "downloads": [download(points)],
        "figure": written(folder / "figures", learning_rates.picture(grid)),
    }


def written(folder: Path, picture: Picture | Missing) -> dict[str, Any]:
    """Write a figure's files; returns what the page needs of it."""
    if isinstance(picture, Missing):
        return {"key": picture.key, "title": picture.title, "missing": picture.why}
    figure = picture.figure
    write_whole(folder / f"{picture.key}.png", lambda part: figure.savefig(part, dpi=200))
    figure.set_layout_engine("none")  # it is laid out now: the other formats need not do it again
    undated = {"CreationDate": None}  # equal runs, equal files
    write_whole(folder / f"{picture.key}.pdf", lambda part: figure.savefig(part, metadata=undated))
    drawn = Markup(svg(picture))
    return {"key": picture.key, "title": picture.title, "description": picture.description, "svg": drawn}


def _write_text(path: Path, text: str) -> None:
    write_whole(path, lambda part: part.write_text(encodable(text), encoding="utf-8"))


def svg(picture: Picture) -> str:
    """The figure as an element of the page: its colours are the page's, its ids its own, its text is text."""
    buffer = StringIO()
    picture.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    text = re.sub(r'\bid="', rf'id="{picture.key}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{picture.key}-", text)
    text = re.sub(r'font: [^;"]*?([\d.]+px)[^;"]*', r"font-size: \1", text)  # the page's letters
    head = f'<svg role="img" aria-labelledby="{picture.key}-title" aria-describedby="{picture.key}-text"'
    text = re.sub(r"<svg\b", head, text, count=1)
    return themed(re.sub(r'\s(width|height)="[\d.]+pt"', "", text, count=2))


def rendered(template: str, **content: Any) -> str:
    """A page from a template of this package, with the styles that all of them share."""
    environment = Environment(
        loader=PackageLoader("adai.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    light, dark = ("".join(f"{name}:{colours[i]};" for name, colours in variables().items()) for i in (0, 1))
    css = files("adai.report").joinpath("page.css").read_text(encoding="utf-8")
    styles = Markup(css.replace("/* light */", light).replace("/* dark */", dark))
    return environment.get_template(template).render(css=styles, **content)


def _render(
    comparison: Comparison,
    summary: Summary,
    figures: list[dict[str, Any]],
    measured: list[dict[str, Any]],
    rates: dict[str, Any] | None,
) -> str:
    config = comparison.config
    table = tables.cells(summary)
    return rendered(
        "page.html.j2",
        kicker="Comparison of optimizers",
        title=comparison.title or comparison.path.resolve().name,
        verdict=verdict(summary),
        table=table,
        lines=[
            (variable(row.optimizer, comparison.names), cells)
            for row, cells in zip(summary.rows, table.rows, strict=True)
        ],
        measure=summary.measure.name,
        notes=notes(summary),
        figures=figures,
        sections=measured,
        rates=rates,
        runs=[_line(e.label, run, summary) for e in comparison.entrants for run in e.runs],
        stopped=sum(run.status != "finished" for e in comparison.entrants for run in e.runs),
        options=[(_called(e), ", ".join(f"{k} = {v}" for k, v in e.options.items())) for e in comparison.entrants],
        settings=_flat({k: v for k, v in config.items() if k not in (*WHERE, "optimizers", "contenders", "command")}),
        versions=_flat(comparison.where),
        command=config.get("command") or "not recorded",
        downloads=[download(comparison.path / f"summary.{kind}") for kind in ("csv", "md", "tex")],
    )


def notes(summary: Summary) -> list[str]:
    """How to read the table: what decides, how the intervals are made, what to be careful with."""
    differences = [row.difference for row in summary.rows if row.difference]
    lines = [
        f"The verdict goes by the {summary.measure.name} after the last epoch. The best epoch is the paper’s measure; "
        "it is picked on the test data, so it is optimistic.",
        "Means and standard deviations are taken over the runs that finished and learned.",
        DID_NOT_LEARN.get(summary.measure.column, " ".join(DID_NOT_LEARN.values())),
    ]
    if several := [row for row in summary.rows if row.gradients > 1]:
        said = joined([f"{row.label} {row.gradients:.3g}" for row in several])
        lines.append(f"Gradient evaluations a step: {said}, one for each other optimizer. All have equally many steps.")
    if differences:
        bootstrap = max(d.seeds for d in differences) >= BOOTSTRAP_SEEDS
        side = "below" if summary.measure.lower_is_better else "above"
        lines.append(
            f"Differences are paired over shared seeds; {side} 0 is better than the reference. Their intervals are "
            + ("the wider of Student’s and the studentised bootstrap’s at either end" if bootstrap else "Student’s")
            + (
                f", widened so that all {summary.comparisons} hold at once in 95 % of cases (Bonferroni)."
                if summary.comparisons > 1
                else ", 95 %."
            )
        )
    if any(d.seeds < MIN_SEEDS for d in differences):
        lines.append(f"Below {MIN_SEEDS} shared seeds there is no verdict, whatever the interval.")
    return lines


def _called(entrant: Entrant) -> str:
    """Its label, and what that stands for unless it is the name of a recipe."""
    return f"{entrant.label} ({entrant.spec})" if entrant.spec != entrant.name else entrant.label


def _line(label: str, run: Record, summary: Summary) -> list[str]:
    """A run in the list of all runs."""
    last = [f"{run.column(name)[-1]:.4g}" if run.rows else "nan" for name in (summary.measure.column, "train_loss")]
    return [label, str(run.seed), run.status, str(len(run.rows)), *(x.replace("nan", tables.NONE) for x in last)]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as name and text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key.replace("_", " ")] = "none" if value is None else str(value)
    return flat


def download(path: Path) -> tuple[str, str]:
    """A file's name, and the file itself as an address, so that the page needs no other file."""
    return path.name, f"data:text/plain;base64,{base64.b64encode(path.read_bytes()).decode()}"
