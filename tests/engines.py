"""Every engine, how to select it, and what the tests of all of them are made of: cases, runs, a comparison."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adai import Adai
from tests.interpreter import interpreted

LOOP = {"foreach": False}
"""The engine that the others are held to: the rule itself, tensor by tensor."""
TRITON = {"triton": {"fused": True}, "triton_capturable": {"fused": True, "capturable": True}}
ENGINES = {"loop": LOOP, "foreach": {"foreach": True}, "fused": {"fused": True}, **TRITON}
"""The constructor's options of each engine; Triton's are for within `selected`."""

SHAPES = ((3, 4), (), (0,), (2, 3, 2, 5), (1001,))
OPTIONS = [
    {},
    {"weight_decay": 0.1},
    {"weight_decay": 0.1, "decoupled_weight_decay": True},
    {"weight_decay": 0.1, "decoupled_weight_decay": True, "eps": 0.0},
    {"eps": 0.0},
    {"dampening": 0.7},
    {"min_inertia": 0.7, "max_grad_norm": 1.0},
    {"min_inertia": 0.4, "eps": 0.6},
    {"warmup_steps": 5, "weight_decay": 0.1, "decoupled_weight_decay": True},
    {"warmup_steps": 5, "min_inertia": 0.5, "dampening": 0.7, "lr": torch.tensor(0.03, dtype=torch.float64)},
    {"dampening": 0.7, "lr": torch.tensor(0.03, dtype=torch.float64)},
    {"maximize": True, "weight_decay": 0.1},
    {"maximize": True, "weight_decay": 0.1, "betas": (1.0, 0.0)},
    {"lr": torch.tensor(0.03)},
    {"max_grad_norm": 1.0},
    {"max_grad_norm": 1.0, "eps": 0.6},
    {"max_grad_norm": 1.0, "weight_decay": 0.1, "maximize": True},
    {"max_grad_norm": 1.0, "weight_decay": 0.1, "maximize": True, "dampening": 0.0},
    {"betas": (1.0, 0.0)},
]


class Dispatches(TorchDispatchMode):
    """The operators that are called; not what the host reads off numbers of its own."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is not torch.ops.aten._local_scalar_dense.default:
            self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def each(*names):
    """Engines for a test to go through; those that are interpreted take long."""
    return [pytest.param(name, marks=pytest.mark.slow if name in TRITON else ()) for name in names]


@contextmanager
def selected(name):
    """The options that select an engine; the Triton one steps on the CPU, by Triton's interpreter."""
    with interpreted() if name in TRITON else nullcontext():
        yield ENGINES[name]


def train(params, steps, *, seed=0, optimizer=None, **options):
    """Random gradients of changing size; the same ones for the same seed."""
    optimizer = Adai(params, **{"lr": 0.03, **options}) if optimizer is None else optimizer
    rng = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for p in params:
            scale = 10 ** (2 * torch.rand((), generator=rng, dtype=torch.float64) - 1)
            p.grad = (torch.randn(p.shape, generator=rng, dtype=torch.float64) * scale).to(p)
        optimizer.step()
    return optimizer


def assert_close(params, expected, rtol):
    """Relative to the size of the tensor: single elements near 0 are differences of larger numbers."""
    for p, q in zip(params, expected, strict=True):
        scale = q.detach().abs().max().item() if q.numel() else 0.0
        torch.testing.assert_close(p.detach(), q.detach(), rtol=rtol, atol=rtol * scale)
