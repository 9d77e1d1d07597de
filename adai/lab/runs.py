"""The folder of a comparison: the only place where its results live.

::

    runs/<name>/config.json                            what was asked for, and on what
    runs/<name>/<optimizer>/seed<i>/metrics.jsonl      one line an epoch
    runs/<name>/summary.csv, curves.png                drawn from the above
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

from adai.errors import UserError
from adai.files import write_whole


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
            config: what decides the results; it has to be what an earlier start here was given. Only ``seeds`` and
                ``optimizers`` may differ: they are added to what is there.
            about: what else is worth keeping: versions, machine, command.

        Raises:
            UserError: the folder cannot be written, or holds a comparison with other settings.
        """
        file = self.path / "config.json"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if file.exists():
                config = self._joined(self.config(), config)
            text = json.dumps({**config, **about}, indent=2) + "\n"
            write_whole(file, lambda part: part.write_text(text))
        except OSError as error:
            raise UserError(f"cannot write to {self.path}: {error.strerror}; give another folder with --out") from error
        except json.JSONDecodeError as error:
            raise UserError(f"{file} is not JSON ({error}); give another folder with --out") from error

    def _joined(self, there: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
        """The settings of both, which have to agree on all that both of them name."""
        optimizers = {**config["optimizers"], **there["optimizers"]}
        joined = {**config, "seeds": max(config["seeds"], there["seeds"]), "optimizers": optimizers}
        changed = [key for key in config if key not in ("seeds", "optimizers") and config[key] != there.get(key)]
        changed += [name for name, options in config["optimizers"].items() if optimizers[name] != options]
        if changed:
            what = ", ".join(changed)
            raise UserError(f"{self.path} holds a comparison with another {what}; give another folder with --out")
        return joined

    def config(self) -> dict[str, Any]:
        """What the comparison was asked for."""
        config: dict[str, Any] = json.loads((self.path / "config.json").read_text())
        return config

    def metrics_file(self, optimizer: str, seed: int) -> Path:
        """Where the run of that optimizer and seed keeps its metrics."""
        return self.path / optimizer / f"seed{seed}" / "metrics.jsonl"

    def metrics(self, optimizer: str, seed: int) -> list[dict[str, float]]:
        """The epochs of a run so far; nan where training had blown up. A line that was cut off is left out."""
        try:
            lines = self.metrics_file(optimizer, seed).read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        return [{k: math.nan if v is None else v for k, v in row.items()} for row in rows]

    def finished(self, optimizer: str, seed: int) -> bool:
        """Whether that run has reached its last epoch."""
        epochs: int = self.config()["epochs"]
        return len(self.metrics(optimizer, seed)) >= epochs

    def restart(self, optimizer: str, seed: int) -> None:
        """Make an empty place for a run, without what an interrupted one left."""
        folder = self.metrics_file(optimizer, seed).parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def append(self, optimizer: str, seed: int, row: dict[str, float]) -> None:
        """Add an epoch to a run; JSON has no nan, so what is not finite becomes null."""
        finite = {k: v if math.isfinite(v) else None for k, v in row.items()}
        with self.metrics_file(optimizer, seed).open("a") as file:
            file.write(json.dumps(finite, allow_nan=False) + "\n")
