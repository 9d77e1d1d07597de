"""Optimizers that a reader might bring along, found by their names in tests and in the processes that tests start."""

import torch
from pytorch_optimizer import SAM
from torch import nn

from adai.lab.tasks.task import Task


class Mine(torch.optim.Optimizer):
    """Gradient descent with momentum."""

    def __init__(self, params, lr=0.05, beta=0.9, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "beta": beta, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    m.mul_(group["beta"]).add_(p.grad).add_(p, alpha=group["weight_decay"])
                    p.sub_(m, alpha=group["lr"])


class NoRate(Mine):
    """Needs a learning rate."""

    def __init__(self, params, lr):
        super().__init__(params, lr)


class Unable(torch.optim.SGD):
    """Takes no step."""

    def step(self, closure=None):
        raise RuntimeError("no step today")


class Unkept(torch.optim.SGD):
    """Its state cannot be kept."""

    def state_dict(self):
        return {**super().state_dict(), "extra": nn.Linear(1, 1)}


def two_groups(model, lr=0.1, ratio=0.1):
    """Another learning rate for vectors than for matrices, as Muon's users have it."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.SGD([{"params": matrices}, {"params": vectors, "lr": ratio * lr}], lr=lr, momentum=0.9)


def sam(model, lr=0.1, rho=0.05):
    """Sharpness-aware minimisation of SGD."""
    return SAM(model.parameters(), torch.optim.SGD, rho=rho, lr=lr, momentum=0.9)


def elsewhere(model):
    """Has none of the model's parameters."""
    return torch.optim.SGD(nn.Linear(2, 2).parameters())


def number(model):
    """Returns no optimizer."""
    return 3


def task():
    """Three blobs, a net with dropout and batch norm: whatever an evaluation anew could get wrong."""
    generator = torch.Generator().manual_seed(5)
    y = torch.arange(96) % 3
    x = torch.randn(96, 4, generator=generator) + 2 * nn.functional.one_hot(y, 4)
    data = torch.utils.data.TensorDataset(x, y)
    net = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, 3))
    return Task(net, data, data)
