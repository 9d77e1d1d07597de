"""What adai takes from torch under a private name, and what it does where torch has no such name."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.optim import optimizer as torchs

from adai import Adai
from adai.optim import torch_private


class Subclass(torch.Tensor):
    pass


def test_torchs_own_is_taken_where_there_is_one():
    assert torch_private.use_grad_for_differentiable is torchs._use_grad_for_differentiable
    assert torch_private.current_backward is torch._C._current_graph_task_id
    assert torch_private.check_capture.__module__ == torchs.__name__


def test_conventions_hold_without_any_of_the_names():
    chosen = "differentiable or closure or every_option or defaults"
    command = [sys.executable, "-m", "pytest", "-p", "tests.without_torch_private", "tests/test_conventions.py"]
    result = subprocess.run(
        [*command, "-k", chosen], cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.parametrize("differentiable", [False, True])
@pytest.mark.parametrize("kind", [torch.Tensor, torch.nn.Parameter, Subclass])
def test_the_fallback_chooses_foreach_where_torch_does(kind, differentiable):
    params = [kind(torch.zeros(2))]
    expected = torch_private.foreach_by_default(params, differentiable=differentiable)
    assert torch_private._fused_or_foreach(params, differentiable)[1] == expected


class OnGPU:
    """What is asked of a parameter on a GPU."""

    device = torch.device("cuda")


def test_the_fallback_chooses_foreach_on_gpus_alone(monkeypatch):
    monkeypatch.setattr(torch_private, "Tensor", OnGPU)
    assert torch_private._fused_or_foreach([OnGPU()], differentiable=False) == (False, True)
    assert torch_private._fused_or_foreach([OnGPU()], differentiable=True) == (False, False)
    assert torch_private._fused_or_foreach([OnGPU(), torch.nn.Parameter(torch.zeros(1))], False) == (False, False)


@pytest.mark.parametrize(("capturing", "capturable"), [(True, False), (True, True), (False, False)])
def test_the_fallback_refuses_a_capture_that_could_not_be_replayed(capturing, capturable, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    optimizer = Adai([torch.zeros(1, requires_grad=True)], capturable=capturable)
    if capturing and not capturable:
        with pytest.raises(RuntimeError, match="cannot capture a step of Adai without capturable=True"):
            torch_private._check_capture(optimizer)
    else:
        torch_private._check_capture(optimizer)


OTHER_FORMS = {
    "shape": lambda: torch.zeros(3, 2),
    "strides": lambda: torch.zeros(3, 2).t(),
    "dtype": lambda: torch.zeros(2, 3, dtype=torch.float64),
    "type": lambda: torch.nn.Parameter(torch.zeros(2, 3), requires_grad=False),
    "device": lambda: torch.zeros(2, 3, device="meta"),
    "layout": lambda: torch.zeros(2, 3).to_sparse(),
    "number of dimensions": lambda: torch.zeros(2, 3, 1),
}


@pytest.mark.parametrize("other", OTHER_FORMS.values(), ids=OTHER_FORMS.keys())
def test_tensors_of_other_forms_are_told_apart(other):
    looks_right = torch_private.looks_like([torch.ones(2, 3), torch.ones(4)])
    assert looks_right(torch.zeros(2, 3), torch.zeros(4)), "this version of torch has no fast test"
    assert not looks_right(other(), torch.zeros(4))


def test_without_a_fast_test_nothing_looks_right(monkeypatch):
    for guards in (None, lambda *_: None):  # none, and one with other arguments
        monkeypatch.setattr(torch_private, "_Guards", guards)
        assert not torch_private.looks_like([torch.ones(2)])(torch.ones(2))
