"""A task without batch norm, whose steps do not depend on how a batch is shared out."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from adai.lab.task import Task


def task():
    """Three classes of points in the plane."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(94, 2, generator=rng, dtype=torch.float64)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    return Task(model, TensorDataset(x, y), TensorDataset(x[:51], y[:51]))
