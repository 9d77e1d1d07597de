"""README.md of a folder of kept runs: every table and figure of the paper, or that it is not run."""

from collections.abc import Callable, Sequence
from pathlib import Path

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.run import writing_to
from adai.paper import table1
from adai.paper.drawing import found
from adai.paper.experiments import FULL, Experiment
from adai.paper.items import ITEMS
from adai.paper.measured import eq5, equal_loss, escape, noise, saddle
from adai.report.grid import NOT_RUN

HEAD = """# Results

Drawn by `adai paper results` from the files in this folder: no number is written by hand, and what has not been run
says so. [What is run, and how](../docs/paper.md).
"""

ALONG = "figures/flatness-along.png"
SAID_NOT_RUN = NOT_RUN.capitalize()

# Table 1 is a table here, not a file.
FIGURES = {name: item for name, item in ITEMS.items() if name != "table1"}


def write(folder: Path) -> Path:
    """Write README.md into the folder, and the figures of those training runs that are there.

    Raises:
        UserError: there is no such folder, it holds other runs than the paper's, or it cannot be written.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one with runs that are kept")
    file, text = folder / "README.md", readme(folder)
    with writing_to(folder, "make it writable"):
        for figure in FIGURES.values():
            if _begun(folder, figure.experiments):
                figure.draw(folder, FULL)
        write_whole(file, lambda part: part.write_text(text, encoding="utf-8"))
    return file


def readme(folder: Path) -> str:
    """Its text.

    Raises:
        UserError: the folder holds other runs than the paper's, or a run in it is damaged.
    """
    parts = [HEAD, _part(ITEMS["table1"].title, table1.markdown(table1.cells(folder, FULL), FULL))]
    for name, figure in FIGURES.items():
        drawn, missing = f"![{figure.title}]({name}.png)\n", f"{SAID_NOT_RUN}: `adai paper {name}`.\n"
        parts.append(_part(figure.title, drawn if _begun(folder, figure.experiments) else missing))
    parts += [
        _measured(folder, "Figure 5: escape times, Appendix E as printed", "escape-paper/escape.csv", escape),
        _measured(folder, "Figure 6: gradient noise", "figure6/noise.csv", noise, "figure6.png"),
        _measured(folder, "Figure 7: gradient noise and Hessian", "figure7/eq5.csv", eq5, "figure7.png"),
        _measured(
            folder, "Beyond the paper: a small net on CIFAR-10", "cifar10-convnet/equal-loss.csv", equal_loss, ALONG
        ),
        _measured(folder, "Beyond the paper: handwritten digits", "digits-flatness/equal-loss.csv", equal_loss, ALONG),
        _measured(folder, "Beyond the paper: escape times, double well", "escape-double-well/escape.csv", escape),
        _measured(folder, "Beyond the paper: escape times, matched parabolas", "escape-matched/escape.csv", escape),
        _measured(folder, "Beyond the paper: displacement at a saddle", "saddle/saddle.csv", saddle, "saddle.png"),
    ]
    return "\n".join(parts)


def _begun(folder: Path, experiments: Sequence[Experiment]) -> bool:
    return any(run.rows for e in experiments for entrant in found(folder, e, FULL).entrants for run in entrant.runs)


def _part(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _measured(folder: Path, title: str, table: str, view: Callable[[Path], str], picture: str = "escape.png") -> str:
    """A part that rests on one table, with the picture beside it."""
    if not (folder / table).exists():
        return _part(title, f"{SAID_NOT_RUN}.\n")
    beside = Path(table).parent / picture
    return _part(title, f"{view(folder / table)}\n![{title}]({beside})\n\n[Numbers]({table}).\n")
