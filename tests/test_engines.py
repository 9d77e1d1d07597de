"""The engines among themselves: equal results, each other's state, the dropped tensor, clipping inside the step."""

import copy
import gc
import io
import math
import pickle
import weakref
from collections import Counter

import pytest
import torch
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from adai import Adai, AdaiW
from adai.optim import step
from adai.optim.rule import Count
from tests.engines import ENGINES, LOOP, OPTIONS, SHAPES, Dispatches, assert_close, each, selected, train


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
def test_a_long_run_equals_the_loop(engine, steps, tensors, options, dtype, rtol):
    """eps 0.6 drops the bias correction on the way."""
    if isinstance(options.get("lr"), torch.Tensor) and engine.get("foreach"):
        pytest.skip("torch.optim does not take a tensor lr with foreach on CPUs")
    params, expected = tensors(SHAPES, dtype), tensors(SHAPES, dtype)
    train(params, steps, **options, **engine)
    train(expected, steps, **options, **LOOP)
    assert_close(params, expected, rtol)


@pytest.mark.parametrize("engine", each("fused", "triton"), indirect=True)
def test_state_that_torch_does_not_count_is_looked_at_anew(engine, tensors):
    """Inference tensors have no version counter."""
    results = []
    for options in (engine, LOOP):
        params = tensors()
        optimizer = train(params, 1, **options)
        with torch.inference_mode():
            state = optimizer.state[params[0]]
            state["exp_avg_sq"] = state["exp_avg_sq"].clone()
            optimizer.step()
            state["exp_avg_sq"].mul_(4)
            optimizer.step()
        results.append(params)
    assert_close(*results, 1e-13)


@pytest.mark.parametrize("asks", [True, False], ids=["on the CPU", "as on a GPU"])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"max_grad_norm": 1.0}, {"warmup_steps": 9}], ids=str)
def test_foreach_calls_as_many_operators_for_any_number_of_tensors(tensors, monkeypatch, options, asks):
    if not asks:
        monkeypatch.setattr(step, "_asks", lambda *_: False)
    called = []
    for number in (3, 40):
        optimizer = train(tensors(((2, 3),) * number), 2, foreach=True, **options)
        with Dispatches() as dispatches:
            optimizer.step()
        called.append(dispatches.names)
    # On CPUs counting a step is the only operator for each tensor that is left, within a foreach operator.
    assert called[0] == called[1]
    assert len(called[0]) <= 60


@pytest.mark.parametrize(("dtype", "number"), [(torch.float32, 9), (torch.float64, 0)])
def test_foreach_on_a_cpu_sums_large_tensors_without_a_norm(tensors, dtype, number):
    """But piece by piece. For small tensors and in float64 the norm stays."""
    shapes = ((3, 50_000), (200_000,), (5,), (7,))
    params, expected = tensors(shapes, dtype), tensors(shapes, dtype)
    optimizer = train(params, 2, foreach=True)
    train(expected, 2, **LOOP)
    assert_close(params, expected, 1e-6 if dtype == torch.float32 else 1e-12)
    with Dispatches() as dispatches:
        optimizer.step()
    count = Counter(dispatches.names)
    assert count["aten._foreach_norm.Scalar"] == 1
    assert count["aten.sum.default"] == number + 1  # one is over all tensors


