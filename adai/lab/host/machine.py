"""The device and machine of a result."""

import logging
import platform
from functools import cache
from typing import Any

import torch

from adai import __version__
from adai.errors import UserError

logger = logging.getLogger(__name__)


@cache
def default_device() -> str:
    """The device of runs that name none: ``cuda`` if torch can use a GPU, which is said once, else ``cpu``."""
    if not torch.cuda.is_available():
        return "cpu"
    logger.warning("Using cuda (%s), because no device was given; the device cpu uses the CPU.", _gpu())
    return "cuda"


def _gpu(device: torch.device | None = None) -> str:
    return torch.cuda.get_device_name(device)


def device_named(name: str) -> torch.device:
    """The device of that name, after a test that it can store a number.

    Raises:
        UserError: there is no such device, or it cannot be used.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"cannot use device {name!r}: {str(error).splitlines()[0]}") from error
    return device


def about(device: torch.device, command: str) -> dict[str, Any]:
    """The information to store with a result: the command, versions, the machine."""
    return {
        "command": command,
        "adai": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": _gpu(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
    }


def processor() -> str:
    """The processor's name, as far as the system provides it."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
