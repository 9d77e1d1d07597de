"""A pytest plugin for -p: it takes from torch the private names that adai uses, as a later version may.

It does so when it is imported, which is before the tests and adai are.
"""

import torch
from torch.optim import optimizer

PRIVATE = (
    (optimizer, "_use_grad_for_differentiable"),
    (optimizer, "_default_to_fused_or_foreach"),
    (optimizer.Optimizer, "_accelerator_graph_capture_health_check"),
    (optimizer.Optimizer, "_cuda_graph_capture_health_check"),
    (torch._C, "_current_graph_task_id"),
    (torch._C._dynamo.guards, "TensorGuards"),
)


for owner, name in PRIVATE:
    if hasattr(owner, name):
        delattr(owner, name)


def pytest_configure():
    from adai.optim import torch_private  # noqa: PLC0415

    for name in ("use_grad_for_differentiable", "check_capture", "_choose", "current_backward"):
        assert vars(torch_private)[name].__module__ == torch_private.__name__, f"{name} is still torch's"