def test_foreach_with_several_counts_equals_the_loop(tensors, monkeypatch):
    """As on a GPU, where the host does not ask for the mean: tensors that began later, some with the same count."""
    monkeypatch.setattr(step, "_asks", lambda *_: False)
    results = []
    for engine in ({"foreach": True}, LOOP):
        params = tensors(((3, 4), (5,), (2,), (7,)))
        grads = [p.grad for p in params]
        optimizer = Adai(params, warmup_steps=5, eps=0.3, **engine)
        for t in range(12):
            for i, (p, g) in enumerate(zip(params, grads, strict=True)):
                p.grad = g * (1 + t) if t >= 2 * (i // 2) else None
            optimizer.step()
        results.append(params)
    assert_close(*results, 1e-13)


def test_a_tensor_of_several_pieces_equals_the_loop(engine, tensors):
    shapes = ((100_003,), (5,))
    params, expected = tensors(shapes), tensors(shapes)
    train(params, 3, weight_decay=0.1, **engine)
    train(expected, 3, weight_decay=0.1, **LOOP)
    assert_close(params, expected, 1e-13)


@pytest.mark.parametrize("engine", each(*ENGINES), indirect=True)
def test_tensors_without_dimensions_or_elements_equal_the_loop(engine, tensors):
    shapes = ((), (0,), (2, 3, 2, 5), (0, 3))
    params, expected = tensors(shapes), tensors(shapes)
    optimizer = train(params, 3, **engine)
    train(expected, 3, **LOOP)
    assert_close(params, expected, 1e-13)
    assert all(optimizer.state[p]["step"] == 3 for p in params)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_equals_the_loop(engine, tensors, dtype):
    params, expected = tensors(SHAPES, dtype), tensors(SHAPES, dtype)
    optimizer, reference = train(params, 1, **engine), train(expected, 1, **LOOP)
    assert_close(params, expected, 2 * torch.finfo(dtype).eps)
    assert torch.cat([(p != q).flatten() for p, q in zip(params, expected, strict=True)]).double().mean() < 1e-3
    for p, q in zip(params, expected, strict=True):
        torch.testing.assert_close(optimizer.state[p]["exp_avg_sq"], reference.state[q]["exp_avg_sq"])


def test_a_group_of_several_dtypes_equals_the_loop(engine):
    params = [torch.ones(n, dtype=dtype) for n, dtype in ((2, torch.float32), (3, torch.float64), (4, torch.float32))]
    expected = [p.clone() for p in params]
    for p in (*params, *expected):
        p.grad = torch.arange(1.0, 1 + len(p)).to(p)
    Adai(params, **engine).step()
    Adai(expected, **LOOP).step()
    assert_close(params, expected, 1e-6)


def test_complex_parameters_equal_the_loop(engine):
    torch.manual_seed(0)
    z = torch.randn(3, 2, dtype=torch.complex128, requires_grad=True)
    y = z.detach().clone().requires_grad_()
    a, b = Adai([z], **engine), Adai([y], **LOOP)
    for _ in range(3):
        z.grad = torch.randn_like(z)
        y.grad = z.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(z, y, rtol=1e-13, atol=0)


def test_results_are_the_same_at_every_run(engine, tensors):
    a, b = tensors(SHAPES, torch.float32), tensors(SHAPES, torch.float32)
    for params in (a, b):
        train(params, 2, weight_decay=0.1, max_grad_norm=1.0, **engine)
    assert_close(a, b, 0)


# --- digits that float32 and differences would lose -------------------------------------------------------------------


def test_small_complements_keep_their_digits(engine):
    """1 - beta2^t and 1 - (1 - eps)^t where beta2 and 1 - eps are 1 to nine digits, for counts that differ."""
    results = []
    for options in (engine, LOOP):
        p, late = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
        optimizer = Adai([p, late], lr=1.0, betas=(0.1, 1 - 1e-9), eps=1e-9, **options)
        for t in range(4):
            p.grad = torch.tensor([1.0, 1e-6], dtype=torch.float64)
            late.grad = None if t < 2 else p.grad + 1
            optimizer.step()
        results.append((p.detach() - 1, late.detach() - 1))
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-20)


def test_tiny_gradients_divide_by_no_zero(engine):
    """The mean of v̂ is below the smallest float32 number."""
    p, q = (torch.zeros(3, requires_grad=True) for _ in range(2))
    for x, options in ((p, engine), (q, LOOP)):
        x.grad = torch.tensor([1e-22, 3e-22, 0.0])
        Adai([x], lr=1.0, **options).step()
    assert p.isfinite().all()
    torch.testing.assert_close(p, q)


# --- state ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "turns",
    [
        ("fused", "loop", "fused", "foreach", "fused", "fused", "loop"),
        pytest.param(
            ("triton", "fused", "triton", "loop", "triton", "foreach", "triton", "fused", "loop", "triton", "triton"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["on CPUs", "and Triton"],
)
def test_every_engine_continues_from_every_other(tensors, turns):
    """The fused engines take Σ v anew after the others, which do not leave it."""
    expected = tensors(SHAPES)
    reference = Adai(expected, **LOOP)
    params = tensors(SHAPES)
    optimizer = Adai(params, **LOOP)
    for turn, name in enumerate(turns):
        saved = copy.deepcopy(optimizer.state_dict())
        with selected(name) as options:
            optimizer = Adai(params, **options)
            for group in saved["param_groups"]:  # saved options win
                group.update(optimizer.defaults)
            optimizer.load_state_dict(saved)
            train(params, 5, seed=turn, optimizer=optimizer)
        train(expected, 5, seed=turn, optimizer=reference)
        assert_close(params, expected, 1e-13)


@pytest.mark.parametrize("engine", each("fused", "triton"), indirect=True)
def test_the_sum_of_v_is_taken_anew_after_another_engine(engine, tensors):
    """One that the group's options select between two steps."""
    params, expected = tensors(SHAPES), tensors(SHAPES)
    optimizer, reference = Adai(params, **engine), Adai(expected, **LOOP)
    for turn, options in enumerate((engine, {"fused": False}, engine)):
        optimizer.param_groups[0].update(options)
        train(params, 5, seed=turn, optimizer=optimizer)
        train(expected, 5, seed=turn, optimizer=reference)
    assert_close(params, expected, 1e-13)


@pytest.mark.parametrize("twin", [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))])
def test_a_copy_steps_for_itself(engine, tensors, twin):
    params = tensors(SHAPES)
    optimizer = train(params, 2, **engine)
    other = twin(optimizer)
    copies = other.param_groups[0]["params"]
    before = [p.clone() for p in params]
    train(copies, 2, optimizer=other, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(params, before, strict=True))
    train(params, 2, optimizer=optimizer, seed=1)
    assert all(torch.equal(p, q) for p, q in zip(params, copies, strict=True))


