"""Launches that take little of the host's time.

At each launch Triton binds the arguments, derives from them how the kernel is specialized, and looks for the compiled
kernel: 9 to 18 µs on one machine, where starting the compiled kernel takes 3. Here the compiled kernel is found by its
constants alone. This suffices, because all other arguments are float64 or integer arrays at multiples of 16 bytes, or
integers that kernels are not specialized for. It is started with addresses, which spares Triton to ask the driver about
each tensor.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

ALIGNMENT = 16
"""The bytes of which the address of every argument is a multiple, because Triton compiles other code otherwise."""
_ABLE: dict[torch.device, bool] = {}


class Launches:
    """The kernels for one device. Each is launched as Triton launches it: ``launches.name[grid](*args, **constants)``.

    The names of the constants, and their order, are those of the kernel's last arguments. Options of Triton may follow.
    """

    def __init__(self, kernels: Any, device: torch.device) -> None:
        self._kernels, self._quick = kernels, _ABLE.get(device, False)

    def __getattr__(self, name: str) -> Any:
        """The kernel of this name."""
        found = getattr(self._kernels, name)
        if self._quick:
            found = _Kernel(found)
            setattr(self, name, found)  # so that this is not called again
        return found


class _Kernel:
    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._started: dict[Any, tuple[Callable[..., None], tuple[Any, ...]]] = {}

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        def launch(*args: Tensor | int, **constants: Any) -> None:
            key = grid, *constants.values()
            kept = self._started.get(key)
            if kept is None:
                compiled = self._kernel[grid](*args, **constants)
                own = tuple(value for name, value in constants.items() if name in self._kernel.arg_names)
                self._started[key] = compiled[(*grid, 1, 1)], own
                return
            start, own = kept
            start(*[arg if isinstance(arg, int) else arg.data_ptr() for arg in args], *own)

        return launch


def try_quick(kernels: Any, device: torch.device) -> None:
    """Find out whether this version of Triton can start compiled kernels with addresses, on the current device."""
    _ABLE[device] = True
    number = torch.zeros((), device=device)
    address = torch.tensor(number.data_ptr(), dtype=torch.int64, device=device)
    try:
        probe = Launches(kernels, device).probe
        for _ in range(2):  # the second is quick
            number.zero_()
            probe[(1,)](address, ELEMENT=kernels.TYPES[number.dtype])
        _ABLE[device] = bool(number)
    except Exception:  # of any kind: Triton before 3.3 takes other arguments, and its interpreter compiles nothing
        _ABLE[device] = False
