"""Deep copies of models."""

import copy

from torch import Tensor, nn


def copied(model: nn.Module) -> nn.Module:
    """A deep copy, also of a model that holds computed tensors, as `torch.nn.utils.weight_norm` creates."""
    computed = {
        id(tensor): tensor.detach().clone()
        for module in model.modules()
        for tensor in vars(module).values()
        if isinstance(tensor, Tensor) and not tensor.is_leaf
    }
    return copy.deepcopy(model, computed)
