"""What is the Triton engine's own: launches, what is kept between steps, when it is chosen, what is compiled."""

import os
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from adai import Adai
from adai.optim import torch_private
from adai.optim.engines import choice as engines
from adai.optim.engines import triton as gpu
from adai.optim.engines.batch import Batch
from adai.optim.engines.foreach import Foreach
from adai.optim.engines.rounding import NARROW, Place, next_words, random_words, rounded, stream
from adai.optim.engines.triton import table
from adai.optim.hyper import Hyper
from adai.optim.in_backward import in_backward
from adai.optim.saving import state as saving
from tests.engines import ENGINES, LOOP, assert_close, selected, train

pytestmark = pytest.mark.slow

kernels = pytest.importorskip("adai.optim.engines.triton.kernels", reason="Triton is not installed")
triton = pytest.importorskip("triton")
tl = triton.language

GPU, CAPTURABLE = ENGINES["triton"], ENGINES["triton_capturable"]


@pytest.fixture(autouse=True)
def interpreted():
    with selected("triton"):
        yield


@pytest.fixture
def launches(monkeypatch):
    """The names of the kernels that are launched."""
    names = []

    class Counting:
        def __getattr__(self, name):
            found = getattr(kernels, name)
            if name not in ("read", "collect", "factor", "accumulate", "mean", "previous", "step"):
                return found

            class Kernel:
                def __getitem__(self, grid):
                    names.append(name)
                    return found[grid]

            return Kernel()

    monkeypatch.setattr(gpu, "_kernels", Counting)
    return names


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(table, "CHUNK", 32)
    for name, size in {"CHUNK": 32, "BLOCK": 16, "ONE_BLOCK": 16, "SMALL_BLOCK": 8, "LONG_BLOCK": 64}.items():
        monkeypatch.setattr(gpu, name, size)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_grad_norm": 1.0, "weight_decay": 0.1},
        {"dampening": 0.7},
        {"mean": "previous"},
        {"mean": "previous", "max_grad_norm": 1.0, "weight_decay": 0.1},
        {"mean": "previous", "capturable": True, "weight_decay": 0.1},
    ],
    ids=str,
)
@pytest.mark.parametrize("more", [(), ((600,),)], ids=["few chunks", "more than a block"])
def test_tensors_of_several_chunks_equal_the_loop(tensors, options, more, small_chunks):
    """Lengths around the multiples of block and chunk."""
    shapes = ((31,), (32,), (33,), (80,), (0,), (1,), *more)
    params, expected = tensors(shapes), tensors(shapes)
    optimizer, reference = train(params, 2, **options, **GPU), train(expected, 2, **without(options), **LOOP)
    for p in params:
        optimizer.state[p]["exp_avg_sq"].mul_(1)  # so that Σ v has to be taken anew, over the chunks too
    train(params, 2, seed=1, optimizer=optimizer)
    train(expected, 2, seed=1, optimizer=reference)
    assert_close(params, expected, 1e-13)


@pytest.mark.parametrize("scale", [None, 4.0])
@pytest.mark.parametrize("limits", [(0.5, 0.5), (0.5, 0.25), (0.5, None), (50.0, 50.0)], ids=str)
def test_groups_are_clipped_by_the_norm_of_all(tensors, limits, scale):
    """One kernel computes the factor if all groups have the same limit, and torch if they do not."""
    results = []
    for engine in (GPU, LOOP):
        params = tensors(((3, 4), (5,), (6,)))
        params[1] = params[1].detach().to(torch.float32).requires_grad_()
        groups = [
            {"params": ps, "max_grad_norm": limit} for ps, limit in zip((params[:2], params[2:]), limits, strict=True)
        ]
        optimizer = Adai(groups, lr=0.1, **engine)
        if scale is not None:
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
        results.append(params)
        train(params, 3, optimizer=optimizer)
    assert_close(*results, 1e-6)
    assert_close(results[0][::2], results[1][::2], 1e-9)


def without(options):
    """Options for the loop, which is not capturable on a CPU."""
    return {name: value for name, value in options.items() if name != "capturable"}


# --- the mean of the step before --------------------------------------------------------------------------------------

ZEROS_AND_NUMBERS = (0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 3.0)


@pytest.mark.parametrize("capturable", [False, True])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"max_grad_norm": 1.0}], ids=str)
@pytest.mark.parametrize("dtypes", [(torch.float64,), (torch.float64, torch.float32)], ids=str)
def test_where_the_mean_before_is_0_the_steps_own_is_taken(tensors, capturable, options, dtypes, small_chunks):
    """With beta2 = 0 a step of zero gradients leaves v = 0. In two groups, each of one part or two, one not clipped.

    eps = 0, so that the count of steps, which the host does not take back, has no effect.
    """
    results = []
    for engine in (GPU | {"capturable": capturable}, LOOP):
        params = [*tensors(((5,), (80,)), dtypes[0]), *tensors(((40,), (3,)), dtypes[-1])]
        groups = [{"params": params[:2]}, {"params": params[2:], "max_grad_norm": None}]
        optimizer = Adai(groups, lr=0.1, betas=(0.1, 0.0), eps=0.0, mean="previous", **options, **engine)
        for value in ZEROS_AND_NUMBERS:
            for p in params:
                p.grad = torch.linspace(1, 2, p.numel(), dtype=p.dtype) * value
            optimizer.step()
        results.append(params)
    assert_close(*results, 1e-6 if torch.float32 in dtypes else 1e-13)


