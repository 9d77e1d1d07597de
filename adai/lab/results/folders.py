"""The folder of a comparison, which holds all its results.

::

    runs/<name>/config.json                   the settings, and the machine
    runs/<name>/<optimizer>/seed<i>/          a run; see `adai.lab.results.run`
    runs/<name>/flatness.*                    the flatness of the finished runs, if it was measured
    runs/<name>/flatness-epochs.csv, equal-loss.*    the flatness along training, and at equal loss
    runs/<name>/stability-epochs.csv          the stability margin along training, if it was measured
    runs/<name>/lr-grid/<factor>/             the same comparison with all learning rates multiplied by the factor, in
                                              a folder like this one; factor 1 is this folder itself
    runs/<name>/lr-grid.csv                   a row for each run at each learning rate
    runs/<name>/report.html, summary.*, figures/    the report, which is made from the files above
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.lab.results.run import Run, read_json, write_json, writing_to

LR_GRID = "lr-grid"


def default_folder(task: str) -> Path:
    """The default folder of a comparison on a task."""
    name = Path(task.replace(":", "-")).name
    return Path("runs") / "".join(letter for letter in name if letter not in "<>")


def folder_at(folder: Path, factor: float) -> Path:
    """The folder of a comparison's runs with each optimizer's own learning rate multiplied by the factor."""
    return folder if factor == 1 else folder / LR_GRID / f"{factor:.12g}"


def factors_in(folder: Path) -> Iterator[float]:
    """The factors of which the folder holds a comparison, in increasing order; 1 is always among them."""
    found = {1.0}
    for file in (folder / LR_GRID).glob("*/config.json"):
        try:
            found.add(float(file.parent.name))
        except ValueError:  # not a folder of the grid
            continue
    yield from sorted(found)


class RunFolder:
    """A comparison on disk.

    Args:
        path: its folder, which is created when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, config: dict[str, Any], about: dict[str, Any]) -> None:
        """Start a comparison in this folder, or continue the comparison that it holds.

        Args:
            config: the settings that determine the results. To continue a comparison they have to be equal to those in
                the folder, except for ``seeds``, ``optimizers`` and ``contenders``, which are added to those there.
            about: further information to keep: versions, machine, command.

        Raises:
            UserError: the folder cannot be written, or holds a comparison with other settings.
        """
        file = self.path / "config.json"
        with writing_to(self.path, "give another `folder`"):
            self.path.mkdir(parents=True, exist_ok=True)
            if file.exists():
                config = self._joined(self.config(), config)
            write_json(file, {**config, **about})

    def check(self, config: dict[str, Any]) -> None:
        """Check that `open` would take this, and write nothing.

        Raises:
            UserError: the folder holds something else, or a comparison with other settings.
        """
        if (self.path / "config.json").exists():
            self._joined(self.config(), config)

    def _joined(self, there: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """The settings of both, which have to be equal wherever both name the same setting."""
        if "optimizers" not in there:
            raise UserError(f"{self.path} holds something other than a comparison; give another `folder`")
        optimizers = {**config["optimizers"], **there["optimizers"]}
        joined = {**config, "seeds": max(config["seeds"], there["seeds"]), "optimizers": optimizers}
        contenders = {**config.get("contenders", {}), **there.get("contenders", {})}
        if contenders:
            joined["contenders"] = contenders
        changed = [
            f"{key} is {there.get(key)!r} there, {config[key]!r} here"
            for key in config
            if key not in ("seeds", "optimizers", "contenders") and config[key] != there.get(key)
        ]
        changed += [
            f"{name} has {optimizers[name]} there, {options} here"
            for name, options in config["optimizers"].items()
            if optimizers[name] != options
        ]
        changed += [
            f"{name} is {contenders[name]['spec']} there, {own['spec']} here"
            for name, own in config.get("contenders", {}).items()
            if contenders[name]["spec"] != own["spec"]
        ]
        if changed:
            raise UserError(
                f"{self.path} holds a comparison with other settings ({', '.join(changed)}); give another `folder`"
            )
        return joined

    def config(self) -> dict[str, Any]:
        """The settings of the comparison."""
        return read_json(self.path / "config.json")

    def run(self, optimizer: str, seed: int) -> Run:
        """The run of that optimizer and seed."""
        return Run(self.path / optimizer / f"seed{seed}")

    def metrics(self, optimizer: str, seed: int) -> list[dict[str, float]]:
        """A row for each epoch of a run so far, with nan for a number that was not finite or does not apply."""
        rows = self.run(optimizer, seed).rows()
        return [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]

    def finished(self, optimizer: str, seed: int) -> bool:
        """Whether that run is finished; see `adai.lab.results.outcome`."""
        return self.run(optimizer, seed).status == "finished"
