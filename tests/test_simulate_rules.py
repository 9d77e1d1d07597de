"""The simulated rules equal the optimizers, step by step in float64."""

import numpy as np
import pytest
import torch

from adai import Adai, AdaiW
from adai.simulate import rules

N = 6


CASES = {
    "sgd": (rules.sgd(0.1), lambda p: [torch.optim.SGD([p], lr=0.1)]),
    "momentum": (rules.momentum(0.01), lambda p: [torch.optim.SGD([p], lr=0.01, momentum=0.9)]),
    "adam": (rules.adam(0.03), lambda p: [torch.optim.Adam([p], lr=0.03)]),
    "adai": (rules.adai(0.1), lambda p: [Adai([p], lr=0.1)]),
    "adai, other options": (
        rules.adai(0.1, beta0=0.4, beta2=0.9, eps=0.05), lambda p: [Adai([p], lr=0.1, betas=(0.4, 0.9), eps=0.05)]),
    "adaiw": (rules.adaiw(0.1, decay=0.02), lambda p: [AdaiW([p], lr=0.1, weight_decay=0.02)]),
}  # fmt: skip


def simulate(rule, gradients):
    theta = np.linspace(-1, 1, N)
    m, v, c = np.zeros(N), np.zeros(N), np.zeros(N)
    for t, g in enumerate(gradients, start=1):
        rules.step(rule, theta, g, m, v, c, float(t))
        yield theta.copy()


def some_gradients(steps=60):
    rng = np.random.default_rng(0)
    return rng.standard_normal((steps, N)) * np.logspace(-3, 1, N)


@pytest.mark.parametrize("name", CASES)
def test_each_step_is_the_optimizers(name):
    rule, make = CASES[name]
    p = torch.tensor(np.linspace(-1, 1, N)).requires_grad_()
    optimizers = make(p)
    for g, theta in zip(some_gradients(), simulate(rule, some_gradients()), strict=True):
        p.grad = torch.tensor(g)
        for optimizer in optimizers:
            optimizer.step()
        np.testing.assert_allclose(theta, p.detach().numpy(), rtol=1e-12, atol=1e-13)


def test_ema_is_adai_one_coordinate_at_a_time():
    """Where v̂ is its own mean and mu is 1 - beta0."""
    params = [torch.tensor([x], dtype=torch.float64).requires_grad_() for x in np.linspace(-1, 1, N)]
    optimizers = [Adai([p], lr=0.1) for p in params]
    for g, theta in zip(some_gradients(), simulate(rules.ema(0.1), some_gradients()), strict=True):
        for p, x, optimizer in zip(params, g, optimizers, strict=True):
            p.grad = torch.tensor([x])
            optimizer.step()
        np.testing.assert_allclose(theta, [p.item() for p in params], rtol=1e-12, atol=1e-13)


def test_adai_without_any_gradient_stays():
    theta, m, v, c = np.ones(N), np.zeros(N), np.zeros(N), np.zeros(N)
    rules.step(rules.adaiw(0.1), theta, np.zeros(N), m, v, c, 1.0)
    assert np.array_equal(theta, np.ones(N))
    assert not c.any()
