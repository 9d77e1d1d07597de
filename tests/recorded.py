"""Graphs on a CPU: what torch is asked to compute is recorded, and computed again with the same tensors."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map


class Remembered:
    """Captures a function by remembering it, and replays it by calling it."""

    def __init__(self):
        self.captures = self.replays = 0

    def aside(self, work):
        work()

    def captured(self, work):
        self.captures += 1

        def replay():
            self.replays += 1
            work()

        return replay


class Recorded(Remembered):
    """Captures the operators alone, as a CUDA graph does, and what they wrote is as it was; replays without Python."""

    def captured(self, work):
        before = torch.get_rng_state()
        with _Recorder() as recorder:
            work()
        with torch.no_grad():
            for tensor, value in recorder.before.values():
                tensor.copy_(value)
        torch.set_rng_state(before)
        return super().captured(recorder.replay)


class _Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []
        self.before = {}  # what existing memory held, by address
        self.made = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor) and (at := tensor.untyped_storage().data_ptr()) not in self.made:
                self.before.setdefault(at, (tensor, tensor.clone()))
        result = func(*args, **kwargs)
        self.made |= {t.untyped_storage().data_ptr() for t in tree_leaves(result) if isinstance(t, torch.Tensor)}
        self.made -= self.before.keys()
        self.calls.append((func, args, kwargs, result))
        return result

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            tree_map(_put, result, again)


def _put(result, again):
    if isinstance(result, torch.Tensor) and result.data_ptr() != again.data_ptr():
        result.copy_(again)