@pytest.mark.parametrize("engine", each("fused", "triton"), indirect=True)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_when_the_sum_of_v_was_taken_does_not_matter(engine, tensors, dtype):
    """It is the same, bit for bit, whether the step before left it or it is taken anew, over several pieces."""
    shapes = (*SHAPES, (70_001,)) if engine == {"fused": True} else SHAPES
    params, expected = tensors(shapes, dtype), tensors(shapes, dtype)
    optimizer, reference = train(params, 3, **engine), train(expected, 3, **engine)
    for turn in range(3):
        for state in optimizer.state.values():
            state["exp_avg_sq"] = state["exp_avg_sq"].clone()
        train(params, 1, seed=turn, optimizer=optimizer)
        train(expected, 1, seed=turn, optimizer=reference)
    assert_close(params, expected, 0)


def test_an_old_checkpoint_with_a_running_sum_goes_on(engine, tensors):
    params, expected = tensors(SHAPES), tensors(SHAPES)
    optimizer, reference = train(params, 5, **engine), train(expected, 5, **engine)
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        state["exp_avg_sq_sum"] = torch.tensor([1e9, 5.0], dtype=torch.float64)
    optimizer.load_state_dict(saved)
    assert not any("exp_avg_sq_sum" in state for state in optimizer.state.values())
    train(params, 5, seed=1, optimizer=optimizer)
    train(expected, 5, seed=1, optimizer=reference)
    assert_close(params, expected, 1e-14)


def test_keys_of_the_state_do_not_depend_on_the_engine(engine, tensors):
    optimizer = train(tensors(), 2, **engine)
    for state in (*optimizer.state.values(), *optimizer.state_dict()["state"].values()):
        assert list(state) == ["step", "exp_avg", "exp_avg_sq", "bias_correction"]


# --- what a script changes between steps ------------------------------------------------------------------------------


def _zero(state):
    state["exp_avg_sq"].zero_()


def _through_a_view(state):
    state["exp_avg_sq"].view(-1)[:2] = 3.0


def _replaced(state):
    state["exp_avg_sq"] = state["exp_avg_sq"] * 0.01


def _new_data(state):
    state["exp_avg_sq"].data = state["exp_avg_sq"].data * 5


def _momentum(state):
    state["exp_avg"] = torch.zeros_like(state["exp_avg"])


@pytest.mark.parametrize("change", [_zero, _through_a_view, _replaced, _new_data, _momentum])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_state_that_a_script_edits_counts(engine, tensors, change, dtype):
    params, expected = tensors(dtype=dtype), tensors(dtype=dtype)
    optimizer, reference = train(params, 3, **engine), train(expected, 3, **LOOP)
    for turn in range(2):
        for o, ps in ((optimizer, params), (reference, expected)):
            change(o.state[ps[0]])
            train(ps, 2, seed=turn, optimizer=o)
    assert_close(params, expected, 1e-12)


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("cut", ["parameter", "gradient", "exp_avg", "exp_avg_sq", "bias_correction"])
def test_a_tensor_of_another_size_is_refused_and_nothing_is_written(engine, cut, k):
    p = torch.nn.Parameter(torch.ones(5))
    optimizer = train([p], 2, **engine)
    whole, state = p.data, optimizer.state[p]
    other = torch.ones(7)[: 2 if k == 2 else 6]
    before = whole.clone()
    if cut == "parameter":
        p.data = whole[:2] if k == 2 else torch.cat((whole, whole))
    elif cut == "gradient":
        p.data, grad = other, p.data
        p.grad = torch.ones_like(other)
        p.data = grad
    else:
        state[cut].data = other  # the same tensor object
    with pytest.raises(RuntimeError, match=r"a parameter of shape \(\d+,\) has a \w+ of shape \(\d+,\)"):
        optimizer.step()
    assert torch.equal(whole, before)
    assert state["step"] == 2


