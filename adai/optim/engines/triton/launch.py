"""Launches that take little of the host's time.

At each launch Triton binds the arguments, derives from them how the kernel is specialized, and looks for the compiled
kernel, which takes several times as long as starting it. But the constants determine it here, because every other
argument is either an array, always of the same dtype and at a multiple of 16 bytes, or an integer that the kernel is
not specialized for. So it is kept with the constants. It is started with addresses, so that Triton need not ask the
driver about each tensor.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 16
"""The bytes of which the address of every argument is a multiple, because Triton compiles other code otherwise."""
_ABLE: dict[torch.device, bool] = {}


class Launch:
    """A kernel with its constants and a number of programs, for one device."""

    def __init__(self, kernel: Any, programs: int, constants: dict[str, Any], device: torch.device) -> None:
        """Create it without launching.

        Args:
            kernel: the kernel, whose last arguments are the constants.
            programs: the number of programs.
            constants: the constants in the order of the kernel's arguments. Options of Triton may follow.
            device: the device, which is the current one at each launch.
        """
        self._kernel, self._programs, self._constants = kernel, programs, constants
        self._quick = _ABLE.get(device, False)
        self._start: Callable[..., None] | None = None
        self._last: list[Any] = []

    def __call__(self, *args: Tensor | int) -> None:
        """Launch the kernel with the arguments that come before the constants."""
        if self._start is not None:
            self._start(*[arg if isinstance(arg, int) else arg.data_ptr() for arg in args], *self._last)
            return
        compiled = self._kernel[(self._programs,)](*args, **self._constants)
        if self._quick and compiled is not None:  # None if a hook of Triton has kept it from the launch
            self._last = [value for name, value in self._constants.items() if name in self._kernel.arg_names]
            self._start = compiled[(self._programs, 1, 1)]


def try_quick(kernels: Any, device: torch.device) -> None:
    """Find out whether this version of Triton can start compiled kernels with addresses, on the current device."""
    number = torch.zeros((), device=device)
    address = torch.tensor(number.data_ptr(), dtype=torch.int64, device=device)
    _ABLE[device] = True
    probe = Launch(kernels.probe, 1, {"ELEMENT": kernels.TYPES[number.dtype]}, device)
    try:
        for _ in range(2):  # the second is quick
            number.zero_()
            probe(address)
        _ABLE[device] = bool(number)
    except Exception:  # of any kind: Triton before 3.3 takes other arguments, and its interpreter compiles nothing
        _ABLE[device] = False
