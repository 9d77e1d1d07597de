"""Warnings where an optimizer sees only a part of a model's parameters, and none where it sees all."""

import types
import warnings

import pytest
import torch
from torch import nn
from torch.distributed.optim import _apply_optimizer_in_backward

from adai import Adai
from adai.optim.shared import parts


@pytest.fixture(autouse=True)
def said(monkeypatch):
    """The warnings of a test, as if nothing had been said before."""
    monkeypatch.setattr(parts, "_makers", {name: parts._Maker() for name in parts._PER_PARAMETER})
    monkeypatch.setattr(parts, "_backwards", parts._Backwards())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield caught


def words(said):
    return [str(w.message) for w in said if "mean of v" in str(w.message)]


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


def test_torchs_optimizer_in_backward_is_named_once(said):
    model = net()
    _apply_optimizer_in_backward(Adai, model.parameters(), {"lr": 0.1})
    for _ in range(2):
        model(torch.ones(1, 4)).sum().backward()
    assert "_apply_optimizer_in_backward creates an optimizer for each parameter" in words(said)[0]
    assert "Create one Adai for all parameters" in words(said)[0]
    assert len([text for text in words(said) if "for each parameter" in text]) == 1


def test_hooks_that_step_an_optimizer_each_are_named_once(said):
    model = net()
    for p in model.parameters():
        optimizer = Adai([p], lr=0.1)
        p.register_post_accumulate_grad_hook(lambda _, optimizer=optimizer: optimizer.step())
    for _ in range(3):
        model(torch.ones(1, 4)).sum().backward()
    assert len(words(said)) == 1
    assert "Several optimizers step within one backward pass" in words(said)[0]


def maker(module):
    """A function of another package that makes an optimizer for each parameter."""
    source = "def make(adai, params):\n    return [adai([p], lr=0.1) for p in params]\n"
    space = types.ModuleType(module).__dict__
    exec(source, space)  # its globals say which module it is of
    return space["make"]


def test_torchaos_cpu_offload_is_named_once(said):
    kept = maker("torchao.optim.cpu_offload")(Adai, net().parameters())
    assert len(kept) == 4
    assert len(words(said)) == 1
    assert "torchao's CPU offload creates an optimizer for each parameter" in words(said)[0]


def test_deepspeeds_flat_shards_are_named_in_the_step_that_meets_them(said, monkeypatch):
    monkeypatch.setattr(parts.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(parts.dist, "get_world_size", lambda: 2)
    optimizer = Adai(net().parameters(), lr=0.1)
    assert not words(said)
    flat = torch.zeros(10, requires_grad=True)
    flat.grad = torch.ones(10)
    optimizer.param_groups[0]["params"] = [flat]
    space = types.ModuleType("deepspeed.runtime.zero.stage_1_and_2").__dict__
    exec("def step(optimizer):\n    optimizer.step()\n", space)
    for _ in range(2):
        space["step"](optimizer)
    assert len(words(said)) == 1
    assert "DeepSpeed has sharded the parameters" in words(said)[0]
    assert "process_group=GROUP" in words(said)[0]


def test_no_alarm_for_two_nets(said):
    """Two ordinary optimizers, as for a generator and its critic, one of them over a single parameter."""
    first, second = net(), nn.Linear(4, 1, bias=False)
    optimizers = [Adai(model.parameters(), lr=0.1) for model in (first, second)]
    for _ in range(2):
        for model, optimizer in zip((first, second), optimizers, strict=True):
            optimizer.zero_grad()
            model(torch.ones(1, 4)).sum().backward()
            optimizer.step()
    assert not words(said)


def test_no_alarm_for_one_optimizer_in_backward_or_over_one_parameter(said):
    single = nn.Linear(4, 1, bias=False)
    _apply_optimizer_in_backward(Adai, single.parameters(), {"lr": 0.1})
    kept = maker("torchao.optim.cpu_offload")(Adai, nn.Linear(4, 1, bias=False).parameters())
    model = net()
    optimizer = Adai(model.parameters(), lr=0.1)
    model[0].weight.register_post_accumulate_grad_hook(lambda _: optimizer.step())
    for _ in range(2):
        single(torch.ones(1, 4)).sum().backward()
        model(torch.ones(1, 4)).sum().backward()
    assert len(kept) == 1
    assert not words(said)