def test_nothing_is_kept_of_a_group_that_is_removed(engine, tensors):
    first, second = tensors()[:1], tensors(seed=1)
    optimizer = Adai([{"params": first}, {"params": second}], **engine)
    train([*first, *second], 2, optimizer=optimizer)
    kept = [weakref.ref(t) for p in second for t in optimizer.state.pop(p).values()]
    del optimizer.param_groups[1]
    for name in ("_sharing",):
        optimizer.__dict__.pop(name)
    gc.collect()
    assert [ref() for ref in kept] == [None] * len(kept)


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
@pytest.mark.parametrize("parameter", [(), (3, 4)])
def test_a_learning_rate_of_one_element_of_any_shape(engine, tensors, shape, parameter):
    if engine.get("foreach"):
        pytest.skip("torch.optim does not take a tensor lr with foreach on CPUs")
    params, expected = tensors((parameter,)), tensors((parameter,))
    rate = torch.full(shape, 0.03, dtype=torch.float64)
    optimizer = train(params, 2, lr=rate, **engine)
    train(expected, 2, lr=0.03, **LOOP)
    assert_close(params, expected, 1e-12)
    assert optimizer.param_groups[0]["lr"] is rate


# --- the bias correction that is 1 for good --------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, 25), (torch.float64, 54)])
def test_when_the_bias_correction_is_settled(dtype, bits):
    t = math.log(2.0**-bits) / math.log1p(-1e-3)
    assert not Count.of(math.floor(t), beta2=0.99, eps=1e-3).settled(dtype)
    assert Count.of(math.ceil(t), beta2=0.99, eps=1e-3).settled(dtype)
    assert not Count.of(10**7, beta2=0.99, eps=0.0).settled(dtype)


def steps_to_settle(eps, dtype):
    bits = 54 if dtype == torch.float64 else 25
    return math.ceil(math.log(2.0**-bits) / math.log1p(-eps))


# eps so large that the tensor is soon dropped; a graph that was captured could not drop it.
DROPPING = pytest.mark.parametrize(
    ("engine", "eps"),
    [("loop", 0.2), ("foreach", 0.2), ("fused", 0.2), pytest.param("triton", 0.9, marks=pytest.mark.slow)],
    indirect=["engine"],
)


@DROPPING
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_tensor_is_dropped_and_nothing_changes(engine, eps, tensors, dtype, monkeypatch):
    """At the step of the drop the tensor is exactly 1, so that a run that keeps it goes on the same."""
    last = steps_to_settle(eps, dtype)
    params, kept = tensors(SHAPES, dtype), tensors(SHAPES, dtype)
    optimizer = train(params, last - 1, eps=eps, **engine)
    assert all("bias_correction" in optimizer.state[p] for p in params)
    train(params, 1, seed=1, optimizer=optimizer)
    assert not any("bias_correction" in optimizer.state[p] for p in params)
    train(params, 20, seed=2, optimizer=optimizer)

    monkeypatch.setattr(Count, "settled", lambda *_: False)
    reference = train(kept, last - 1, eps=eps, **engine)
    train(kept, 1, seed=1, optimizer=reference)
    for p in kept:
        assert (reference.state[p]["bias_correction"] == 1).all()
    train(kept, 20, seed=2, optimizer=reference)
    # To the last bit, but for foreach's operator that divides, which rounds otherwise than the one that does not.
    assert_close(params, kept, 2 * torch.finfo(dtype).eps if engine.get("foreach") else 0)


def test_the_average_alone_would_stop_short_of_1(engine):
    """In float32 c + eps (1 - c) no longer moves c at 1 - 3e-5; the bound 1 - (1 - eps)^t carries it on."""
    p = torch.zeros(1000, requires_grad=True)
    p.grad = torch.full_like(p, 1e-3)
    p.grad[0] = 1.0
    optimizer = Adai([p], **engine)
    optimizer.step()
    state = optimizer.state[p]
    state["step"].fill_(12_000)
    state["bias_correction"][1:] = 1 - 3e-5
    optimizer.step()
    expected = -math.expm1(12_001 * math.log1p(-1e-3))
    assert state["bias_correction"][1].item() == pytest.approx(expected, rel=6e-8, abs=0)


