"""Writes README.md for a folder of kept runs: every table and figure of the paper, or a note that it is not run."""

from collections.abc import Callable, Sequence
from pathlib import Path

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.results.run import writing_to
from adai.paper import table1
from adai.paper.drawing import found
from adai.paper.experiments import FULL, RESNET8_CIFAR10, SMALL, Experiment, Scale, remarked
from adai.paper.items import ITEMS
from adai.paper.measured import compared, eq5, equal_loss, escape, noise, saddle
from adai.report.grid import NOT_RUN

HEAD = """# Results

Drawn by `adai paper results` from the files in this folder: no number is written by hand, and what has not been run
says so. [What is run, and how](../docs/paper.md); [what it means for the paper's claims](../docs/claims.md); how often
training blows up has [a page of its own](stability/README.md), and so has [the suite](../docs/suite.md).
"""

ALONG = "figures/flatness-along.png"
SMALL_FLATNESS = f"{SMALL.name}/{RESNET8_CIFAR10.name}"
SAID_NOT_RUN = NOT_RUN.capitalize()

# Table 1 is a table here, not a file.
FIGURES = {name: item for name, item in ITEMS.items() if name != "table1"}


def write(folder: Path) -> Path:
    """Write README.md into the folder, and the figures of its training runs.

    Raises:
        UserError: there is no such folder, it has other runs than the paper's, or it cannot be written.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one with runs that are kept")
    file, text = folder / "README.md", readme(folder)
    with writing_to(folder, "make it writable"):
        for scale, part in ((FULL, folder), (SMALL, folder / SMALL.name)):
            for item in ITEMS.values() if scale is SMALL else FIGURES.values():
                if _begun(part, item.at(scale), scale):
                    item.draw(part, scale)
        write_whole(file, lambda part: part.write_text(text, encoding="utf-8"))
    return file


def readme(folder: Path) -> str:
    """The text of README.md.

    Raises:
        UserError: the folder has other runs than the paper's, or a damaged run.
    """
    parts = [_part(ITEMS["table1"].title, table1.markdown(table1.cells(folder, FULL), FULL))]
    parts += [_figure(folder, name, FULL) for name in FIGURES]
    parts += _small(folder)
    parts += [
        _measured(folder, "Figure 5: escape times, Appendix E as printed", "escape-paper/escape.csv", escape),
        _measured(folder, "Figure 6: gradient noise", "figure6/noise.csv", noise, "figure6.png"),
        _measured(folder, "Figure 7: gradient noise and Hessian", "figure7/eq5.csv", eq5, "figure7.png"),
        _measured(
            folder,
            "Beyond the paper: three times the paper's learning rates, ResNet8 on CIFAR-10",
            "cifar10-rate3/summary.csv",
            compared,
            "figures/test.png",
        ),
        _measured(
            folder, "Beyond the paper: a small net on CIFAR-10", "cifar10-convnet/equal-loss.csv", equal_loss, ALONG
        ),
        _measured(folder, "Beyond the paper: handwritten digits", "digits-flatness/equal-loss.csv", equal_loss, ALONG),
        _measured(folder, "Beyond the paper: escape times, double well", "escape-double-well/escape.csv", escape),
        _measured(folder, "Beyond the paper: escape times, matched parabolas", "escape-matched/escape.csv", escape),
        _measured(folder, "Beyond the paper: displacement at a saddle", "saddle/saddle.csv", saddle, "saddle.png"),
    ]
    # What has not been run comes last.
    return "\n".join([HEAD, *sorted(parts, key=lambda part: part.split("\n\n")[1].startswith(SAID_NOT_RUN))])


def _small(folder: Path) -> list[str]:
    """The parts of the runs at small scale, which are in a subfolder; if there are none, a part that says so."""
    there = folder / SMALL.name
    begun = [name for name, item in ITEMS.items() if _begun(there, item.at(SMALL), SMALL)]
    if "table1" not in begun:
        return [_part(_title("table1", SMALL), f"{SAID_NOT_RUN}: `adai paper table1 --scale small`.\n")]
    table = table1.markdown(table1.cells(there, SMALL), SMALL)
    flatness = _measured(
        folder,
        "Small: flatness along training, ResNet8 on CIFAR-10",
        f"{SMALL_FLATNESS}/equal-loss.csv",
        equal_loss,
        ALONG,
    )
    gradients = _measured(
        folder, "Small: gradient noise, Figure 6", f"{SMALL.name}/figure6/noise.csv", noise, "figure6.png"
    )
    figures = [_figure(folder, name, SMALL) for name, item in FIGURES.items() if item.at(SMALL)]
    return [_part(_title("table1", SMALL), table), *figures, gradients, flatness]


def _figure(folder: Path, name: str, scale: Scale) -> str:
    """The part of a figure of training runs."""
    item, within = ITEMS[name], SMALL.name if scale is SMALL else ""
    title, command = _title(name, scale), f"adai paper {name}" + (" --scale small" if within else "")
    begun = _begun(folder / within, item.at(scale), scale)
    drawn = f"![{title}]({Path(within) / f'{name}.png'})\n"
    return _part(title, drawn if begun else f"{SAID_NOT_RUN}: `{command}`.\n")


def _title(name: str, scale: Scale) -> str:
    return remarked(ITEMS[name].title, scale.note)


def _begun(folder: Path, experiments: Sequence[Experiment], scale: Scale) -> bool:
    return any(run.rows for e in experiments for entrant in found(folder, e, scale).entrants for run in entrant.runs)


def _part(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _measured(folder: Path, title: str, table: str, view: Callable[[Path], str], picture: str = "escape.png") -> str:
    """A part with the content of one table, and the picture in the same folder."""
    if not (folder / table).exists():
        return _part(title, f"{SAID_NOT_RUN}.\n")
    beside = Path(table).parent / picture
    return _part(title, f"{view(folder / table)}\n![{title}]({beside})\n\n[Numbers]({table}).\n")