def test_the_gradients_are_read_once(tensors, launches):
    """The first step reads them for its mean; later only their norm needs that."""
    params = tensors(((40,), (3,)))
    optimizer = train(params, 1, mean="previous", **GPU)
    assert launches == ["read", "accumulate", "step"]
    launches.clear()
    train(params, 2, optimizer=optimizer)
    assert launches == ["accumulate", "previous", "step"] * 2
    optimizer.state[params[0]]["exp_avg_sq"].mul_(1)  # so that Σ v has to be taken anew
    launches.clear()
    train(params, 1, optimizer=optimizer)
    assert launches == ["read", "accumulate", "previous", "step"]
    optimizer.param_groups[0]["max_grad_norm"] = 1.0
    launches.clear()
    train(params, 1, optimizer=optimizer)
    assert launches == ["read", "collect", "factor", "accumulate", "previous", "step"]


def test_a_replay_takes_the_mean_before_from_v_as_it_is(tensors, monkeypatch):
    """The host cannot notice that v was written to, by another graph or through ``.data``."""
    params, expected = tensors(), tensors()
    optimizer = train(params, 2, mean="previous", **CAPTURABLE)
    reference = train(expected, 2, mean="previous", **LOOP)
    for each, ps in ((optimizer, params), (reference, expected)):
        for k, p in enumerate(ps):
            each.state[p]["exp_avg_sq"].data.mul_(3 + k)
    monkeypatch.setattr(table, "is_capturing", lambda _: True)
    optimizer.step()
    reference.step()
    assert_close(params, expected, 1e-13)


def test_one_step_in_the_backward_pass_has_two_launches(launches):
    """The mean is known; the facts of the step and the step itself are left."""
    model = nn.Linear(3, 2).double()
    optimizer = Adai(model.parameters(), **GPU)
    in_backward(optimizer)
    for _ in range(2):
        launches.clear()
        model(torch.ones(1, 3, dtype=torch.float64)).square().sum().backward()
    assert launches == ["accumulate", "step"] * 2


# --- what is rounded --------------------------------------------------------------------------------------------------


