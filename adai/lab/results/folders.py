"""The folder of a comparison: the only place where its results live.

::

    runs/<name>/config.json                   what was asked for, and on what
    runs/<name>/<optimizer>/seed<i>/          one run, as `adai.lab.results.run` has it
    runs/<name>/flatness.*                    how flat the finished runs' minima are, once that was measured
    runs/<name>/flatness-epochs.csv, equal-loss.*    the same along training, and at equal loss
    runs/<name>/stability-epochs.csv          the stability margin along training, where it was measured
    runs/<name>/lr-grid/<factor>/             the same comparison with other learning rates, a folder like this one;
                                              factor 1 is this folder itself
    runs/<name>/lr-grid.csv                   a row for every run, at every rate
    runs/<name>/report.html, summary.*, figures/    drawn from the above
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.lab.results.run import Run, read_json, write_json, writing_to

LR_GRID = "lr-grid"


def default_folder(task: str) -> Path:
    """Where a comparison on that task goes if nobody says where."""
    name = Path(task.replace(":", "-")).name
    return Path("runs") / "".join(letter for letter in name if letter not in "<>")


def folder_at(folder: Path, factor: float) -> Path:
    """Where a comparison has its runs at so many times each optimizer's own learning rate."""
    return folder if factor == 1 else folder / LR_GRID / f"{factor:.12g}"


def factors_in(folder: Path) -> Iterator[float]:
    """Those for which there is a comparison in the folder, from the lowest on, 1 among them."""
    found = {1.0}
    for file in (folder / LR_GRID).glob("*/config.json"):
        try:
            found.add(float(file.parent.name))
        except ValueError:  # somebody else's
            continue
    yield from sorted(found)


class RunFolder:
    """A comparison on disk.

    Args:
        path: its folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, config: dict[str, Any], about: dict[str, Any]) -> None:
        """Start a comparison here, or go on with the one that is here.

        Args:
            config: what decides the results; it has to be what an earlier start here was given. Only ``seeds``,
                ``optimizers`` and ``contenders`` may differ: they are added to what is there.
            about: what else is worth keeping: versions, machine, command.

        Raises:
            UserError: the folder cannot be written, or holds a comparison with other settings.
        """
        file = self.path / "config.json"
        with writing_to(self.path, "give another `folder`"):
            self.path.mkdir(parents=True, exist_ok=True)
            if file.exists():
                config = self._joined(self.config(), config)
            write_json(file, {**config, **about})

    def _joined(self, there: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """The settings of both, which have to agree on all that both of them name."""
        if "optimizers" not in there:
            raise UserError(f"{self.path} holds something else than a comparison; give another `folder`")
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
        """What the comparison was asked for."""
        return read_json(self.path / "config.json")

    def run(self, optimizer: str, seed: int) -> Run:
        """The run of that optimizer and seed."""
        return Run(self.path / optimizer / f"seed{seed}")

    def metrics(self, optimizer: str, seed: int) -> list[dict[str, float]]:
        """The epochs of a run so far; nan for a number that was not finite or does not apply."""
        rows = self.run(optimizer, seed).rows()
        return [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]

    def finished(self, optimizer: str, seed: int) -> bool:
        """Whether that run has reached its last epoch, and not diverged."""
        return self.run(optimizer, seed).status == "finished"
