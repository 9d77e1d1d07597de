"""Host time of a step of the Triton engine: what Python takes, with kernels that do nothing.

Where tensors are small a GPU waits for the host, so this is what bounds a step there. It needs no GPU: tensors lie on
the CPU and launches return at once, so neither Triton's own time for a launch nor a copy to a device is in it. This
version and an earlier one of the repository are measured in turns, in processes of their own::

    python benchmarks/host_time.py --before 643d61f --json benchmarks/results/host_time.json

A row is one mode: gradients that stay where they are, or are new in each step, as after ``zero_grad``; ``capturable``;
clipping with an L2 penalty. A time is the processor time of the whole of ``optimizer.step()``, which other work on the
machine disturbs less than a clock: the median over turns of the fastest step of a turn. A ratio is the median over
turns of the ratio within a turn.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import torch

REPOSITORY = Path(__file__).resolve().parent.parent
NUMBERS = (62, 500, 2000)
MODES: dict[str, dict[str, Any]] = {
    "gradients that stay": {},
    "new gradients": {},
    "capturable": {"capturable": True},
    "clipping": {"max_grad_norm": 1.0, "weight_decay": 5e-4},
}
"""What is measured, with the optimizer's options."""


class Kernels:
    """Kernels that do nothing; and something in place of the constants that earlier versions ask their kernels for."""

    TYPES = dict.fromkeys((torch.float32, torch.float64, torch.bfloat16, torch.float16))
    value = 4
    arg_names = ()

    def __getattr__(self, name: str) -> "Kernels":
        return self

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *args, **options: self


_KERNELS = Kernels()


def _kernels() -> Kernels:
    return _KERNELS


def _nothing(*_: Any) -> None:
    """A plain function: a call of a Mock takes as long as the host needs for several tensors."""


def _compiled_kernels_are_started() -> AbstractContextManager[Any]:
    """As on a GPU; earlier versions have Triton find the compiled kernel at each launch."""
    try:
        from adai.optim.engines.triton import launch  # noqa: PLC0415
    except ImportError:
        return nullcontext()
    return mock.patch.dict(launch._ABLE, {torch.device("cpu"): True})


@contextmanager
def stubbed() -> Iterator[None]:
    """The Triton engine steps on the CPU, its launches do nothing, and the host waits for nothing."""
    from adai import Adai  # noqa: PLC0415 -- this version's or the other's
    from adai.optim import step  # noqa: PLC0415
    from adai.optim.engines import triton as engine  # noqa: PLC0415
    from adai.optim.shared.mean import gated  # noqa: PLC0415

    def choose(group: Any, hyper: Any, batch: Any, owners: Any, last: Any = None) -> Any:
        chosen = last if isinstance(last, engine.Fused) else engine.Fused()
        reason = chosen.prepare(batch, owners, hyper)
        if reason is not None:
            raise RuntimeError(reason)
        return chosen

    with (
        mock.patch.object(step, "choose", choose),
        mock.patch.object(step, "gated", lambda mean, *, wait: gated(mean, wait=False)),
        mock.patch.object(step, "_asks", _nothing, create=True),
        mock.patch("adai.optim.adai.check_capturable", _nothing, create=True),
        mock.patch.object(Adai, "_check_capturable", _nothing, create=True),  # its name in earlier versions
        mock.patch.object(engine, "_kernels", _kernels),
        mock.patch.object(engine, "missing", _nothing),
        _compiled_kernels_are_started(),
    ):
        yield


def step_time(mode: str, number: int, steps: int) -> float:
    """Seconds of the fastest of some steps with so many tensors."""
    from adai import Adai  # noqa: PLC0415

    # The sizes do not matter here, only that there are many.
    params = [torch.zeros(1 + i % 7, 3).requires_grad_() for i in range(number)]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer = Adai(params, **MODES[mode])
    times = []
    with stubbed():
        for _ in range(steps):
            if mode == "new gradients":
                optimizer.zero_grad()
                for p in params:
                    p.grad = torch.ones_like(p)
            start = time.thread_time()
            optimizer.step()
            times.append(time.thread_time() - start)
    return min(times[2:])


def measure(folder: Path, numbers: list[int], steps: int) -> dict[str, dict[str, float]]:
    """Seconds by mode and number of tensors, by the version of adai in a folder, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--worker", "--steps", str(steps), "--tensors", *map(str, numbers)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def unpack(revision: str, folder: Path) -> Path:
    """Put an earlier version of the package into a folder."""
    archive = folder / "adai.tar"
    subprocess.run(["git", "-C", REPOSITORY, "archive", "-o", archive, revision, "adai"], check=True)
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    return folder


def compare(before: Path | None, numbers: list[int], turns: int, steps: int) -> list[dict[str, Any]]:
    """One row per mode and number of tensors."""
    versions = {"after": REPOSITORY} | ({} if before is None else {"before": before})
    found: dict[str, list[Any]] = {name: [] for name in versions}
    for _ in range(turns):
        for name, folder in versions.items():
            found[name].append(measure(folder, numbers, steps))
    rows = []
    for mode in MODES:
        for number in map(str, numbers):
            row: dict[str, Any] = {"mode": mode, "tensors": int(number)}
            times = {name: [turn[mode][number] for turn in each] for name, each in found.items()}
            for name, each in times.items():
                row[f"{name}_us"] = 1e6 * median(each)
                row[f"{name}_us_per_tensor"] = 1e6 * median(each) / int(number)
            if before is not None:
                row["ratio"] = median(b / a for a, b in zip(times["after"], times["before"], strict=True))
            rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    print(f"{'':22}{'tensors':>8}{'before, us':>12}{'each':>7}{'after, us':>12}{'each':>7}{'before / after':>16}")
    for row in rows:
        cells = (
            f"{row['mode']:22}{row['tensors']:8}",
            f"{row['before_us']:12.0f}{row['before_us_per_tensor']:7.2f}" if "ratio" in row else " " * 19,
            f"{row['after_us']:12.0f}{row['after_us_per_tensor']:7.2f}",
            f"{row['ratio']:16.2f}" if "ratio" in row else "",
        )
        print("".join(cells))


def main() -> None:
    """Compare two versions, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", help="a revision of the repository to compare with; none by default")
    parser.add_argument("--tensors", type=int, nargs="+", default=list(NUMBERS))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--steps", type=int, default=60, help="in each turn")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        times = {m: {str(n): step_time(m, n, options.steps) for n in options.tensors} for m in MODES}
        print(json.dumps(times))
        return
    with tempfile.TemporaryDirectory() as folder:
        before = None if options.before is None else unpack(options.before, Path(folder))
        rows = compare(before, options.tensors, options.turns, options.steps)
    show(rows)
    if options.json:
        from adai.lab.host.machine import processor  # noqa: PLC0415 -- earlier versions may not have it

        about: dict[str, Any] = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "cpu": processor(),
        }
        about |= {"before": options.before, "turns": options.turns, "steps": options.steps}
        about |= {"load_average": os.getloadavg()[0]}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