@triton.jit
def words_and_roundings(entry, t, x, words, bits, BLOCK: tl.constexpr, RUNS: tl.constexpr):
    at = tl.arange(0, BLOCK)
    first, second = kernels._keys(entry, tl.load(t))
    start, along, run, pitch = kernels._shard(entry, tl.load(entry).to(tl.int64), RUNS)
    word = kernels._random_words(kernels._places(at, start, along, run, pitch, RUNS), first, second)
    tl.store(words + at, word.to(tl.int64))
    tl.store(words + BLOCK + at, kernels._next_words(word).to(tl.int64))
    stored = kernels._stored(tl.load(x + at), word >> 16, True)
    tl.store(bits + at, stored.to(tl.int16, bitcast=True))


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize(("seed", "t"), [(0, 1.0), (-1, 17_000.0), (2**40 + 3, 2.0**32 + 5)])
def test_random_words_and_roundings_are_those_of_the_operators(seed, t, cut):
    whole = torch.zeros(50, 2000)
    part = whole[3:35, 11:75].clone() if cut else whole[:2, :1000].clone()
    place = Place(1, seed, 2, (3, 11) if cut else (2**22, 0), whole.stride())
    if not cut:
        place = place._replace(strides=(1000, 1), start=(2**32 // 1000, 0))  # places beyond 2^32
    entry = torch.tensor([7, 0, 0, 0, 0, 0, 0, stream(place), *place.runs(part)])
    n = 1024
    words, bits = torch.empty(2, n, dtype=torch.int64), torch.empty(n, dtype=torch.int16)
    x = torch.randn(n, generator=torch.Generator().manual_seed(0))
    x[:4] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    words_and_roundings[(1,)](entry, torch.tensor(t, dtype=torch.float64), x, words, bits, BLOCK=n, RUNS=cut)
    expected = random_words(stream(place), int(t), place.of_elements(part)).flatten()[7 : 7 + n]
    assert torch.equal(words[0], expected)
    assert torch.equal(words[1], next_words(expected))
    y = rounded(x, expected >> 16)
    assert torch.equal(bits[1:], y[1:].view(torch.int16))
    assert bits.view(NARROW)[0].isnan()


@pytest.mark.parametrize("options", [{}, {"mean": "previous"}], ids=str)
def test_small_and_large_tensors_of_one_group_keep_their_dtypes(tensors, options, launches):
    """float32 and bfloat16, in launches of their own."""
    shapes = ((4096,), (7,), (70, 70), (4095,))
    params, expected = tensors(shapes, torch.float32), tensors(shapes, torch.float32)
    optimizer = train(params, 3, state_dtype=NARROW, **options, **GPU)
    reference = train(expected, 3, state_dtype=NARROW, **options, **LOOP)
    assert launches.count("step") == 6
    for p, q in zip(params, expected, strict=True):
        for key in ("exp_avg", "exp_avg_sq", "bias_correction"):
            value, other = optimizer.state[p][key], reference.state[q][key]
            assert value.dtype == (NARROW if p.numel() >= 4096 else torch.float32)
            assert value.dtype != NARROW or (value != other).float().mean() < 2e-3
    assert_close(params, expected, 1e-3)


@pytest.mark.parametrize("mean", ["current", "previous"])
def test_the_sum_of_v_is_that_of_the_rounded_numbers(tensors, mean, monkeypatch, small_chunks):
    """Taken anew it is the same, bit for bit."""
    monkeypatch.setattr(saving, "LEAST_ELEMENTS", 1)
    results = []
    for rewritten in (False, True):
        params = tensors(((70,), (33,)), torch.float32)
        optimizer = train(params, 3, state_dtype=NARROW, mean=mean, **GPU)
        if rewritten:
            for p in params:
                optimizer.state[p]["exp_avg_sq"].mul_(1)
        results.append(train(params, 3, seed=1, optimizer=optimizer).param_groups[0]["params"])
    assert_close(*results, 0)


def test_runs_whose_length_needs_more_than_32_bits_are_refused():
    def batch(length):
        p, g, m, v, c = (torch.empty(2, length, dtype=NARROW, device="meta") for _ in range(5))
        return Batch([p], [g], [m], [v], [c], [torch.tensor(0.0)], [Place(0, 0, 0, (0, 0), (2**40, 1))])

    assert table.refusal(batch(2**31 - 1), capturable=False) is None
    assert (
        table.refusal(batch(2**31), capturable=False)
        == "a rounded parameter is sharded into runs of 2147483648 elements"
    )


@pytest.mark.parametrize("offset", [2**31, 2**32 + 8192])
def test_a_whole_tensor_may_be_longer_than_32_bits_beside_shards_in_runs(offset):
    """One launch has both, and finds all places in the same way."""
    length, n = 2**32 + 2**20, 1024
    whole = torch.empty(length, dtype=NARROW, device="meta")
    place = Place(1)
    entry = torch.tensor([offset, 0, 0, 0, 0, 0, 0, stream(place), *table._placed(whole, whole, place)])
    words, bits = torch.empty(2, n, dtype=torch.int64), torch.empty(n, dtype=torch.int16)
    t = torch.tensor(3.0, dtype=torch.float64)
    words_and_roundings[(1,)](entry, t, torch.zeros(n), words, bits, BLOCK=n, RUNS=True)
    assert torch.equal(words[0], random_words(stream(place), 3, torch.arange(offset, offset + n)))


def test_other_numbers_of_parameters_and_seeds_make_another_table(tensors, made):
    """The places of elements are in the table."""
    (p,) = tensors(((5000,),), torch.float32)
    optimizer = train([p], 2, state_dtype=NARROW, **GPU)
    assert len(made) == 1
    optimizer.rounding_seed = 7
    optimizer.add_param_group({"params": tensors(((3,),), torch.float32)})
    optimizer.step()
    expected = stream(Place(0, 7))
    assert [t.parts[0].words[0, 7].item() for t in made[:2]] == [stream(Place(0)), expected]


# --- launches and what is kept between steps -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 3),
        ({"weight_decay": 0.1}, 3),
        ({"max_grad_norm": 1.0}, 5),
        ({"max_grad_norm": 1.0, "weight_decay": 0.1}, 6),
        ({"capturable": True}, 4),
        ({"mean": "previous", "capturable": True}, 4),
    ],
    ids=str,
)
def test_launches_do_not_depend_on_the_number_of_tensors(tensors, launches, options, expected):
    for shapes in (((3,),), ((3,), (4,), (), (0,), (5,))):
        launches.clear()
        train(tensors(shapes), 1, **options, **GPU)
        assert len(launches) == expected


def test_each_combination_of_dtypes_has_its_launches(launches):
    params = [torch.ones(n, dtype=dtype) for n, dtype in ((2, torch.float32), (3, torch.float64), (4, torch.float32))]
    for p in params:
        p.grad = torch.ones_like(p)
    Adai(params, **GPU).step()
    assert len(launches) == 6


@pytest.fixture
def made(monkeypatch):
    """Whenever a table is made."""
    made = []
    own = table.Table.__init__
    monkeypatch.setattr(table.Table, "__init__", lambda self, *args, **kw: made.append(self) or own(self, *args, **kw))
    return made


@pytest.fixture
def sent(monkeypatch):
    """What is sent to the device."""
    sent = []
    own = table._Sent._new
    monkeypatch.setattr(
        table._Sent, "_new", lambda self, words, *args: sent.append(list(words)) or own(self, words, *args)
    )
    return sent


def set_in(state, key, make):
    state[key] = make(state[key])


def cut(p, state):
    """At the same addresses, and with the same identities."""
    p.data = p.data[:2]
    p.grad = p.grad[:2].clone()
    for key in ("exp_avg", "exp_avg_sq", "bias_correction"):
        state[key].resize_(2, 4)


