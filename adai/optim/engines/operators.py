"""What the engines share that consist of torch operators."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from adai.optim.engines.batch import Batch
from adai.optim.hyper import Hyper
from adai.optim.rule import Count
from adai.optim.shared.mean import total_before


class Operators:
    """The part of an engine that is the same for any torch operators. It keeps nothing between steps."""

    on_device = False
    one_pass = False
    ts: list[float] | None = None
    elements: int | None = None

    def prepare(self, batch: Batch, owners: Batch, hyper: Hyper) -> None:
        """Check the shapes; there is no other condition."""
        del owners, hyper
        if not torch.compiler.is_compiling():
            batch.check_shapes()

    def factor(self, squares: Sequence[Tensor], limit: float, unscale: Any) -> None:
        """Return None: these engines have no single operation for it."""
        del squares, limit, unscale

    def total_before(self, batch: Batch, hyper: Hyper, counts: Sequence[Count]) -> Tensor:
        """Σ v̂ of the step before."""
        return total_before(batch.exp_avg_sqs, counts, hyper.beta2)

    def mean_before(self, engines: Sequence[Any], clips: Sequence[Any]) -> None:
        """Return None: the host decides."""
        del engines, clips

    def mean(self, hats: Sequence[Tensor], elements: int) -> None:
        """Return None: these engines have no single operation for the mean."""
        del hats, elements
