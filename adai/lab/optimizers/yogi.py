"""Yogi as in its paper.

The ``Yogi`` of pytorch-optimizer 4.1.0 differs in two ways: it initialises m with the initial value of v, so a
parameter moves without a gradient; and it divides v by 1 - beta2^t, although v is not an average that starts at 0. With
eps = 1e-3 another learning rate does not make up for either. A test shows the difference.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from adai.lab.optimizers.per_tensor import PerTensorOptimizer


class Yogi(PerTensorOptimizer):
    r"""Adam with a second moment that changes by no more than (1 - beta2) g² in either direction.

    .. math::
        m_t = \beta_1 m_{t-1} + (1 - \beta_1) g_t, \quad
        v_t = v_{t-1} - (1 - \beta_2)\, \mathrm{sign}(v_{t-1} - g_t^2)\, g_t^2, \quad
        \theta_t = \theta_{t-1} - \eta\, m_t / (\sqrt{v_t} + \epsilon)

    Source: M. Zaheer, S. Reddi, D. Sachan, S. Kale and S. Kumar, Adaptive Methods for Nonconvex Optimization,
    NeurIPS 2018, Algorithm 2.

    Args:
        params: parameters or groups of them.
        lr: learning rate; the paper's is 0.01.
        betas: the decay of the gradient's average and of the second moment.
        eps: added to √v; the paper's is 1e-3.
        initial_accumulator: v_0. The paper takes the mean of g² over a large batch.
        weight_decay: L2 penalty.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "initial_accumulator": initial_accumulator,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    def _start(self, p: Tensor, group: dict[str, Any]) -> dict[str, Tensor]:
        return {"exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.full_like(p, group["initial_accumulator"])}

    def _move(self, p: Tensor, g: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m.lerp_(g, 1 - beta1)
        square = g.square()
        v.addcmul_(torch.sign(v - square), square, value=beta2 - 1)
        p.addcdiv_(m, v.sqrt().add_(group["eps"]), value=-group["lr"])