@DROPPING
@pytest.mark.parametrize("at", [-3, 3], ids=["before", "after"])
def test_checkpoints_on_either_side_of_the_drop(engine, eps, tensors, at):
    dtype = torch.float32
    params = tensors(SHAPES, dtype)
    optimizer = train(params, steps_to_settle(eps, dtype) + at, eps=eps, **engine)
    file = io.BytesIO()
    torch.save((params, optimizer.state_dict()), file)
    file.seek(0)
    again, saved = torch.load(file, weights_only=True)
    resumed = Adai(again)
    resumed.load_state_dict(saved)
    train(params, 10, seed=1, optimizer=optimizer)
    train(again, 10, seed=1, optimizer=resumed)
    for p, q in zip(params, again, strict=True):
        assert torch.equal(p, q)
        assert "bias_correction" not in resumed.state[q]


def test_a_settled_tensor_is_dropped_on_loading(tensors):
    """A distributed checkpoint may be read into a fresh state, whose own tensor stays where the checkpoint has none."""
    params = tensors()
    optimizer = Adai(params)
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    for state in saved["state"].values():
        state["step"].fill_(10**5)
        state["bias_correction"].zero_()
    optimizer.load_state_dict(saved)
    assert not any("bias_correction" in optimizer.state[p] for p in params)


def test_distributed_checkpoint_after_the_drop():
    model = torch.nn.Linear(3, 2)
    optimizer = Adai(model.parameters(), eps=0.5)
    for _ in range(30):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
    saved = copy.deepcopy(get_optimizer_state_dict(model, optimizer))
    fresh = Adai(model.parameters(), eps=0.5)
    optimizer.zero_grad()
    set_optimizer_state_dict(model, fresh, saved)
    for p in model.parameters():
        assert set(fresh.state[p]) == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(fresh.state[p][key], value) for key, value in optimizer.state[p].items())


def test_compiled_step_without_the_tensor(tensors):
    torch._dynamo.reset()
    a, b = tensors(), tensors()
    optimizers = [train(params, 200, eps=0.3) for params in (a, b)]
    assert not any("bias_correction" in optimizers[0].state[p] for p in a)
    torch.compile(optimizers[0].step, backend="eager")()
    optimizers[1].step()
    assert_close(a, b, 1e-12)


# --- clipping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Adai, AdaiW])
@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e3, math.inf])
def test_max_grad_norm_is_clip_grad_norm_first(engine, tensors, cls, max_norm):
    a, b = tensors(SHAPES), tensors(SHAPES)
    groups = [{"params": a[:2], "weight_decay": 0.2}, {"params": a[2:]}]
    inside = cls(groups, max_grad_norm=max_norm, **engine)
    before = cls([{"params": b[:2], "weight_decay": 0.2}, {"params": b[2:]}], **engine)
    for t in range(5):
        for p, q, fresh in zip(a, b, tensors(SHAPES, seed=t), strict=True):
            p.grad, q.grad = fresh.grad.clone(), fresh.grad.clone()
        kept = [p.grad.clone() for p in a]
        inside.step()
        torch.nn.utils.clip_grad_norm_(b, max_norm)
        before.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(a, kept, strict=True))
        assert_close(a, b, 1e-13)


def test_clipping_where_gradient_and_decay_cancel(engine):
    """clip * g + λ p is 1e-7 of either: the sum of its squares cannot be had from Σ g², Σ g p and Σ p²."""
    results = []
    for options in (engine, LOOP):
        p = torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64, requires_grad=True)
        p.grad = torch.tensor([-1.0, -2.0, 3.0], dtype=torch.float64)
        norm = p.grad.norm().item()
        optimizer = Adai([p], lr=0.1, weight_decay=0.5, max_grad_norm=0.5 * norm * (1 + 2e-7), **options)
        for _ in range(3):
            p.grad = p.grad * (1 + 1e-7 * torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64))
            optimizer.step()
        results.append((p, optimizer.state[p]["exp_avg"], optimizer.state[p]["bias_correction"]))
    for x, y in zip(*results, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-6, atol=0)


def test_infinite_gradients_are_clipped_as_clip_grad_norm_does(engine, tensors):
    a, b = tensors(), tensors()
    for params in (a, b):
        params[0].grad[0, 0] = math.inf
    Adai(a, max_grad_norm=1.0, **engine).step()
    torch.nn.utils.clip_grad_norm_(b, 1.0)
    Adai(b, **engine).step()
    for p, q in zip(a, b, strict=True):
        torch.testing.assert_close(p, q, equal_nan=True)


def test_clipping_in_a_compiled_step(engine, tensors):
    torch._dynamo.reset()
    a, b = tensors(), tensors()
    compiled, eager = Adai(a, max_grad_norm=0.1, **engine), Adai(b, max_grad_norm=0.1, **engine)
    torch.compile(compiled.step, backend="eager")()
    eager.step()
    assert_close(a, b, 1e-12)
