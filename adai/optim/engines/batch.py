"""The tensors of one parameter group that take part in a step, as parallel lists."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai.optim.engines.rounding import Place

PLAIN = (Tensor, torch.nn.Parameter)
"""The types whose numbers are in their own memory. A subclass may keep them elsewhere."""

_Tensors = tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor], list[Tensor | None], list[Tensor]]


class Batch(NamedTuple):
    """The tensors that an engine works on: one entry for each parameter that has a gradient."""

    params: list[Tensor]
    grads: list[Tensor]
    exp_avgs: list[Tensor]
    exp_avg_sqs: list[Tensor]
    bias_corrections: list[Tensor | None]
    steps: list[Tensor]
    places: list[Place]

    @classmethod
    def empty(cls) -> "Batch":
        """A batch with empty lists."""
        return cls([], [], [], [], [], [], [])

    def tensors(self) -> _Tensors:
        """All lists but `places`. NOTE torch.compile (2.6) cannot slice a NamedTuple."""
        return self.params, self.grads, self.exp_avgs, self.exp_avg_sqs, self.bias_corrections, self.steps

    def real(self) -> "Batch":
        """The same memory, with complex tensors viewed as pairs of real numbers."""
        return _batch([*([None if t is None else _real(t) for t in ts] for ts in self.tensors()), self.places])

    def alike(self) -> list[tuple["Batch", list[int]]]:
        """Parts whose tensors share device and dtypes, as foreach kernels need, each with its positions in this batch.

        Tensors without a bias correction are in other parts than those with one.
        """
        parts: dict[Any, list[int]] = {}
        for i, (param, grad, m, c) in enumerate(
            zip(self.params, self.grads, self.exp_avgs, self.bias_corrections, strict=True)
        ):
            parts.setdefault((param.device, param.dtype, grad.dtype, m.dtype, c is None), []).append(i)
        return [(self.take(where), where) for where in parts.values()]

    def check_shapes(self) -> None:
        """Raise if a gradient or a state tensor has another shape than its parameter, which engines do not check."""
        for p, g, m, v, c in zip(
            self.params, self.grads, self.exp_avgs, self.exp_avg_sqs, self.bias_corrections, strict=True
        ):
            shape = p.shape
            if g.shape == shape == m.shape == v.shape and (c is None or c.shape == shape):
                continue
            named = (("gradient", g), ("exp_avg", m), ("exp_avg_sq", v), ("bias_correction", c))
            name, other = next((name, t.shape) for name, t in named if t is not None and t.shape != shape)
            raise RuntimeError(
                f"a parameter of shape {tuple(shape)} has a {name} of shape {tuple(other)}; if you resize a parameter, "
                "resize or remove its .grad and the tensors in optimizer.state[parameter] too"
            )

    def take(self, where: list[int]) -> "Batch":
        """The batch of the tensors at these positions."""
        return _batch([[ts[i] for i in where] for ts in self])


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _batch(lists: Any) -> Batch:
    return Batch(*lists)
