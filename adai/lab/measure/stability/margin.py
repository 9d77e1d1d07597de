"""The stability margin: the learning rate over the largest stable one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from adai.errors import UserError
from adai.lab.host import random_state
from adai.lab.measure.curvature.eigenpairs import top_eigenpairs
from adai.lab.measure.objective import BatchNorm, Objective
from adai.lab.measure.stability.weights import Moving, check, moving
from adai.theory import stability as theory

TOLERANCE = 1e-3


class Stability(NamedTuple):
    """How close an optimizer is to its edge of stability.

    Attributes:
        margin: the learning rate over the largest stable one: 1 is the edge, 0.5 half of the way to it.
        largest_lr: the largest stable learning rate of the first group, if the rates of all groups change by the same
            factor.
        lr: the current learning rate of the first group.
        loss: on the batch.
        batch_norm: a description of the statistics that batch norm used.
    """

    margin: float
    largest_lr: float
    lr: float
    loss: float
    batch_norm: str

    @property
    def factor(self) -> float:
        """The factor by which the learning rates of all groups can be multiplied until they reach the edge."""
        return 1 / self.margin if self.margin else float("inf")


def stability(
    optimizer: Optimizer,
    model: nn.Module,
    loss: Callable[[Any, Any], Tensor],
    batch: tuple[Tensor, Tensor],
    *,
    batch_norm: BatchNorm = "batch",
    tol: float = TOLERANCE,
) -> Stability:
    r"""How close training is to its edge of stability: the margin, and the largest stable learning rate.

    .. math::
        \text{margin} = \tfrac12 \lambda_{\max}\big((\eta S)^{1/2} (H + \lambda I) (\eta S)^{1/2}\big)

    H is the Hessian of the loss on the batch, η the current learning rate, λ the L2 decay, and S the optimizer's step
    weight, a number for each parameter, from its state (`adai.theory.stability`): :math:`(1 - \mu)/(1 + \mu)` for Adai,
    1 for plain SGD, 1 / (1 + β) for SGD with momentum. Decoupled decay δ adds ηδ to the matrix in the eigenvalue. On a
    quadratic, with settled and fixed averages in S, training is stable if and only if the margin is below 1.

    **When to use it.** Use it to find out whether the learning rate of an unstable run is too large, and by how much.
    With Adai and SGD it also gives the largest rate for a run without a warm-up: before the first step S is that of the
    first step, which is 1 for Adai. Call it between two steps, before or after `zero_grad`. **When not.** It is not a
    proof: the loss is not a quadratic, and each batch has another curvature. A margin slightly above 1 for some steps
    is common in training. With clipped gradients the true limit is higher. In about the first 1/(1 - μ) steps, while
    the averages are not settled, bias correction makes steps larger than it assumes. Before the first steps of Adam and
    RMSprop it says little, because their denominators change most then.

    It takes about 30 Hessian-vector products, each about two to four times as long as a training step. It does not
    change the model, gradients, optimizer, buffers or random generators; dropout is off.

    Args:
        optimizer: `adai.Adai` or AdaiW; or SGD, Adam (also with ``amsgrad``), AdamW, RAdam or RMSprop of `torch.optim`.
        model: maps the batch's inputs to the outputs that the loss takes. Parameters that the optimizer does not have
            are fixed.
        loss: of outputs and targets, a mean over the batch.
        batch: inputs (n, …) and targets (n, …). A large batch gives the curvature of the data rather than of one batch.
        batch_norm: ``batch``: use the statistics of the batch, as in training, whatever mode the model is in;
            ``running``: use those gathered so far.
        tol: relative accuracy of the eigenvalue.

    Returns:
        Margin and largest stable rate, with the loss and batch norm's statistics.

    Raises:
        UserError: no limit is known for the optimizer or for one of its options; the model, the loss or the state is
            not finite; or the same parameters and data give different losses.
        ValueError: the batch is not a pair of equally many inputs and targets, or the optimizer has none of the model's
            parameters.

    Source: derived and proved in `adai.theory.stability`; for Adam J. Cohen et al., arXiv 2207.14484.

    Example:
        >>> from torch import nn
        >>> from torch.nn.functional import mse_loss
        >>> model = nn.Linear(1, 1, bias=False)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> x = torch.full((4, 1), 2.0)
        >>> found = stability(optimizer, model, mse_loss, (x, x))  # H = 2x² = 8, stable below 2(1 + 0.9)/H
        >>> round(found.margin, 6), round(found.largest_lr, 6)
        (0.210526, 0.475)
    """
    check(optimizer)
    inputs, targets = _pair(batch)
    device = next(model.parameters(), torch.empty(0)).device
    # A random model is refused, but only after it has drawn numbers; and autocast would round the products.
    with random_state.untouched(device), torch.autocast(device.type, enabled=False):
        objective = Objective(
            model,
            inputs,
            targets,
            loss=loss,
            batch_norm=batch_norm,
            batch=len(inputs),
            dtype=_at_least_float32(model),
        )
        return measure(objective, optimizer, model, tol=tol)


def _pair(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    if not isinstance(batch, tuple | list) or len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        raise ValueError("batch has to be a pair of tensors, inputs and targets")
    return batch[0].detach(), batch[1].detach()


def _at_least_float32(model: nn.Module) -> torch.dtype:
    dtype = next(model.parameters(), torch.empty(0)).dtype
    return torch.float32 if dtype.itemsize < 4 else dtype


def measure(
    objective: Objective,
    optimizer: Optimizer,
    model: nn.Module,
    *,
    tol: float = TOLERANCE,
    seed: int = 0,
    progress: Callable[[int], None] = lambda products: None,
) -> Stability:
    """The margin on any data; see `stability`.

    Args:
        objective: the loss at the model's parameters.
        optimizer: the optimizer of the model's parameters.
        model: the model that the objective was made from.
        tol: relative accuracy of the eigenvalue.
        seed: of the start of Lanczos.
        progress: called with the number of products just computed; see
            `adai.lab.measure.curvature.eigenpairs.expected_products`.

    Raises:
        UserError: as `stability`.
        ValueError: the optimizer has none of the model's parameters.
    """
    operator, lr, scale = _preconditioned(objective, optimizer, model)
    top = _top(operator, tol, seed, progress)
    margin = float(theory.margin(scale, top)) if scale else 0.0
    # If all learning rates are 0, the groups are assumed to have the same rate.
    largest = float(theory.limit(top)) * (lr / scale if scale else 1.0)
    return Stability(margin, largest, lr, objective.loss(), str(objective.about()["batch_norm"]))


class Preconditioned:
    """R H R + diag(d) with an objective's Hessian H and a diagonal R: symmetric.

    Args:
        objective: the loss.
        root: the diagonal of R.
        diagonal: d.
    """

    def __init__(self, objective: Objective, root: Tensor, diagonal: Tensor) -> None:
        self.theta = objective.theta
        self._hvp, self._root, self._diagonal = objective.hvp, root, diagonal

    @property
    def size(self) -> int:
        """The number of rows."""
        return self.theta.numel()

    def hvp(self, vectors: Tensor) -> Tensor:
        """The product with a vector (size,), or with each row of (k, size)."""
        vectors = vectors.to(self.theta)
        return self._root * self._hvp(self._root * vectors) + self._diagonal * vectors


def _preconditioned(
    objective: Objective, optimizer: Optimizer, model: nn.Module
) -> tuple[Preconditioned, float, float]:
    """The matrix whose top eigenvalue, multiplied by the largest η, is below 2 if and only if training is stable.

    With a learning rate η_i, step weight S_i, L2 decay λ_i and decoupled decay δ_i of each parameter, the condition is
    λmax((ηS)^½ (H + λ) (ηS)^½ + ηδ) < 2. The proof in `adai.theory.stability` also holds with diagonal matrices.

    Returns:
        The matrix with each η divided by the largest, the learning rate of the first group, and the largest η.
    """
    gradients: dict[str, Tensor] = {}

    def gradient(p: Tensor) -> Tensor:
        if not gradients:
            gradients.update(objective.split(objective.gradient()))
        return gradients[names[p]] if p in names else torch.zeros_like(p)

    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters() if p.requires_grad}
    found = moving(optimizer, gradient)
    if not names.keys() & found.keys():
        raise ValueError("the optimizer has none of the model's parameters")
    fixed = Moving(0.0, 0.0, 0.0, 0.0)
    each = [found.get(p, fixed) for p in names]
    scale = max(one.rate for one in each)
    lr = float(optimizer.param_groups[0]["lr"])
    parts: list[tuple[Tensor, Tensor]] = []
    for (name, shape), one in zip(objective.split(objective.theta).items(), each, strict=True):
        share = one.rate / scale if scale else float(one is not fixed)
        weight = torch.as_tensor(one.weight, device=objective.theta.device).expand_as(shape).reshape(-1)
        if not torch.isfinite(weight).all():
            raise UserError(f"the optimizer's state for {name} is not finite; take one from before it blew up")
        parts.append((share * weight, share * (weight * one.l2 + one.decoupled)))
    squares, diagonal = (torch.cat(part).to(objective.theta) for part in zip(*parts, strict=True))
    return Preconditioned(objective, squares.sqrt(), diagonal), lr, scale


def _top(operator: Preconditioned, tol: float, seed: int, progress: Callable[[int], None]) -> float:
    if operator.size == 1:  # Lanczos needs more rows than it computes eigenvalues
        return float(operator.hvp(torch.ones_like(operator.theta)))
    return float(top_eigenpairs(operator, 1, tol=tol, seed=seed, progress=progress).values[0])
