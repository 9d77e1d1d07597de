"""`adai doctor`: what is installed and what is used, on one screen. It needs torch alone, so it prints plain text."""

import argparse
import importlib.metadata
import os
import platform
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import adai
from adai import Adai
from adai.optim.engines import cpu, triton
from adai.optim.engines.cpu import library
from adai.optim.engines.foreach import Foreach

_COLUMN, _WIDTH = 9, 100
_WHOLE_WORDS: Any = {"break_long_words": False, "break_on_hyphens": False}  # to be copied and searched for


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    del options
    for name, lines in findings():
        for i, line in enumerate(lines):
            head = f"{'' if i else name:{_COLUMN}}"
            print(textwrap.fill(line, _WIDTH, initial_indent=head, subsequent_indent=" " * _COLUMN, **_WHOLE_WORDS))
    return 0


def findings() -> Iterator[tuple[str, list[str]]]:
    """A name and what there is to say about it, for each part."""
    yield "adai", [f"{adai.__version__}, {Path(adai.__file__).parent}"]
    yield "Python", [f"{platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs"]
    yield "torch", [f"{torch.__version__}, threads: {torch.get_num_threads()}"]
    yield "kernel", [_kernel()]
    yield "Triton", [_version("triton") or "not installed"]
    yield "GPU", _gpus()
    yield "engine", [f"{device}: {_engine(device)}" for device in _devices()]
    yield "data", [_data()]
    yield "extras", list(_extras())


def _kernel() -> str:
    """The compiled CPU kernel, its instructions and threads."""
    try:
        kernel = library.load()
    except RuntimeError as error:
        return f"cannot be used: {error}"
    if kernel is None:
        return f"none: {library.missing()}"
    threads = "torch's threads" if library.crew().run else "one thread, because torch has no OpenMP that it can share"
    return f"{Path(kernel._name).name}, {library.best_variant()} instructions, {threads}"


def _gpus() -> list[str]:
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        return [f"none that torch can use ({built})"]
    return [
        f"cuda:{i}: {torch.cuda.get_device_name(i)}, compute capability "
        + ".".join(map(str, torch.cuda.get_device_capability(i)))
        for i in range(torch.cuda.device_count())
    ]


def _devices() -> list[torch.device]:
    """One device of each type that torch can use."""
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda:0"))
    if torch.backends.mps.is_available():
        devices.append(torch.device("mps"))
    return devices


def _engine(device: torch.device) -> str:
    """The engine that a step takes on the device by default, and why not a faster one."""
    try:
        param = torch.zeros(2, device=device, requires_grad=True)
        param.grad = torch.ones_like(param)
        optimizer = Adai([param])
        optimizer.step()
    except Exception as error:  # of any kind: to tell it is what this command is for
        return f"a step fails: {type(error).__name__}: {error}"
    (engine,) = optimizer._engines.values()
    if isinstance(engine, cpu.Fused):
        return "fused (the compiled kernel); foreach and for-loop are slower"
    if isinstance(engine, triton.Fused):
        return "fused (Triton kernels); foreach and for-loop are slower"
    name = "foreach" if isinstance(engine, Foreach) else "for-loop"
    return f"{name}; not fused, because {_reason(device)}"


def _reason(device: torch.device) -> str:
    """Why the device has no fused engine."""
    if device.type == "cuda":
        return triton.missing(device) or "the kernels refuse the tensors"
    return "the kernel is missing" if device.type == "cpu" else f"there are no kernels for {device.type}"


def _data() -> str:
    """The data sets in the folder that the environment names."""
    folder = os.environ.get("ADAI_DATA_DIR")
    if not folder:
        return "ADAI_DATA_DIR is not set: data sets come from scikit-learn and the Hugging Face hub"
    try:
        names = sorted(path.name for path in Path(folder).iterdir() if path.is_dir())
    except OSError as error:
        return f"ADAI_DATA_DIR={folder}: {error.strerror}"
    return f"ADAI_DATA_DIR={folder}: {', '.join(names) or 'no data sets'}"


def _extras() -> Iterator[str]:
    """What is installed of each optional extra that users choose from, and what is missing."""
    try:
        required = importlib.metadata.requires("adai") or []
    except importlib.metadata.PackageNotFoundError:
        yield "unknown, because adai is imported from a folder and not installed"
        return
    extras: dict[str, list[str]] = {}
    for requirement in required:
        found = re.match(r"([\w.-]+).*;.*\bextra == [\"'](\w+)[\"']", requirement)
        if found and found[2] != "dev":
            extras.setdefault(found[2], []).append(found[1])
    for extra, packages in extras.items():
        versions = {package: _version(package) for package in packages}
        present = [f"{package} {version}" for package, version in versions.items() if version]
        missing = [package for package, version in versions.items() if not version]
        said = [", ".join(present)] if present else []
        if missing:
            said.append(f"without {', '.join(missing)} (pip install 'adai[{extra}]')")
        yield f"{extra}: {'; '.join(said)}"


def _version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
