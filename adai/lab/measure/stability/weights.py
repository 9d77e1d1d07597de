"""The learning rate, step weight and decay of each parameter, from an optimizer and its state.

`adai.theory.stability` has the formulas. This module chooses the formula of an optimizer and reads its inputs from the
state.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RAdam, RMSprop

from adai.errors import UserError
from adai.optim import Adai, AdaiW
from adai.optim.rule import debias, warm_up
from adai.optim.shared.mean import accumulator
from adai.theory import stability as theory

State = dict[str, Any]
Group = dict[str, Any]
Gradient = Callable[[Tensor], Tensor]
"""Computes the gradient of the loss with respect to a parameter, for optimizers whose first step depends on it."""


class Moving(NamedTuple):
    """The numbers that determine the step of a parameter.

    Attributes:
        rate: η, the learning rate of its group, including the optimizer's own warm-up.
        weight: S, a number or a tensor of the parameter's shape.
        l2: weight decay that is added to the gradient.
        decoupled: decoupled weight decay.
    """

    rate: float
    weight: Tensor | float
    l2: float
    decoupled: float


# Computes S of a parameter from the parameter, its state and its group.
Weight = Callable[[Tensor, State, Group], Tensor | float]


def moving(optimizer: Optimizer, gradient: Gradient) -> dict[Tensor, Moving]:
    """The numbers of each parameter of the optimizer, with the current averages.

    A parameter that has not taken a step yet has the step weight of its first step.

    Args:
        optimizer: one of `KNOWN`.
        gradient: called for parameters of Adam's family that have not taken a step yet.

    Raises:
        UserError: no stability limit is known for the optimizer or for one of its options.
    """
    weight = _rule(optimizer)(optimizer, gradient)
    found = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            state = optimizer.state.get(p, {})
            found[p] = Moving(_rate(group, state), weight(p, state, group), *_decay(group, optimizer))
    return found


def check(optimizer: Optimizer) -> None:
    """Raise the errors that `moving` would raise, without computing anything.

    Raises:
        UserError: no stability limit is known for the optimizer or for one of its options.
    """
    _rule(optimizer)(optimizer, torch.zeros_like)


# Computes the weights of the optimizers of one class.
Rule = Callable[[Any, Gradient], Weight]


def _rule(optimizer: Optimizer) -> Rule:
    name = type(optimizer).__name__
    if type(optimizer) not in KNOWN:  # a subclass may have another rule
        known = ", ".join(cls.__name__ for cls in KNOWN)
        raise UserError(f"no stability limit is known for {name}; there is one for {known}")
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise UserError(f"{name} has maximize=True; minimise the negative loss to have a stability limit")
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p.is_complex() for p in params):
        raise UserError(f"{name} has complex parameters, for which no stability limit is known; give real ones")
    if any(hasattr(p, "device_mesh") for p in params) or getattr(optimizer, "process_group", None) is not None:
        raise UserError(f"{name} holds a share of the parameters; the stability limit needs all of them in one process")
    return KNOWN[type(optimizer)]


def _rate(group: Group, state: State) -> float:
    """The learning rate of the last step, or of the first one if there was none. It includes Adai's warm-up."""
    return float(group["lr"]) * float(warm_up(group.get("warmup_steps", 0), max(1.0, _steps(state))))


def _decay(group: Group, optimizer: Optimizer) -> tuple[float, float]:
    """L2 and decoupled weight decay. Before torch 2.7, AdamW has no option that says which one it uses."""
    decay = float(group["weight_decay"])
    return (0.0, decay) if group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)) else (decay, 0.0)


def _steps(state: State) -> float:
    return float(state.get("step", 0))


