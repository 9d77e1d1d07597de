"""Escape times of several optimizers at several sharpnesses, on all cores, saved to disk after each round."""

import json
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from adai.errors import UserError
from adai.files import write_whole
from adai.simulate.escape import Times, escape_times, replica_seeds
from adai.simulate.rules import Rule
from adai.simulate.settings import SETTINGS

# Every round runs a twentieth of the replicas of every point, so that after an interruption all points have replicas.
ROUNDS = 20


class Study(NamedTuple):
    """A study: its setting, optimizers, sharpnesses and replicas.

    Args:
        setting: name of one of `SETTINGS`.
        rules: optimizers by name, each with its options.
        ks: sharpnesses.
        replicas: the number of replicas of each optimizer at each sharpness.
        seed: determines replica i of an optimizer at a sharpness, whatever else runs and on any number of threads.
        cap: iterations after which a replica counts as censored.
    """

    setting: str
    rules: dict[str, Rule]
    ks: tuple[float, ...]
    replicas: int
    seed: int
    cap: int

    def points(self) -> list[tuple[str, float]]:
        """Every optimizer at every sharpness; the points that take longest come first."""
        return [(name, k) for k in sorted(self.ks) for name in self.rules]


Store = dict[tuple[str, float], Times]


def run(study: Study, folder: Path, *, threads: int | None = None, progress: Callable[[int], None]) -> Store:
    """Run the replicas that the folder does not have yet; save them after each round, also after an interruption.

    Args:
        study: the study to run.
        folder: the folder of the times, in ``times.npz``, and of ``config.json``.
        threads: the number of threads; None for one per core.
        progress: called with the number of replicas just done.

    Raises:
        UserError: the folder cannot be written, or has times of other settings.
    """
    store = _open(study, folder)
    progress(sum(min(_count(store, point), study.replicas) for point in study.points()))
    pool = ThreadPoolExecutor(threads or os.cpu_count())
    running: dict[Future[Times], tuple[str, float]] = {}
    try:
        while due := [point for point in study.points() if _count(store, point) < study.replicas]:
            running |= {pool.submit(_chunk, study, point, _count(store, point)): point for point in due}
            for future in as_completed([*running]):
                progress(_take(store, running.pop(future), future.result()))
            _keep(store, folder)
    finally:
        pool.shutdown(cancel_futures=True)  # waits for the running replicas, whose results are kept too
        for future, point in running.items():
            if not future.cancelled() and not future.exception():
                _take(store, point, future.result())
        _keep(store, folder)
    return {point: store[point].head(study.replicas) for point in study.points()}


def _take(store: Store, point: tuple[str, float], times: Times) -> int:
    """Add the next replicas of a point; returns their number."""
    store[point] = store[point].joined(times) if point in store else times
    return int(times.exits.size)


def _chunk(study: Study, point: tuple[str, float], first: int) -> Times:
    """Run the next replicas of a point: those of one round, or fewer if fewer are left."""
    name, k = point
    setting = SETTINGS[study.setting]
    count = min(-(-study.replicas // ROUNDS), study.replicas - first)
    seeds = replica_seeds(study.seed, f"{study.setting} {name} {k}", first, count)
    return escape_times(setting.landscape(name, k), study.rules[name], seeds, cap=study.cap, warm=setting.warm)


def _count(store: Store, point: tuple[str, float]) -> int:
    return store[point].exits.size if point in store else 0


def _open(study: Study, folder: Path) -> Store:
    """The times in the folder, after a check that they belong to this study."""
    settings: dict[str, Any] = {"setting": study.setting, "seed": study.seed, "cap": study.cap}
    settings["optimizers"] = {name: rule._asdict() for name, rule in study.rules.items()}
    config, times = folder / "config.json", folder / "times.npz"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if config.exists():
            there = json.loads(config.read_text())
            optimizers = {**settings["optimizers"], **there["optimizers"]}
            changed = [key for key in ("setting", "seed", "cap") if there[key] != settings[key]]
            changed += [name for name, options in settings["optimizers"].items() if optimizers[name] != options]
            if changed:
                what = ", ".join(changed)
                raise UserError(f"{folder} holds escape times with another {what}; give another folder with --out")
            settings["optimizers"] = optimizers
        write_whole(config, lambda part: part.write_text(json.dumps(settings, indent=2) + "\n"))
        if not times.exists():
            return {}
        with np.load(times) as arrays:
            return {_point(key): Times(rows[0], rows[1], rows[2].astype(bool)) for key, rows in arrays.items()}
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror}; give another folder with --out") from error


def _keep(store: Store, folder: Path) -> None:
    """Write all times, with one array (3, replicas) per point: exits, passages, escaped."""
    arrays: dict[str, NDArray[np.int64]] = {
        f"{name} {k}": np.stack([times.exits, times.passages, times.escaped.astype(np.int64)])
        for (name, k), times in store.items()
    }
    write_whole(folder / "times.npz", lambda part: np.savez_compressed(part, allow_pickle=False, **arrays))


def _point(key: str) -> tuple[str, float]:
    name, k = key.split()
    return name, float(k)
