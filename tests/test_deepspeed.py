"""DeepSpeed's ZeRO, stages 1 to 3: one flat shard on each rank, put into the groups behind the optimizer's back."""

import os
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn

from adai import Adai, AdaiW
from tests import nets

pytest.importorskip("deepspeed", reason="needs deepspeed, which compiles C++ as it runs: pip install deepspeed")
pytestmark = pytest.mark.slow

OPTIONS = {"lr": 0.05, "weight_decay": 0.01}


def even():
    """A net whose tensors two ranks can share without padding."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 1, bias=False)]
    model = nn.Sequential(*layers)
    with torch.no_grad():
        model[4].weight.mul_(5)
    return model


def odd():
    return nets.net(torch.float32)


def _train(make, stage, cls, knows):
    """The largest difference to one process, and what has been warned of, by a word of it."""
    os.environ.update(RANK=str(dist.get_rank()), LOCAL_RANK=str(dist.get_rank()), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="0", DS_ACCELERATOR="cpu")
    import deepspeed  # noqa: PLC0415 -- on the ranks alone: it asks for the environment above

    deepspeed.init_distributed("gloo", auto_mpi_discovery=False)
    model, expected = make(), make()
    nets.train(expected, cls(expected.parameters(), **OPTIONS), torch.float32, everything=True)
    optimizer = cls(model.parameters(), **OPTIONS, process_group=dist.group.WORLD if knows else None)
    config = {
        "train_micro_batch_size_per_gpu": 4,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "gradient_clipping": 0.0,  # 1 by default
    }
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
        for x, y in nets.batches(torch.float32):
            engine.backward(nn.functional.mse_loss(engine(nets.part(x)), nets.part(y)))
            engine.step()
    words = {word for word in ("shared out", "pads") for w in said if word in str(w.message)}
    with deepspeed.zero.GatheredParameters(list(model.parameters()), enabled=stage == 3):
        trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    return nets.error(trained, dict(expected.named_parameters())), words


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_with_a_process_group_it_is_exact(ranks, stage):
    for off, words in ranks(2).run(_train, even, stage, AdaiW, True):
        assert off < 1e-5
        assert not words


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_without_one_it_is_another_rule_and_warns(ranks, stage):
    for off, words in ranks(2).run(_train, even, stage, AdaiW, False):
        assert off > 1e-4
        assert words == {"shared out"}


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_padding_counts_as_elements(ranks, stage):
    """One to three elements of 135 here."""
    for off, words in ranks(2).run(_train, odd, stage, AdaiW, True):
        assert 0 < off < 0.05
        assert not words


def test_an_l2_penalty_on_padding_is_warned_of(ranks):
    for _, words in ranks(2).run(_train, odd, 3, Adai, True):
        assert words == {"pads"}