def _sgd(optimizer: Optimizer, gradient: Gradient) -> Weight:
    """The momentum builds up from 0, so the limit holds from the first step on."""
    rules = {group["nesterov"] and group["momentum"] for group in optimizer.param_groups}
    if len(rules) > 1:
        raise UserError("SGD has groups that differ in nesterov; their stability limit is known for one momentum only")

    def weight(p: Tensor, state: State, group: Group) -> float:
        if not group["momentum"]:
            return theory.sgd()
        if group["nesterov"]:
            return float(theory.nesterov(group["momentum"]))
        return float(theory.heavy_ball(group["momentum"], group["dampening"]))

    return weight


def _adam(optimizer: Optimizer, gradient: Gradient) -> Weight:
    """Adam, AdamW, AMSGrad. The first step is that of m̂ = g and v̂ = g²."""

    def weight(p: Tensor, state: State, group: Group) -> Tensor:
        beta1, beta2 = group["betas"]
        if not _steps(state):
            first: Tensor = theory.rmsprop(_first(p, group, optimizer, gradient).abs() + group["eps"])
            return first
        v_hat = _wide(state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]) / debias(beta2, _steps(state))
        settled: Tensor = theory.adam(v_hat.sqrt() + group["eps"], beta1)
        return settled

    return weight


def _radam(optimizer: Optimizer, gradient: Gradient) -> Weight:
    """RAdam: first momentum without a denominator, then a rectified Adam whose ε is added before bias correction."""

    def weight(p: Tensor, state: State, group: Group) -> Tensor | float:
        (beta1, beta2), t = group["betas"], _steps(state)
        if not t:
            return theory.sgd()
        bias_correction2, most = debias(beta2, t), 2 / (1 - beta2) - 1
        length = most - 2 * t * beta2**t / bias_correction2
        if length <= 5:
            return float(theory.ema(beta1))
        rectified = ((length - 4) * (length - 2) * most / ((most - 4) * (most - 2) * length)) ** 0.5
        P = (_wide(state["exp_avg_sq"]).sqrt() + group["eps"]) / (bias_correction2**0.5 * rectified)
        settled: Tensor = theory.adam(P, beta1)
        return settled

    return weight


def _rmsprop(optimizer: Optimizer, gradient: Gradient) -> Weight:
    """RMSprop, also centred or with momentum. There is no bias correction."""

    def weight(p: Tensor, state: State, group: Group) -> Tensor:
        if _steps(state):
            v = _wide(state["square_avg"])
            v = (v - _wide(state["grad_avg"]) ** 2).clamp_min(0) if group["centered"] else v
        else:
            g, new = _first(p, group, optimizer, gradient), 1 - group["alpha"]
            v = new * g**2 - (new * g) ** 2 if group["centered"] else new * g**2
        S: Tensor = theory.rmsprop(v.sqrt() + group["eps"], group["momentum"])
        return S

    return weight


def _adai(optimizer: Adai, gradient: Gradient) -> Weight:
    """Adai, AdaiW. The first step uses the gradient itself, m̂_1 = g_1, whatever the inertia."""
    if any(group["dampening"] != 1 for group in optimizer.param_groups):
        raise UserError(f"{type(optimizer).__name__} has a dampening other than 1; its stability limit is known for 1")
    mean = optimizer.v_mean()

    def weight(p: Tensor, state: State, group: Group) -> Tensor | float:
        if not _steps(state) or not mean:
            return theory.sgd()
        S: Tensor = theory.adai(_wide(optimizer.inertia(p, mean)))
        return S

    return weight


def _first(p: Tensor, group: Group, optimizer: Optimizer, gradient: Gradient) -> Tensor:
    """The gradient that the first step would use, with L2 decay."""
    l2, _ = _decay(group, optimizer)
    return _wide(gradient(p)) + l2 * _wide(p.detach())


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().to(accumulator(tensor.device))


KNOWN: dict[type[Optimizer], Rule] = {
    SGD: _sgd,
    Adam: _adam,
    AdamW: _adam,
    RAdam: _radam,
    RMSprop: _rmsprop,
    Adai: _adai,
    AdaiW: _adai,
}
"""The optimizers with a known limit, and the function that finds their step weights."""
