"""A task for several processes, without batch norm, whose steps do not depend on how a batch is split."""

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import TensorDataset

from adai.lab.tasks.task import Task


class Seen(nn.Module):
    """A buffer that differs between processes until they agree on it, as they have to before an evaluation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x):
        """Remember an input in training; in evaluation, see that all processes have the same one."""
        if self.training:
            self.last.copy_(x[:1, 0])
        elif dist.is_initialized():
            everywhere = [torch.zeros_like(self.last) for _ in range(dist.get_world_size())]
            dist.all_gather(everywhere, self.last)
            assert len(torch.cat(everywhere).unique()) == 1
        return x


def task():
    """Three classes of points in the plane."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(94, 2, generator=rng, dtype=torch.float64)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    model = nn.Sequential(Seen(), nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    return Task(model, TensorDataset(x, y), TensorDataset(x[:51], y[:51]))
