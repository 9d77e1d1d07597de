"""The inertia μ of a parameter and the mean of v̂, computed from the state between steps."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from adai.optim.hyper import Hyper
from adai.optim.rule import Mean, debias, weight
from adai.optim.saving.state import step_counts
from adai.optim.shared.mean import sum_of
from adai.optim.shared.sharding import Sharing, on_this_process


@torch.no_grad()
def v_hats(optimizers: Iterable[Optimizer]) -> tuple[list[Tensor], list[int], list[Tensor]]:
    """Σ v̂ on this process, the number of elements, and the parameter, for each parameter that has taken a step."""
    stepped = [
        (param, optimizer.state[param], group["betas"][1])
        for optimizer in optimizers
        for group in optimizer.param_groups
        for param in group["params"]
        if "step" in optimizer.state.get(param, {})
    ]
    hats, elements, params = [], [], []
    counts = step_counts([state["step"] for _, state, _ in stepped])
    for (param, state, beta2), t in zip(stepped, counts, strict=True):
        if not t:
            continue
        v = on_this_process(param, state["exp_avg_sq"])
        v = torch.view_as_real(v) if v.is_complex() else v
        hats.append(sum_of(v) / debias(beta2, t))
        elements.append(v.numel())
        params.append(param)
    return hats, elements, params


def v_mean(optimizer: Optimizer, sharing: Sharing) -> float:
    """The mean of v̂ over every element of every parameter that has taken a step, on all processes; 0 before any."""
    hats, elements, params = v_hats([optimizer])
    if not hats and sharing.alone:
        return 0.0
    return float(sharing.mean(hats, elements, [None] * len(hats), [sharing.share(p) for p in params]))


@torch.no_grad()
def inertia(optimizer: Optimizer, param: Tensor, mean: float) -> Tensor:
    """μ of each element of a parameter, given the mean of v̂."""
    group = next((g for g in optimizer.param_groups if any(p is param for p in g["params"])), None)
    if group is None:
        raise ValueError(
            f"a tensor of shape {tuple(param.shape)} is not a parameter of this optimizer; "
            "pass one of those in optimizer.param_groups"
        )
    state = optimizer.state.get(param, {})
    t = float(state["step"]) if "step" in state else 0.0
    if not t:
        raise RuntimeError(
            f"a parameter of shape {tuple(param.shape)} has no inertia yet, because it has not taken a step; "
            "first call step() with a gradient that is not zero"
        )
    hyper, v = Hyper.of(group), state["exp_avg_sq"]
    v = v.to(torch.promote_types(v.dtype, torch.float32))
    w = weight(
        torch.view_as_real(v) if v.is_complex() else v,
        count=hyper.count_at(t),
        mean=Mean(mean),
        beta0=hyper.beta0,
        eps=hyper.eps,
        min_inertia=hyper.min_inertia,
        dampening=hyper.dampening,
    )
    mu: Tensor = 1 - w
    return torch.view_as_complex(mu) if v.is_complex() else mu
