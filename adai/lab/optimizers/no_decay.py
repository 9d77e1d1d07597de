"""Weight decay for only some of the parameters."""

from collections.abc import Callable, Iterable
from typing import Any

from torch.nn import Parameter


def no_decay(
    parameters: Iterable[Parameter], decays: Callable[[Parameter], bool] | None = None
) -> list[Parameter] | list[dict[str, Any]]:
    """Parameter groups for an optimizer, with ``weight_decay=0`` for the parameters that do not decay.

    Language models usually decay only matrices, not biases, gains of norms and other vectors. The result is for any
    optimizer that takes groups with a ``weight_decay``, such as those of torch.

    Args:
        parameters: the parameters of the model.
        decays: whether weight decay applies to a parameter; default to all.

    Returns:
        The list of parameters if all decay; otherwise two groups, those that decay and those that do not.

    Example:
        >>> import torch
        >>> from adai.lab.optimizers.no_decay import no_decay
        >>> model = torch.nn.Linear(3, 2)
        >>> groups = no_decay(model.parameters(), lambda parameter: parameter.dim() > 1)
        >>> [group.get("weight_decay") for group in torch.optim.AdamW(groups, weight_decay=0.1).param_groups]
        [0.1, 0]
    """
    whole = list(parameters)
    if decays is None or all(map(decays, whole)):
        return whole
    groups: list[dict[str, Any]] = [
        {"params": [p for p in whole if decays(p)]},
        {"params": [p for p in whole if not decays(p)], "weight_decay": 0},
    ]
    return [group for group in groups if group["params"]]
