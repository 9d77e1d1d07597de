"""A small net and its data, trained on one process and, in parts, on several."""

import torch
import torch.distributed as dist
from torch import nn

STEPS = 20
OPTIONS = {"lr": 0.05, "weight_decay": 0.01}


def net(dtype):
    """Layers with very different gradients, so that the mean over a part differs; 4 does not divide their rows."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 3), nn.Linear(3, 1)]
    model = nn.Sequential(*layers).to(dtype)
    with torch.no_grad():
        model[4].weight.mul_(5)
    return model


def batches(dtype, steps=STEPS, first=0):
    """Inputs and targets of each step."""
    for step in range(first, first + steps):
        rng = torch.Generator().manual_seed(step)
        yield (torch.randn(8, n, generator=rng, dtype=torch.float64).to(dtype) for n in (6, 1))


def part(tensor):
    """The rows that this rank works on."""
    return tensor.chunk(dist.get_world_size())[dist.get_rank()]


def train(model, optimizer, dtype, *, everything=False, steps=STEPS, first=0):
    """Train on this rank's rows, or on all of them."""
    for x, y in batches(dtype, steps, first):
        optimizer.zero_grad()
        if not everything:
            x, y = part(x), part(y)
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()


def alone(make, dtype, steps=STEPS):
    """The parameters by name after training on one process; ``make`` turns parameters into an optimizer."""
    model = net(dtype)
    train(model, make(model.parameters()), dtype, everything=True, steps=steps)
    return {name: p.detach() for name, p in model.named_parameters()}


def error(params, expected):
    """The largest difference of whole tensors by name."""
    assert params.keys() == expected.keys()
    return max((params[name] - expected[name]).abs().max().item() for name in expected)
