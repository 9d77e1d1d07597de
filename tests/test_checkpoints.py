"""Saving, loading and going on: our own checkpoints, the authors', and torch.distributed.checkpoint's."""

import copy
import io

import numpy as np
import pytest
import torch
from torch.distributed.checkpoint.state_dict import (
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.optim.named_optimizer import _NamedOptimizer

from adai import Adai, AdaiW
from adai.optim.saving.state import step_counts
from tests.transcription import Transcription

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]


def train(optimizer, params, tensors, steps, dtype):
    for t in steps:
        for p, fresh in zip(params, tensors([p.shape for p in params], dtype=dtype, seed=t), strict=True):
            p.grad = fresh.grad
        optimizer.step()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cls", [Adai, AdaiW])
def test_round_trip_continues_bit_for_bit(engine, tensors, cls, dtype):
    params = tensors(dtype=dtype)
    optimizer = cls(params, weight_decay=0.01, **engine)
    train(optimizer, params, tensors, range(3), dtype)
    file = io.BytesIO()
    torch.save({"model": [p.detach() for p in params], "optimizer": optimizer.state_dict()}, file)
    train(optimizer, params, tensors, range(3, 6), dtype)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = [p.requires_grad_() for p in saved["model"]]
    resumed = cls(again, lr=7.0)  # the saved options win
    resumed.load_state_dict(saved["optimizer"])
    train(resumed, again, tensors, range(3, 6), dtype)
    for p, q in zip(params, again, strict=True):
        assert torch.equal(p, q)
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, resumed.state[q][key])


@pytest.mark.parametrize("other", [torch.optim.Adam, torch.optim.SGD])
def test_the_state_of_another_optimizer_is_refused_and_leaves_ours_as_it_was(tensors, other):
    a, b = tensors(), tensors()
    theirs = other(a, lr=0.3, **({"momentum": 0.9} if other is torch.optim.SGD else {}))
    theirs.step()
    optimizer = Adai(b, lr=0.2)
    optimizer.step()
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match="the state dict is another optimizer's: its state is .*(exp_avg|momentum)"):
        optimizer.load_state_dict(theirs.state_dict())
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for i, state in before["state"].items():
        assert all(torch.equal(value, after["state"][i][key]) for key, value in state.items())


def test_two_optimizers_loaded_from_one_state_are_independent(tensors):
    a, b = tensors(), tensors()
    first, second = Adai(a), Adai(b)
    first.step()
    second.load_state_dict(first.state_dict())
    kept = copy.deepcopy(second.state_dict())
    first.step()
    for i, state in kept["state"].items():
        for key, value in state.items():
            assert torch.equal(second.state_dict()["state"][i][key], value)


def test_load_hooks_of_the_caller_see_what_they_should(tensors):
    params = tensors(dtype=torch.bfloat16)
    optimizer = Adai(params)
    optimizer.step()
    fresh = Adai(params)
    seen = []

    def halve(_, state_dict):
        state_dict = copy.deepcopy(state_dict)
        for state in state_dict["state"].values():
            state["exp_avg"] /= 2
        return state_dict

    fresh.register_load_state_dict_pre_hook(halve)
    fresh.register_load_state_dict_post_hook(lambda o: seen.extend(o.state[p]["exp_avg"].clone() for p in params))
    fresh.load_state_dict(optimizer.state_dict())
    for p, m in zip(params, seen, strict=True):
        assert torch.equal(m, optimizer.state[p]["exp_avg"] / 2)
    assert len(fresh._optimizer_load_state_dict_pre_hooks) == 1
    assert len(fresh._optimizer_load_state_dict_post_hooks) == 1


def test_the_authors_float32_checkpoint_keeps_its_digits_in_a_bfloat16_model():
    p = torch.zeros(2, dtype=torch.bfloat16, requires_grad=True)
    prod = torch.tensor([0.999, 0.998001])
    state = {"step": 1, "exp_avg": torch.ones(2), "exp_avg_sq": torch.ones(2), "beta1_prod": prod}
    options = {"lr": 0.1, "betas": (0.1, 0.99), "eps": 1e-3, "weight_decay": 0.0, "decoupled": False}
    optimizer = Adai([p])
    optimizer.load_state_dict({"state": {0: state}, "param_groups": [{**options, "params": [0]}]})
    assert torch.equal(optimizer.state[p]["bias_correction"], 1 - prod)