EDITS = {
    "a parameter's data": lambda p, s: setattr(p, "data", p.data.clone()),
    "a state tensor": lambda p, s: set_in(s, "exp_avg", torch.clone),
    "the momentum, in place": lambda p, s: s["exp_avg"].mul_(0.5),
    "v, in place": lambda p, s: s["exp_avg_sq"].mul_(0.5),
    "v, by another of the same numbers": lambda p, s: set_in(s, "exp_avg_sq", torch.clone),
    "the correction, by another": lambda p, s: set_in(s, "bias_correction", torch.clone),
    "the correction, in place": lambda p, s: s["bias_correction"].mul_(0.9),
    "the momentum's data, which torch does not count": lambda p, s: setattr(
        s["exp_avg"], "data", s["exp_avg"].data * 2
    ),
    "the count, in place": lambda p, s: s["step"].add_(3),
    "the count, by another": lambda p, s: set_in(s, "step", lambda t: t + 3),
    "the correction is dropped": lambda p, s: s.pop("bias_correction"),
    "a gradient, there no more": lambda p, s: setattr(p, "grad", None),
    "a gradient, of another layout at the same address": lambda p, s: setattr(p, "grad", p.grad.t()),
    "a parameter and its state, cut": cut,
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
@pytest.mark.parametrize(
    ("options", "fast"),
    [
        ({}, True),
        ({"capturable": True}, True),
        ({"mean": "previous"}, True),
        ({"mean": "previous", "capturable": True}, True),
        ({}, False),
        ({"capturable": True}, False),
    ],
    ids=str,
)
def test_what_is_kept_is_never_what_has_changed(tensors, edit, options, fast, monkeypatch):
    """Between steps whose gradients stay where they are, everything may be edited, and the next step sees it."""
    if not fast:
        monkeypatch.setattr(torch_private, "_Guards", None)
    results = []
    for engine in (GPU | options, LOOP | without(options)):
        params = tensors(((4, 4), (5,)))
        optimizer = train(params, 2, **engine)
        optimizer.step()
        edit(params[0], optimizer.state[params[0]])
        optimizer.step()
        optimizer.step()
        results.append((params, [optimizer.state[p]["step"] for p in params]))
    (params, steps), (expected, counts) = results
    assert_close(params, expected, 1e-13)
    assert steps == counts


def test_a_count_of_another_dtype_at_the_same_address_is_read_as_such(tensors):
    """As after loading, where a new count may lie where an old one lay."""
    memory = torch.zeros(1, dtype=torch.float64)
    results = []
    for engine in (GPU, LOOP):
        params = tensors(((4, 4), (5,)))
        optimizer = train(params, 2, **engine)
        state = optimizer.state[params[0]]
        for count in (memory.view(torch.float32)[0], memory[0]):
            before = float(state["step"])
            state["step"] = count.fill_(before)
            optimizer.step()
        results.append((params, float(state["step"])))
    (params, steps), (expected, counts) = results
    assert steps == counts == 4
    assert_close(params, expected, 1e-13)


def test_a_state_whose_strides_change_in_place_is_refused(tensors):
    """At the same address, with the same shape."""
    params = tensors(((4, 4),))
    optimizer = train(params, 2, **GPU)
    optimizer.state[params[0]]["exp_avg"].t_()
    with pytest.raises(RuntimeError, match="has strides"):
        optimizer.step()


def test_the_table_is_kept_while_nothing_changes(tensors, made, sent):
    params = tensors()
    optimizer = train(params, 3, **GPU)  # every step has new gradients
    sent.clear()
    optimizer.param_groups[0]["lr"] = 0.01
    optimizer.step()
    optimizer.step()
    assert len(made) == 1
    assert sent == []
    kept = [p.grad for p in params]
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert sent == [[p.grad.data_ptr() for p in params]]
    optimizer.param_groups[0]["eps"] = 0.01
    optimizer.step()
    assert len(sent) == 2
    assert len(made) == 1
    del kept
    params[0].data = params[0].data.clone()
    train(params, 2, optimizer=optimizer)
    assert len(made) == 2


@pytest.mark.parametrize("engine", [GPU, CAPTURABLE], ids=["", "capturable"])
@pytest.mark.parametrize("kind", ["complex", "padded"])
def test_the_table_is_kept_for_views_of_the_state(made, kind, engine):
    """Pairs of real numbers, and the part of a flat parameter of FullyShardedDataParallel without its padding.

    A write to v counts for both. And a table that is made anew in each step cannot be captured.
    """
    p = torch.ones(4, dtype=torch.complex64 if kind == "complex" else torch.float32, requires_grad=True)
    if kind == "padded":
        p._shard_numel_padded = 1
    p.grad = torch.ones_like(p)
    optimizer = Adai([p], **engine)
    for _ in range(4):
        optimizer.step()
    assert len(made) == 1
    optimizer.state[p]["exp_avg_sq"].mul_(2)
    optimizer.step()
    assert len(made) == 2, "a write is noticed"


@pytest.mark.parametrize("engine", [GPU, CAPTURABLE], ids=["", "capturable"])
def test_the_table_is_kept_for_a_state_that_is_views_of_one_buffer(tensors, made, engine):
    """They share a version counter, which each step raises once for each of them."""
    params, expected = tensors(), tensors()
    optimizer, reference = train(params, 1, **engine), train(expected, 1, **LOOP)
    for key in ("exp_avg", "exp_avg_sq"):
        buffer = torch.cat([optimizer.state[p][key].flatten() for p in params])
        for p, view in zip(params, buffer.split([p.numel() for p in params]), strict=True):
            optimizer.state[p][key] = view.view_as(p)
    made.clear()
    train(params, 4, optimizer=optimizer)
    train(expected, 4, optimizer=reference)
    assert len(made) == 1
    for optim, ps in ((optimizer, params), (reference, expected)):
        optim.state[ps[1]]["exp_avg_sq"].mul_(4)
        train(ps, 3, optimizer=optim)
    assert len(made) == 2, "a write is noticed"
    assert_close(params, expected, 1e-13)


def test_a_gradient_of_another_form_at_an_old_address_is_seen(tensors):
    """Its memory is freed, and given to the next gradient."""
    params, expected = tensors(((3, 4),)), tensors(((3, 4),))
    optimizer, reference = train(params, 1, **GPU), train(expected, 1, **LOOP)
    memory = torch.arange(12, dtype=torch.float64)
    for strides in ((4, 1), (1, 3), (4, 1)):
        for p in (*params, *expected):
            p.grad = memory.as_strided((3, 4), strides)
        optimizer.step()
        reference.step()
        assert_close(params, expected, 1e-13)


def test_no_gradient_is_kept_alive(tensors):
    params = tensors()
    optimizer = train(params, 2, **GPU)
    seen = [weakref.ref(p.grad) for p in params]
    optimizer.zero_grad()
    assert all(ref() is None for ref in seen)


def test_state_that_is_replaced_is_let_go(tensors):
    params = tensors()
    optimizer = train(params, 2, **GPU)
    old = [weakref.ref(t) for t in optimizer.state[params[0]].values()]
    optimizer.state[params[0]] = {key: t.clone() for key, t in optimizer.state[params[0]].items()}
    assert all(ref() is None for ref in old)


def test_what_a_captured_step_reads_outlives_the_table(tensors, monkeypatch, made, sent):
    """An eager step with other gradients makes another table; a replay still reads the memory of the first one."""
    params = tensors()
    optimizer = train(params, 1, **CAPTURABLE)
    for p in params:
        p.grad = torch.ones_like(p)  # elsewhere than in the step before
    sent.clear()
    with monkeypatch.context() as patch:
        patch.setattr(table, "is_capturing", lambda _: True)
        optimizer.step()
        optimizer.step()
    assert len(sent) == 2, "what is sent in a capture is not there for anyone else"
    part = made[0].parts[0]
    read = [weakref.ref(t) for t in vars(part).values() if isinstance(t, torch.Tensor)]
    assert len(read) > 10
    held = table._HELD[optimizer.state[params[0]]["step"]]
    assert sum(t.tolist() in sent for t in held if t.dtype == torch.int64) == 4, "host and device memory, twice"
    addresses = [p.grad.data_ptr() for p in params]
    del part
    made.clear()
    optimizer.step()
    assert sent[2:] == [addresses], "an eager step afterwards sends for itself"
    params[1].grad = None
    optimizer.step()
    assert all(ref() is not None for ref in read)


def test_a_replay_takes_the_sum_of_v_anew(tensors, monkeypatch, made):
    """The host cannot look at v then."""
    params = tensors()
    optimizer = train(params, 2, **CAPTURABLE)
    steps = made[0].parts[0].v_steps
    assert steps.tolist() == [2, 2]
    reads = []
    own = gpu._Passes._read
    monkeypatch.setattr(gpu._Passes, "_read", lambda self, *args: reads.append(steps.tolist()) or own(self, *args))
    optimizer.step()
    monkeypatch.setattr(table, "is_capturing", lambda _: True)
    optimizer.step()
    assert reads == [[2, 2], [-1, -1]]


def test_a_tensor_at_an_odd_address_costs_the_others_nothing(tensors, monkeypatch):
    """DistributedDataParallel's gradients are views into buckets, of which most begin at odd places."""
    params = tensors(((4,), (4,), (4,)), torch.float32)
    bucket, memory = torch.ones(9), torch.ones(5)
    params[1].grad = bucket[1:5]
    params[2].data = memory[1:5]
    expected = [p.detach().clone().requires_grad_() for p in params]
    for p, q in zip(params, expected, strict=True):
        q.grad = p.grad.clone()
    optimizer = Adai(params, **GPU)
    optimizer.step()
    Adai(expected, **LOOP).step()
    assert_close(params, expected, 1e-6)


def test_memory_that_a_captured_copy_reads_is_pinned_before_and_held(monkeypatch):
    pinned = []
    monkeypatch.setattr(table, "_pinned", lambda n: pinned.append(torch.empty(n, dtype=torch.int64)) or pinned[-1])
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_, **__: self.clone())
    column, device, held = table._Sent("q"), torch.device("cuda"), []

    def send(word, held=None):
        return column.send([word], device, held, reserve=True)

    for _ in range(9):
        first = send(1)
    assert len(pinned) == 4 + 1, "four in reserve, and the one that was sent"
    assert send(1) is first
    assert send(1, held) is first
    assert held == [first]
    again = send(2, held)
    assert len(pinned) == 5
    assert held[1] in pinned
    assert held[2] is again
    assert send(1) is first
    assert len(pinned) == 6, "the reserve is filled up"


