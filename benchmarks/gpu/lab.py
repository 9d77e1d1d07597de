"""Parts C and D: the lab on a GPU, on made-up images and on CIFAR-10."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from adai.lab import Settings, settings, train
from adai.lab.results.run import Row, Run
from adai.lab.tasks.data import Dataset, Images
from adai.lab.tasks.task import Task, image_task
from adai.lab.training import graph as graphs
from gpu.items import Scale, Skipped

REPOSITORY = Path(__file__).resolve().parent.parent.parent
OPTIMIZERS = ("adai", "sgd", "adam", "adamw", "adaiw")
PRECISIONS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "tf32": {"precision": "tf32"},
    "bf16, channels last": {"precision": "bf16", "channels_last": True},
}
FASTEST = "bf16, channels last"
FILE, PART_BYTES = "cifar10.pt", 48 * 10**6


def made_up(device: str, examples: int) -> Dataset:
    """Images of CIFAR-10's form without meaning."""
    rng = torch.Generator().manual_seed(0)
    parts = []
    for n in (examples, max(examples // 5, 1)):
        pixels = torch.randint(256, (n, 3, 32, 32), generator=rng, dtype=torch.uint8)
        parts.append(Images(pixels, torch.randint(10, (n,), generator=rng)).to(torch.device(device)))
    half = torch.full((1, 3, 1, 1), 127.5, device=device)
    return Dataset("made-up", 10, parts[0], parts[1], half, half / 2)


def task() -> Task:
    """The task of part C, for processes of their own; the environment says how large it is."""
    device, examples, model = os.environ["ADAI_GPU_TASK"].split()
    return image_task(made_up(device, int(examples)), model, augment=True)()


def eager(scale: Scale) -> dict[str, float]:
    """Images in a second, in three precisions, bfloat16 with channels last."""
    return _rates(scale)


def graph(scale: Scale) -> dict[str, float]:
    """The same with a CUDA graph of each full batch."""
    return _rates(scale, graph=True)


def compiled(scale: Scale) -> dict[str, float]:
    """The same with `torch.compile`, which takes a minute first; in bfloat16 only."""
    return _rates(scale, (FASTEST,), compile=True)


def graph_of_compiled(scale: Scale) -> dict[str, float]:
    """The same with both."""
    return _rates(scale, (FASTEST,), graph=True, compile=True)


def losses(scale: Scale, **given: Any) -> list[float]:
    """The training loss after each epoch of a short run on few images, of which the last batch is short."""
    return [float(row["train_loss"] or 0) for row in _run(scale, examples=64 if scale.dry else 1000, **given)]


def several_jobs(scale: Scale) -> dict[str, float]:
    """Images in a second of all together, for 1 to 4 processes on the same GPU."""
    found = {}
    for jobs in (1, 2) if scale.dry else (1, 2, 3, 4):
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
            done = list(pool.map(partial(_in_a_process, scale, Path(folder)), range(jobs)))
        found[str(jobs)] = sum(done)
        scale.keep(found)
    return found


def killed_and_resumed(scale: Scale) -> str:
    """A run whose process is killed with -9 goes on afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "run"
        process = subprocess.Popen(_command(scale, place, 0, epochs=3), env=_environment(scale), cwd=REPOSITORY)
        while process.poll() is None and not list(place.glob("checkpoint-*.pt")):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = len(Run(place).rows())
        subprocess.run(_command(scale, place, 0, epochs=3), env=_environment(scale), cwd=REPOSITORY, check=True)
        rows = Run(place).rows()
        assert len(rows) == 3, rows
    return f"killed after {before} of 3 epochs, and finished"


def profiled(scale: Scale) -> dict[str, float]:
    """Milliseconds of the operators that take longest, in one epoch."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if scale.device == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        _run(scale, epochs=1)
    events = profile.key_averages()
    key = "self_device_time_total" if scale.device == "cuda" else "self_cpu_time_total"
    most = sorted(events, key=lambda event: -getattr(event, key))[:15]
    return {event.key: getattr(event, key) / 1e3 for event in most}


def cifar10(scale: Scale) -> list[dict[str, Any]]:
    """As many runs of each optimizer as there is time for, first of 30 epochs, then of 200."""
    data = _small(made_up(scale.device, 64)) if scale.dry else images(scale)
    model = "smallnet" if scale.dry else "resnet18"
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for epochs in (1, 2) if scale.dry else (30, 200):
            for optimizer in OPTIMIZERS:
                if time.monotonic() > scale.until:
                    return found
                place = Path(folder) / f"{optimizer}-{epochs}"
                with _as_on_a_gpu(scale):
                    chosen = _settings(scale, optimizer=optimizer, epochs=epochs, graph=True, **PRECISIONS[FASTEST])
                    run = train(chosen, place, factory=image_task(data, model, augment=True))
                found.append({"optimizer": optimizer, "epochs": epochs, "status": run.status, "rows": run.rows()})
                scale.keep(found)
    return found


def images(scale: Scale) -> Dataset:
    """CIFAR-10 from the parts of the lab's cache file, see docs/gpu.md."""
    parts = sorted(scale.data.glob(f"{FILE}.part-*")) if scale.data else []
    if not parts:
        raise Skipped(f"no {FILE}.part-* in {scale.data}; see docs/gpu.md")
    with tempfile.NamedTemporaryFile(suffix=".pt") as whole:
        for part in parts:
            whole.write(part.read_bytes())
        whole.flush()
        kept = torch.load(whole.name, weights_only=True)
    train_part, test_part = (Images(*kept[name]) for name in ("train", "test"))
    pixels = train_part.pixels.float()
    mean, std = (f(pixels, dim=(0, 2, 3), keepdim=True) for f in (torch.mean, torch.std))
    device = torch.device(scale.device)
    return Dataset(
        "cifar10", int(kept["classes"]), train_part.to(device), test_part.to(device), mean.to(device), std.to(device)
    )


def split(file: Path, folder: Path) -> list[Path]:
    """Cut the lab's cache file into parts that can be carried."""
    folder.mkdir(parents=True, exist_ok=True)
    content, parts = file.read_bytes(), []
    for i, start in enumerate(range(0, len(content), PART_BYTES)):
        parts.append(folder / f"{FILE}.part-{i:03d}")
        parts[-1].write_bytes(content[start : start + PART_BYTES])
    return parts


LAB = [eager, graph, graph_of_compiled, compiled, several_jobs, killed_and_resumed, profiled]
CIFAR = [cifar10]


def _small(data: Dataset) -> Dataset:
    return data._replace(train=data.train.few(32), test=data.test.few(8))


def _size(scale: Scale) -> tuple[int, str]:
    return (64, "smallnet") if scale.dry else (20_000, "resnet18")


def _settings(scale: Scale, **given: Any) -> Settings:
    chosen = {"epochs": 2 if scale.dry else 3, "batch": 32 if scale.dry else 128, "optimizer": "adai", **given}
    return Settings.of("gpu.lab:task", model=None, device=scale.device, **chosen)


def _rates(scale: Scale, precisions: Iterable[str] = PRECISIONS, **given: Any) -> dict[str, float]:
    found = {}
    for name in precisions:
        found[name] = _fastest(_run(scale, **PRECISIONS[name], **given))
        scale.keep(found)
    return found


def _run(scale: Scale, examples: int | None = None, **given: Any) -> list[Row]:
    size, model = _size(scale)
    factory = image_task(made_up(scale.device, examples or size), model, augment=True)
    with tempfile.TemporaryDirectory() as folder, _as_on_a_gpu(scale):
        return train(_settings(scale, **given), Path(folder) / "run", factory=factory).rows()


@contextmanager
def _as_on_a_gpu(scale: Scale) -> Iterator[None]:
    """Without a GPU nothing is compiled, and graphs remember Python functions."""
    with ExitStack() as stack:
        if scale.dry:
            stack.enter_context(mock.patch.object(torch, "compile", partial(torch.compile, backend="eager")))
            stack.enter_context(mock.patch.object(settings, "WITH_GRAPHS", ("cpu",)))
            stack.enter_context(mock.patch.object(graphs, "CudaGraphs", Remembered))
        yield


class Remembered:
    """Stands for CUDA graphs on a CPU: a captured function is called again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def aside(self, work: graphs.Work) -> None:
        """Do the work."""
        work()

    def captured(self, work: graphs.Work) -> graphs.Work:
        """The work itself."""
        return work


def _fastest(rows: list[Row]) -> float:
    """Images in a second, of the fastest epoch."""
    return max(float(row["images_per_second"] or 0) for row in rows)


def _environment(scale: Scale) -> dict[str, str]:
    examples, model = _size(scale)
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    return os.environ | {"ADAI_GPU_TASK": f"{scale.device} {examples} {model}", "PYTHONPATH": path}


def _command(scale: Scale, place: Path, seed: int, epochs: int) -> list[str]:
    code = (
        "import sys; from adai.lab import Settings, train\n"
        "place, seed, epochs, batch, device = sys.argv[1:]\n"
        "settings = Settings.of('gpu.lab:task', model=None, optimizer='adai', seed=int(seed), epochs=int(epochs),\n"
        "                       batch=int(batch), device=device)\n"
        "train(settings, place, checkpoint_every=0)\n"
    )
    batch = "32" if scale.dry else "128"
    return [sys.executable, "-c", code, str(place), str(seed), str(epochs), batch, scale.device]


def _in_a_process(scale: Scale, folder: Path, job: int) -> float:
    place = folder / str(job)
    command = _command(scale, place, job, epochs=2 if scale.dry else 4)
    subprocess.run(command, env=_environment(scale), cwd=REPOSITORY, check=True)
    return _fastest(Run(place).rows())