@pytest.mark.parametrize("decoupled", [False, True])
def test_the_authors_checkpoint_continues(engine, decoupled):
    """Their state has int ``step`` and ``beta1_prod`` = Π mu, their groups ``decoupled``."""
    rng = np.random.default_rng(0)
    options = {"lr": 0.1, "betas": (0.1, 0.99), "eps": 1e-3, "weight_decay": 0.02}
    start = [rng.standard_normal((3, 2)), rng.standard_normal(4)]
    expected = Transcription([{**options, "decoupled": decoupled, "params": start}])
    gradients = [[[rng.standard_normal((3, 2)), rng.standard_normal(4)]] for _ in range(20)]
    for g in gradients[:10]:
        expected.step(g)

    params = [torch.tensor(a).requires_grad_() for a in expected.groups[0]["params"]]
    saved = {
        "state": {
            i: {
                "step": s["t"],
                "exp_avg": torch.tensor(s["m"]),
                "exp_avg_sq": torch.tensor(s["v"]),
                "beta1_prod": torch.tensor(s["prod"]),
            }
            for i, s in enumerate(expected.state[0])
        },
        "param_groups": [{**options, "decoupled": decoupled, "params": [0, 1]}],
    }
    optimizer = Adai(params, **engine)
    optimizer.load_state_dict(copy.deepcopy(saved))
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is decoupled
    for g in gradients[10:]:
        for p, x in zip(params, g[0], strict=True):
            p.grad = torch.tensor(x)
        optimizer.step()
        expected.step(g)
    for p, theta in zip(params, expected.groups[0]["params"], strict=True):
        np.testing.assert_allclose(p.detach().numpy(), theta, rtol=1e-12, atol=1e-13)
        assert set(optimizer.state[p]) == {"step", "exp_avg", "exp_avg_sq", "bias_correction"}


def test_adaiw_stays_decoupled_whatever_it_loads(tensors):
    params = tensors()
    optimizer = AdaiW(params)
    optimizer.load_state_dict(Adai(params).state_dict())
    assert optimizer.param_groups[0]["decoupled_weight_decay"] is True


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "foreach": False}], ids=str)
@pytest.mark.parametrize("cls", [Adai, AdaiW])
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1)])
def test_distributed_checkpoint_of_a_fresh_optimizer_changes_nothing(cls, lr, options):
    """torch.distributed.checkpoint takes a hidden step with zero gradients and lr 0 to make the state."""
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    twin = copy.deepcopy(model)
    touched, untouched = cls(model.parameters(), lr=lr, **options), cls(twin.parameters(), lr=lr, **options)
    get_optimizer_state_dict(model, touched)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p, q)
    for seed in range(3):
        for net, optimizer in ((model, touched), (twin, untouched)):
            x = torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))
            optimizer.zero_grad()
            net(x).square().sum().backward()
            optimizer.step()
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(p, q)


def test_distributed_checkpoint_round_trip():
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2).bfloat16()
    optimizer = AdaiW(model.parameters())
    model(torch.ones(1, 3, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    _, saved = get_state_dict(model, optimizer)
    fresh = AdaiW(model.parameters(), lr=3.0)
    optimizer.zero_grad()
    set_optimizer_state_dict(model, fresh, copy.deepcopy(saved))
    assert fresh.param_groups[0]["lr"] == 0.1
    for p in model.parameters():
        for key, value in optimizer.state[p].items():
            assert torch.equal(fresh.state[p][key], value)
            assert fresh.state[p][key].dtype == torch.float32


def assert_same(saved, before):
    assert saved["param_groups"] == before["param_groups"]
    torch.testing.assert_close(saved["state"], before["state"], rtol=0, atol=0)


# --- state dicts that are refused -------------------------------------------------------------------------------------


def _shape(saved):
    saved["state"][1]["exp_avg_sq"] = torch.ones(1, 4)


def _complex(saved):
    saved["state"][1]["exp_avg"] = saved["state"][1]["exp_avg"] * 1j


def _integer(saved):
    saved["state"][1]["bias_correction"] = torch.ones_like(saved["state"][1]["bias_correction"], dtype=torch.int32)


def _steps(saved):
    saved["state"][1]["step"] = torch.ones(2)


def _list(saved):
    saved["state"][1]["exp_avg"] = [1.0]


def _eps(saved):
    saved["param_groups"][0]["eps"] = 2.0


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_shape, r"parameter 1 \(b\) has shape \(3, 4\), but its exp_avg_sq in the state dict has shape \(1, 4\)"),
        (
            _complex,
            r"parameter 1 \(b\) has dtype torch.float32, but its exp_avg in the state dict has dtype torch.complex64",
        ),
        (_integer, r"parameter 1 \(b\) has dtype torch.float32, but its bias_correction .* torch.int32"),
        (
            _steps,
            r"step of parameter 1 \(b\) in the state dict must be a number, but has shape \(2,\); give what state",
        ),
        (_list, r"exp_avg of parameter 1 \(b\) in the state dict is a list, not a tensor; give what state_dict"),
        (_eps, "Invalid eps value: 2.0"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused_as_a_whole(tensors, spoil, message):
    params = tensors(((2,), (3, 4)), torch.float32)
    optimizer = Adai(list(zip("ab", params, strict=True)))
    optimizer.step()
    before, saved = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["lr"] = 7.0
    spoil(saved)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)
    assert_same(optimizer.state_dict(), before)
    optimizer.step()


def test_a_load_that_fails_late_leaves_the_optimizer_as_it_was(tensors):
    params = tensors()
    optimizer = Adai(params)
    optimizer.step()
    before, saved = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0]["lr"] = 7.0

    def fail(_):
        raise KeyError("a hook of the caller")

    optimizer.register_load_state_dict_post_hook(fail)
    with pytest.raises(KeyError):
        optimizer.load_state_dict(saved)
    assert_same(optimizer.state_dict(), before)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RAdam", "NAdam", "RMSprop"])