# --- everything on the device ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"mean": "previous"}], ids=str)
def test_capturable_steps_ask_for_no_number(tensors, monkeypatch, options):
    """The kernels count the steps and read the learning rate; nothing on the host depends on a value."""
    monkeypatch.setattr(table, "on_device", lambda number: isinstance(number, torch.Tensor))
    params, expected, lr = tensors(), tensors(), torch.tensor(0.25)
    optimizer, reference = (
        train(params, 1, lr=lr, **options, **CAPTURABLE),
        train(expected, 1, lr=0.25, **options, **LOOP),
    )
    for p in (*params, *expected):
        p.grad = torch.ones_like(p)
    lr.fill_(0.125)
    reference.param_groups[0]["lr"] = 0.125
    with monkeypatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__float__"):
            patch.setattr(torch.Tensor, name, lambda *_: pytest.fail("the host asks for a number"))
        optimizer.step()
    reference.step()
    assert_close(params, expected, 1e-14)
    assert all(optimizer.state[p]["step"] == 2 for p in params)


# --- which engine ----------------------------------------------------------------------------------------------------


def choice(monkeypatch, *, missing=None, refusal=None, devices=("cuda",), **options):
    """What is chosen for a parameter on each of these GPUs, or would be if there were any; the last one may miss."""
    monkeypatch.setattr(gpu, "missing", lambda device: missing if device == torch.device(devices[-1]) else None)
    monkeypatch.setattr(table, "refusal", lambda *_, **__: refusal)
    monkeypatch.setattr(
        gpu, "Table", lambda *_, **__: SimpleNamespace(parts=[], elements=0, lay_out=lambda _: None, counted=list)
    )
    monkeypatch.setattr(table, "is_capturing", lambda _: False)
    monkeypatch.setattr(engines, "foreach_by_default", lambda *_, **__: True)
    group = Adai([torch.zeros(1, requires_grad=True)], fused=None).defaults | options
    state = {name: [] for name in ("exp_avgs", "exp_avg_sqs", "bias_corrections")}
    params = [SimpleNamespace(device=torch.device(device), dtype=torch.float32) for device in devices]
    batch = SimpleNamespace(params=params, check_shapes=lambda: None, places=[Place(0)] * len(params), **state)
    return engines.choose(group, Hyper.of(group), batch, batch)


