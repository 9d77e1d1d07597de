"""The stability margin: against dense matrices, at the edge of stability, and what is refused."""

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import SGD, Adam, AdamW, RAdam, RMSprop

from adai import Adai, AdaiW
from adai.errors import UserError
from adai.lab import stability

F64 = torch.float64


def net(dtype=F64):
    """163 parameters, without kinks."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def data(n=32, dtype=F64):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=rng, dtype=F64).to(dtype), torch.randint(3, (n,), generator=rng)


def trained(optimizer, model, steps, x, y):
    for step in range(steps):
        part = slice(8 * step % len(y), 8 * step % len(y) + 8)
        optimizer.zero_grad()
        cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()


def hessian(model, x, y, loss=cross_entropy):
    """Row by row, by plain autograd."""
    params = [p for p in model.parameters() if p.requires_grad]
    slope = torch.autograd.grad(loss(model(x), y), params, create_graph=True)
    flat = torch.cat([g.flatten() for g in slope])
    rows = [torch.autograd.grad(g, params, retain_graph=True, allow_unused=True) for g in flat]
    return torch.stack([torch.cat([t.flatten() for t in row]) for row in rows]), flat.detach()


def plain(optimizer, slope):
    """η, S, L2 and decoupled decay of each element, written out from each paper's rule and torch's documentation."""
    state = optimizer.state
    v_hats = [
        state[p]["exp_avg_sq"] / (1 - g["betas"][1] ** state[p]["step"].item())
        for g in optimizer.param_groups
        for p in g["params"]
        if isinstance(optimizer, Adai) and p in state
    ]
    mean = sum(v.sum() for v in v_hats) / sum(v.numel() for v in v_hats) if v_hats else None
    columns, at = [], 0
    for g in optimizer.param_groups:
        for p in g["params"]:
            s, ones = state.get(p, {}), torch.ones_like(p)
            first = slope[at : at + p.numel()].view_as(p) + g["weight_decay"] * p.detach() * (not type(optimizer) is AdamW)
            at += p.numel()
            if isinstance(optimizer, SGD):
                b = g["momentum"]
                weight = ones * ((1 + 2 * b) / (1 + b) if g["nesterov"] else (1 - g["dampening"] * (b > 0)) / (1 + b))
            elif isinstance(optimizer, RMSprop):
                v = s["square_avg"] if s else (1 - g["alpha"]) * first**2
                v = v - s["grad_avg"] ** 2 if g["centered"] else v
                weight = 1 / ((1 + g["momentum"]) * (v.sqrt() + g["eps"]))
            elif isinstance(optimizer, Adai):
                if s:
                    v_hat = s["exp_avg_sq"] / (1 - g["betas"][1] ** s["step"].item())
                    w = (g["betas"][0] * v_hat / mean).clamp(g["eps"], 1)
                    weight = w / (2 - w)
                else:
                    weight = ones
            elif isinstance(optimizer, RAdam):
                (b, b2), t = g["betas"], s["step"].item()
                top = 2 / (1 - b2) - 1
                rho = top - 2 * t * b2**t / (1 - b2**t)
                r = ((rho - 4) * (rho - 2) * top / ((top - 4) * (top - 2) * rho)) ** 0.5
                weight = (1 - b) / (1 + b) * r * (1 - b2**t) ** 0.5 / (s["exp_avg_sq"].sqrt() + g["eps"])
            elif s:
                b, t = g["betas"][0], s["step"].item()
                v = s["max_exp_avg_sq" if g["amsgrad"] else "exp_avg_sq"] / (1 - g["betas"][1] ** t)
                weight = (1 - b) / ((1 + b) * (v.sqrt() + g["eps"]))
            else:
                weight = 1 / (first.abs() + g["eps"])
            decoupled = isinstance(optimizer, AdamW | AdaiW)
            decay = g["weight_decay"]
            for_all = (g["lr"] * ones, weight, decay * (not decoupled) * ones, decay * decoupled * ones)
            columns.append(torch.stack([part.flatten() for part in for_all]))
    return torch.cat(columns, dim=1)


CASES = {
    "sgd": lambda p: SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "dampening": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=0.01, weight_decay=0.01),
    "amsgrad": lambda p: Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=3.0),
    "radam": lambda p: RAdam(p, lr=0.01, betas=(0.9, 0.99)),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, weight_decay=0.01),
    "rmsprop-more": lambda p: RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adai": lambda p: Adai(p, lr=0.5, weight_decay=0.01),
    "adaiw": lambda p: AdaiW(p, lr=0.5, weight_decay=0.3),
}


def expected(optimizer, model, x, y, **options):
    """By the whole matrix: the margin, and the largest rate of the first group."""
    H, slope = hessian(model, x, y, **options)
    lr, S, l2, decoupled = plain(optimizer, slope)
    root = (lr * S).sqrt()
    M = root[:, None] * (H + torch.diag(l2)) * root + torch.diag(lr * decoupled)
    margin = torch.linalg.eigvalsh(M)[-1].item() / 2
    return margin, lr[0].item() / margin


@pytest.mark.parametrize("name", CASES)
def test_the_margin_of_a_run_is_that_of_the_whole_matrix(name):
    model, (x, y) = net(), data()
    optimizer = CASES[name](model.parameters())
    trained(optimizer, model, 25, x, y)
    found = stability(optimizer, model, cross_entropy, (x, y), tol=1e-9)
    margin, largest = expected(optimizer, model, x, y)
    assert found.margin == pytest.approx(margin, rel=1e-6)
    assert found.largest_lr == pytest.approx(largest, rel=1e-6)
    assert found.factor == pytest.approx(1 / margin, rel=1e-6)
    assert (found.lr, found.batch_norm) == (optimizer.param_groups[0]["lr"], "the model has none")
    assert found.loss == pytest.approx(cross_entropy(model(x), y).item())


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop", "adai", "adaiw"])
def test_before_the_first_step_it_is_that_of_the_first_step(name):
    model, (x, y) = net(), data()
    optimizer = CASES[name](model.parameters())
    found = stability(optimizer, model, cross_entropy, (x, y), tol=1e-9)
    assert found.margin == pytest.approx(expected(optimizer, model, x, y)[0], rel=1e-6)