def test_another_optimizer_is_known_by_its_options_where_it_has_no_state(tensors, name):
    params = tensors()
    optimizer = Adai(params, lr=0.2)
    with pytest.raises(ValueError, match="the state dict is another optimizer's: its options are lr, "):
        optimizer.load_state_dict(getattr(torch.optim, name)(params, lr=0.3).state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.2


@pytest.mark.parametrize("cls", [Adai, AdaiW])
def test_our_own_without_state_loads(tensors, cls):
    saved = cls(tensors(), lr=0.3).state_dict()
    optimizer = cls(tensors())
    optimizer.load_state_dict(saved)
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_entries_that_hooks_put_beside_the_state_are_saved_and_loaded(tensors):
    optimizer = Adai(tensors())
    optimizer.step()
    optimizer.register_state_dict_pre_hook(lambda o: o.state.update({"calls": 3, "of a hook": {"a": 1}}))
    saved = optimizer.state_dict()
    assert saved["state"]["calls"] == 3
    fresh = Adai(tensors())
    fresh.load_state_dict(saved)
    assert fresh.state["of a hook"] == {"a": 1}


@pytest.mark.parametrize("eps", [1e-3, 0.9], ids=["early", "settled"])
def test_torchs_named_optimizer_resumes(eps):
    nets = [torch.nn.Linear(3, 2) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    a, b = (_NamedOptimizer(net.named_parameters(), Adai, lr=0.1, eps=eps) for net in nets)
    b.init_state()
    x = torch.randn(4, 3)
    for t in range(20):
        if t == 15:
            b.load_state_dict(copy.deepcopy(a.state_dict()))
            nets[1].load_state_dict(nets[0].state_dict())
        for net, optimizer in ((nets[0], a), (nets[1], b))[: 1 + (t >= 15)]:
            net.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    assert torch.equal(nets[0].weight, nets[1].weight)


@pytest.mark.parametrize("fused", [None, True, False])
def test_the_step_count_has_torchs_dtype(tensors, fused):
    """torch.optim counts in float64 where that is the default dtype, but for fused=True."""
    params = tensors(), tensors()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        optimizers = [cls(ps, fused=fused) for cls, ps in zip((Adai, torch.optim.Adam), params, strict=True)]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.step()
        ours, theirs = (o.state[ps[0]]["step"] for o, ps in zip(optimizers, params, strict=True))
        assert ours == theirs == 2
        assert ours.dtype == theirs.dtype
    finally:
        torch.set_default_dtype(before)


def test_loading_waits_for_an_accelerator_once_however_many_tensors(monkeypatch):
    """Step counts of `capturable` lie on the device; fetching one waits for it."""
    steps = [torch.tensor(float(t)) for t in range(5)]
    fetched = []
    own = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "is_cpu", property(lambda _: False))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: fetched.append(1) or own(t))
    for name in ("item", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, lambda _: pytest.fail("the host waits for one tensor"))
    assert step_counts(steps) == [0, 1, 2, 3, 4]
    assert len(fetched) == 1


class OfAConfiguration(list):
    """A list of a library's own, such as OmegaConf's."""


def test_betas_of_a_configuration_do_not_tie_a_checkpoint_to_its_library():
    p = torch.zeros(2, requires_grad=True)
    group = {"params": [torch.zeros(1, requires_grad=True)], "betas": OfAConfiguration([0.2, 0.9])}
    optimizer = Adai([{"params": [p]}, group], betas=OfAConfiguration([0.1, 0.99]))
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    groups = torch.load(file, weights_only=True)["param_groups"]
    assert [group["betas"] for group in groups] == [(0.1, 0.99), (0.2, 0.9)]
