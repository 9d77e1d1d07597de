"""torch.distributed.checkpoint: saved by some ranks, loaded by others, continued as if by one process."""

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import FullyShardedDataParallel

from adai import Adai
from tests.modes import MODES
from tests.nets import OPTIONS, alone, error, net, train

pytestmark = pytest.mark.slow

# The bias correction is dropped after 8 steps in float64: checkpoints are taken before and after.
SETTLING = {**OPTIONS, "eps": 0.99, "betas": (0.9, 0.99)}


# NOTE without it torch's loader (2.13) misses the param_groups of a FullyShardedDataParallel, AdamW's as well.
FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def state_of(model, optimizer):
    states = get_state_dict(model, optimizer, options=FLAT)
    return dict(zip(("model", "optimizer"), states, strict=True))


def save(model, optimizer, folder):
    state = state_of(model, optimizer)
    dcp.save(state, checkpoint_id=folder, no_dist=not dist.is_initialized())


def load(model, optimizer, folder):
    """Strictly: every key of the fresh state has to be in the checkpoint."""
    state = state_of(model, optimizer)
    dcp.load(state, checkpoint_id=folder, no_dist=not dist.is_initialized())
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=FLAT)


def stage(mode, options, first, steps, loaded, saved):
    model, optimizer, everything, _ = MODES[mode](net(torch.float64), options)
    if loaded:
        load(model, optimizer, loaded)
    train(model, optimizer, torch.float64, everything=everything, first=first, steps=steps)
    save(model, optimizer, saved)


@pytest.mark.parametrize(("options", "steps"), [(OPTIONS, 5), (SETTLING, 10)], ids=["early", "settled"])
@pytest.mark.parametrize("mode", ["fsdp2", "fsdp2_and_tensor_parallel", "fsdp1"])
def test_four_ranks_then_two_then_one_are_one_training(ranks, tmp_path, mode, options, steps):
    four, two = str(tmp_path / "four"), str(tmp_path / "two")
    ranks(4).run(stage, mode, options, 0, steps, None, four)
    ranks(2).run(stage, mode, options, steps, steps, four, two)
    model = net(torch.float64)
    optimizer = Adai(model.parameters(), **options)
    load(model, optimizer, two)
    train(model, optimizer, torch.float64, everything=True, first=2 * steps, steps=steps)
    expected = alone(lambda params: Adai(params, **options), torch.float64, steps=3 * steps)
    assert error({k: p.detach() for k, p in model.named_parameters()}, expected) < 1e-12
    settled = all("bias_correction" not in state for state in optimizer.state.values())
    assert settled is (options is SETTLING)


def test_one_process_then_two_are_one_training(ranks, tmp_path):
    one, two = str(tmp_path / "one"), str(tmp_path / "two")
    model = net(torch.float64)
    optimizer = Adai(model.parameters(), **OPTIONS)
    train(model, optimizer, torch.float64, everything=True, steps=5)
    save(model, optimizer, one)
    ranks(2).run(stage, "fsdp2", OPTIONS, 5, 5, one, two)
    model = net(torch.float64)
    optimizer = Adai(model.parameters(), **OPTIONS)
    load(model, optimizer, two)
    expected = alone(lambda params: Adai(params, **OPTIONS), torch.float64, steps=10)
    assert error({k: p.detach() for k, p in model.named_parameters()}, expected) < 1e-12


def fresh(mode):
    model, optimizer, everything, get = MODES[mode](net(torch.float64), OPTIONS)
    get_optimizer_state_dict(model, optimizer)
    train(model, optimizer, torch.float64, everything=everything, steps=3)
    return error(get(), alone(lambda params: Adai(params, **OPTIONS), torch.float64, steps=3))


@pytest.mark.parametrize("mode", ["fsdp2", "fsdp1"])
def test_the_hidden_step_leaves_a_fresh_optimizer_as_it_is(ranks, mode):
    assert max(ranks(2).run(fresh, mode)) < 1e-12


def more_ranks_than_elements():
    """Two elements on four ranks: the last two never have a gradient."""
    torch.manual_seed(0)
    model = FullyShardedDataParallel(nn.Linear(1, 1), use_orig_params=True, device_id=torch.device("cpu"))
    optimizer = Adai(model.parameters(), process_group=dist.group.WORLD)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(1, 1)).square().sum().backward()
        optimizer.step()
        saved = get_optimizer_state_dict(model, optimizer)
    return [saved["state"][name]["step"].item() for name in ("weight", "bias")]


def test_a_rank_that_never_has_a_gradient_takes_no_hidden_step_alone(ranks):
    assert ranks(4).run(more_ranks_than_elements) == [[3.0, 3.0]] * 4