def test_triton_is_the_default_on_gpus(monkeypatch):
    assert isinstance(choice(monkeypatch), gpu.Fused)
    assert isinstance(choice(monkeypatch, capturable=True), gpu.Fused)
    assert isinstance(choice(monkeypatch, fused=True), gpu.Fused)
    assert isinstance(choice(monkeypatch, foreach=True), Foreach)


@pytest.mark.parametrize("why", [{"missing": "Triton is not installed"}, {"refusal": "a parameter has dtype x"}])
def test_where_triton_is_not_possible_foreach_steps_in(monkeypatch, why):
    assert isinstance(choice(monkeypatch, **why), Foreach)
    with pytest.raises(RuntimeError, match=f"fused=True is not possible: {next(iter(why.values()))}"):
        choice(monkeypatch, fused=True, **why)


def test_every_gpu_of_a_group_is_tried(monkeypatch):
    both = "cuda:0", "cuda:1"
    assert isinstance(choice(monkeypatch, devices=both), gpu.Fused)
    assert isinstance(choice(monkeypatch, devices=both, missing="Triton does not work on cuda:1"), Foreach)


@pytest.fixture
def untried(monkeypatch):
    """Nothing is known yet of any device; forgotten afterwards."""
    monkeypatch.setattr(gpu, "_TRIED", {})


CPU = torch.device("cpu")


def test_missing_says_why(untried):
    assert gpu.missing(CPU) is None  # which the interpreter makes possible
    assert gpu.missing(torch.device("cuda")) == "the environment variable TRITON_INTERPRET is set; unset it"


def test_missing_says_what_failed(untried, monkeypatch):
    def not_installed():
        raise ImportError

    monkeypatch.setattr(gpu, "_kernels", not_installed)
    assert gpu.missing(CPU) == "Triton is not installed; run pip install triton"
    gpu._TRIED.clear()
    monkeypatch.setattr(gpu, "_kernels", lambda: SimpleNamespace(probe=None, INTERPRETED=True))
    assert gpu.missing(CPU).startswith("Triton does not work on cpu (")


