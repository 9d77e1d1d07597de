"""Padam as in its paper.

The ``PAdam`` of pytorch-optimizer 4.1.0 leaves out the running maximum of v, so it applies the partial power to Adam
instead of AMSGrad; its ``partial=0.25`` is twice the paper's p. A test shows the difference.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from adai.lab.optimizers.per_tensor import PerTensorOptimizer


class Padam(PerTensorOptimizer):
    r"""Partially adaptive momentum estimation: between SGD with momentum (p = 0) and AMSGrad (p = 1/2).

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad v_t = \beta_2 v_{t-1} + (1 - \beta_2) g_t^2, \quad
        \hat v_t = \max(\hat v_{t-1}, v_t), \quad \theta_t = \theta_{t-1} - \eta\, m_t / \hat v_t^p

    Source: J. Chen et al., Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural
    Networks, arXiv 1806.06763, Algorithm 1.

    Args:
        params: parameters or groups of them.
        lr: learning rate; the paper's is 0.1 for CIFAR.
        betas: the decay of the averages of the gradient and of its square.
        p: the power; the paper's is 1/8.
        eps: avoids 0/0, as (√v̂ + eps)^2p; the paper has none.
        weight_decay: L2 penalty.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        p: float = 0.125,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "p": p, "eps": eps, "weight_decay": weight_decay})

    def _start(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")}

    def _move(self, p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        m, v, v_hat = state["exp_avg"], state["exp_avg_sq"], state["max_exp_avg_sq"]
        m.lerp_(g, 1 - beta1)
        v.mul_(beta2).addcmul_(g, g, value=1 - beta2)
        torch.maximum(v_hat, v, out=v_hat)
        p.addcdiv_(m, v_hat.sqrt().add_(group["eps"]).pow_(2 * group["p"]), value=-group["lr"])