def test_what_failed_is_tried_again_after_a_minute_and_what_works_never(untried, monkeypatch, caplog):
    now, tried = [1000.0], []
    answers = iter(["out of memory", "out of memory", None])
    monkeypatch.setattr(gpu.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(gpu, "_tried", lambda device: tried.append(device) or next(answers))
    with caplog.at_level("INFO"):
        for later, expected, calls in (
            (0, "out of memory", 1),
            (59, "out of memory", 1),
            (2, "out of memory", 2),
            (61, None, 3),
            (1e6, None, 3),
        ):
            now[0] += later
            assert gpu.missing(CPU) == expected
            assert len(tried) == calls
    assert len(caplog.records) == 1


def test_nothing_is_tried_while_a_graph_is_captured(untried, monkeypatch):
    device = torch.device("cuda")
    gpu._TRIED[device] = gpu._Tried("out of memory", -1e9)
    monkeypatch.setattr(gpu, "_tried", lambda _: pytest.fail("a launch and a wait would spoil the capture"))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert gpu.missing(device) == "out of memory"


# --- the compiler ----------------------------------------------------------------------------------------------------


COMPILE = """
import sys, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from adai.optim.engines.triton import kernels
from one_chunk import one_chunk

def compiled(name, **constants):
    kernel = one_chunk if name == "one_chunk" else getattr(kernels, name)
    names, given = kernel.arg_names, {"table": "*i64", "grads": "*i64", "owner": "*i32"} | NUMBERS
    signature = {n: "constexpr" if n in constants else given.get(n, "*fp64") for n in names}
    attrs = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants | NUMBERS}
    source = ASTSource(kernel, signature, {(names.index(n),): c for n, c in constants.items()}, attrs)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": False}).asm["ptx"]

NUMBERS = dict.fromkeys(("later", "lr", "tensors", "elements", "chunks", "limit"), "i64")
sizes = {"CHUNK": 8192, "BLOCK": 1024}
types = {"PARAM": tl.float32, "GRAD": tl.float32, "REAL": tl.float32, "KEPT": tl.float32, "EACH": 4, "COUNTED": True}
read = compiled("read", WHAT="parts", **types, **sizes)
collect = compiled("collect", WHAT="parts", **sizes)
accumulate = compiled("accumulate", WHAT="parts", COUNTED=True, REAL=tl.float32, **sizes)
exact = {"ROUNDED": False, "RUNS": False}
step = compiled("step", CORRECTED=True, DECAYS=True, DAMPENED=False, **exact, **types, **sizes)
half = types | {"PARAM": tl.bfloat16, "GRAD": tl.bfloat16, "COUNTED": False}
odd = compiled("step", CORRECTED=False, DECAYS=False, DAMPENED=True, **exact, **half, **sizes | {"BLOCK": 512})
mean = compiled("mean", BLOCK=1024)
factor = compiled("factor", COLUMNS=4, BLOCK=1024)
one = {key: types[key] for key in ("PARAM", "GRAD", "REAL")} | {"CHUNK": 8192, "BLOCK": 4096}
previous = compiled("previous", SUMS=True, OWN=True, DECAYS=True, **one)
for name in ("read", "collect", "factor", "accumulate", "mean", "previous", "step"):
    kernel = getattr(kernels, name)
    assert kernel.cache_key and not kernel.used_global_vals, "each global is compared at each launch"
    numbers = [p for p in kernel.params if p.annotation_type]
    assert {p.name for p in numbers} == NUMBERS.keys() & set(kernel.arg_names)
    assert all(p.do_not_specialize for p in numbers), "a kept kernel would be another one than that of a later number"
for ptx in (read, collect, factor, accumulate, mean, previous, step, odd):
    assert ".local" not in ptx, "registers are spilled"
for ptx in (read, step):
    assert "ld.global.v4" in ptx, "loads are not wide"
assert "st.global.v4" in step, "stores are not wide"
assert "cvt.rn.bf16x2.f32" in odd, "bfloat16 is not rounded to the nearest"

moved = {"CORRECTED": True, "DECAYS": True, "DAMPENED": False, "BLOCK": 1024, "MASKED": False, **exact}
moved |= {key: types[key] for key in ("PARAM", "GRAD", "REAL", "KEPT")}
wide, narrow_grad, narrow = (
    compiled("one_chunk", **moved, EACH=each, EACH_GRAD=grad) for each, grad in ((4, 4), (4, 1), (1, 1))
)
loads = [ptx.count("ld.global.v4") for ptx in (wide, narrow_grad, narrow)]
assert loads[0] > loads[1] == loads[0] * 4 // 5 > 0, "the gradient alone is not narrow"
assert loads[2] == 0 and ".v2" not in narrow, "wide accesses to addresses that may be odd"

bf16 = compiled("one_chunk", **moved | {"KEPT": tl.bfloat16}, EACH=4, EACH_GRAD=4)
assert bf16.count("ld.global.v2") == 6 and bf16.count("st.global.v2") == 6, "m, v and c, twice in a block"
assert bf16.count("st.shared") == wide.count("st.shared"), "threads exchange elements"
"""
ONE_CHUNK = """
import triton, triton.language as tl
from adai.optim.engines.triton.kernels import _move

@triton.jit
def one_chunk(table, out, CORRECTED: tl.constexpr, DECAYS: tl.constexpr, DAMPENED: tl.constexpr, ROUNDED: tl.constexpr,
              RUNS: tl.constexpr, PARAM: tl.constexpr, GRAD: tl.constexpr, REAL: tl.constexpr, KEPT: tl.constexpr,
              BLOCK: tl.constexpr, MASKED: tl.constexpr, EACH: tl.constexpr, EACH_GRAD: tl.constexpr):
    t = tl.load(out)
    one = t.to(tl.float32)
    tl.store(out, _move(table, tl.load(table + 11), tl.program_id(0).to(tl.int64) * 8192, 8192, t, one, one, one, one,
                        one, one, out, CORRECTED, DECAYS, DAMPENED, ROUNDED, RUNS, PARAM, GRAD, REAL, KEPT, BLOCK,
                        MASKED, EACH, EACH_GRAD))
"""


def test_the_kernels_compile_for_gpus(tmp_path):
    """For compute capability 9.0, which needs no GPU: without spilled registers, and with loads of 16 bytes."""
    without = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    (tmp_path / "one_chunk.py").write_text(ONE_CHUNK)  # Triton reads the source of what it compiles
    own = {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path))}
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=without | own)


PTXAS = """
import pathlib, re, subprocess, sys, tempfile
from itertools import product
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from adai.optim.engines.triton import LONG_BLOCK, LONG_WARPS, ONE_BLOCK, ONE_WARPS, SMALL_BLOCK, kernels

share, shares = map(int, sys.argv[1:])
NUMBERS = dict.fromkeys(("later", "lr", "tensors", "elements", "limit", "chunks"), "i64")
ptxas = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"

def variants():
    sizes, halves = {"CHUNK": 8192, "BLOCK": 1024}, (tl.bfloat16, tl.float16)
    pairs = [(t, t) for t in (tl.float32, tl.float64, *halves)] + [(t, tl.float32) for t in halves]
    for i, (param, grad) in enumerate(pairs):
        real = tl.float64 if param is tl.float64 else tl.float32
        types = {"PARAM": param, "GRAD": grad, "REAL": real}
        for decays, (sums, own) in product((False, True), ((True, True), (True, False), (False, True))):
            one = {"BLOCK": ONE_BLOCK, "CHUNK": 8192, "num_warps": ONE_WARPS}
            yield "previous", {"DECAYS": decays, "SUMS": sums, "OWN": own, **types, **one}
        types["COUNTED"] = i % 2 == 0
        for kept in {real, tl.bfloat16 if real is tl.float32 else real}:
            types["KEPT"] = kept
            each = 128 // max(t.primitive_bitwidth for t in (param, grad, kept))
            types["EACH"] = each
            reads = types | {"EACH": 128 // max(t.primitive_bitwidth for t in (param, grad))}
            for what in ("plain", "decayed", "parts", "again", "before"):
                yield "read", {"WHAT": what, **reads, **sizes}
            rounded = (False, True) if param is tl.bfloat16 else (False,)
            for flags, rounded in product(range(8), rounded):
                names = ("CORRECTED", "DECAYS", "DAMPENED")
                step = {name: bool(flags >> k & 1) for k, name in enumerate(names)} | types | sizes
                for runs in (False, True) if rounded or kept is not real else (False,):
                    block = SMALL_BLOCK if step["DAMPENED"] or runs or rounded else 1024
                    own = {"ROUNDED": rounded, "RUNS": runs, "BLOCK": block, "EACH": min(each, block // 128)}
                    yield "step", step | own
    long = {"BLOCK": LONG_BLOCK, "CHUNK": 8192, "num_warps": LONG_WARPS}
    for what, adding_up in product(("plain", "decayed", "parts", "before"), (sizes, long)):
        if what != "before":
            yield "collect", {"WHAT": what, **adding_up}
        for counted, real in ((True, tl.float32), (False, tl.float64)):
            yield "accumulate", {"WHAT": what, "COUNTED": counted, "REAL": real, **adding_up}

    yield "mean", {"BLOCK": 1024}
    for columns in (1, 4):
        yield "factor", {"COLUMNS": columns, "BLOCK": 1024}

for name, constants in list(variants())[share::shares]:
    options = {"enable_fp_fusion": False, "num_warps": constants.pop("num_warps", 4)}
    kernel = getattr(kernels, name)
    names, given = kernel.arg_names, {"table": "*i64", "grads": "*i64", "owner": "*i32"} | NUMBERS
    signature = {n: "constexpr" if n in constants else given.get(n, "*fp64") for n in names}
    attrs = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n not in constants | NUMBERS}
    source = ASTSource(kernel, signature, {(names.index(n),): c for n, c in constants.items()}, attrs)
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        said = subprocess.run([ptxas, "-v", "-arch=sm_90a", file.name, "-o", "/dev/null"], check=True,
                              capture_output=True, text=True).stderr
    spilled = [int(n) for n in re.findall(r"(\\d+) bytes (?:stack frame|spill stores|spill loads)", said)]
    assert len(spilled) == 3, said
    assert not any(spilled), f"{name} {constants}: {said}"
    print(name)
"""


@pytest.mark.parametrize("share", range(4))
def test_no_variant_spills_registers(tmp_path, share):
    """As ptxas assigns them, for compute capability 9.0. Each share takes every fourth variant."""
    without = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    command = [sys.executable, "-c", PTXAS, str(share), "4"]
    own = {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(command, check=True, env=without | own, stdout=subprocess.PIPE, text=True)
    assert len(done.stdout.split()) > 15
