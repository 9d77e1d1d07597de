"""State in bfloat16: unbiased, the same bits however a step is carried out, half the memory, saved and loaded."""

import copy
import io
import math
from itertools import chain

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from adai import Adai, AdaiW
from adai.optim.engines.cpu import library
from adai.optim.engines.rounding import Place, next_words, random_words, rounded, stream
from adai.optim.saving import state as saving
from adai.optim.shared.sharding import Sharing
from tests.engines import LOOP, OPTIONS, assert_close, each, train

NARROW = {"state_dtype": torch.bfloat16}
MOMENTS = ("exp_avg", "exp_avg_sq", "bias_correction")
SHAPES = ((100, 70), (64, 64, 3, 3), (10,))


def moments(optimizer, p):
    return {key: optimizer.state[p][key] for key in MOMENTS if key in optimizer.state[p]}


def assert_same(params, optimizer, others, other):
    for p, q in zip(params, others, strict=True):
        assert torch.equal(p, q)
        for key, value in moments(optimizer, p).items():
            assert torch.equal(value, other.state[q][key])


# --- the random words ------------------------------------------------------------------------------------------------


def test_ten_million_roundings_are_unbiased():
    """Each of the three roundings by itself, and the products of their errors: no two go together."""
    x, steps, places = 1 + 0.3 * 2**-7, 10, torch.arange(1_000_000)
    errors = {name: [] for name in "mvc"}
    for t in range(steps):
        words = random_words(stream(Place(3)), t, places)
        for name, bits in (("m", words & 0xFFFF), ("v", words >> 16), ("c", next_words(words) >> 16)):
            errors[name].append(rounded(torch.full(places.shape, x), bits).double() - x)
    ulp, n = 2**-7, steps * len(places)
    variance = 0.3 * 0.7 * ulp**2
    m, v, c = (torch.cat(parts) for parts in errors.values())
    for error in (m, v, c):
        assert set(((error + x - 1) / ulp).unique().tolist()) == {0.0, 1.0}
        assert abs(error.mean()) < 4 * math.sqrt(variance / n)
    for a, b in ((m, v), (m, c), (v, c), (m[: -len(places)], m[len(places) :]), (m[:-1], m[1:])):
        assert abs((a * b).mean()) < 4 * variance / math.sqrt(len(a))


@pytest.mark.parametrize(
    "engine",
    [pytest.param(name, marks=() if name == "fused" else pytest.mark.slow) for name in ("loop", "foreach", "fused")],
    indirect=True,
)
def test_the_state_is_unbiased_in_ten_million_elements(engine):
    """With one gradient everywhere all elements have the same m, v and c before they are rounded."""
    n, seeds = 1_000_000, 10
    exact = torch.zeros(10).requires_grad_()
    reference = Adai([exact])
    exact.grad = torch.full_like(exact, 0.7)
    reference.step()
    sums = dict.fromkeys(MOMENTS, 0.0)
    for seed in range(seeds):
        p = torch.zeros(n).requires_grad_()
        p.grad = torch.full_like(p, 0.7)
        optimizer = Adai([p], rounding_seed=seed, **NARROW, **engine)
        optimizer.step()
        for key, value in moments(optimizer, p).items():
            assert value.dtype == torch.bfloat16
            assert len(value.unique()) == 2
            sums[key] += value.sum(dtype=torch.float64).item()
    for key, value in moments(reference, exact).items():
        x = value[0].item()
        ulp = 2.0 ** (math.floor(math.log2(x)) - 7)
        up = x / ulp % 1
        assert abs(sums[key] / (n * seeds) - x) < 4 * ulp * math.sqrt(up * (1 - up) / (n * seeds))


def test_what_is_no_number_or_has_few_digits_stays_as_it_is():
    x = torch.tensor([0.0, -0.0, 1.5, -3.0, math.inf, -math.inf, math.nan, 2.0**-130])
    for bits in (0, 0x8000, 0xFFFF):
        y = rounded(x, torch.full(x.shape, bits)).float()
        assert torch.equal(y.nan_to_num(7.0), x.nan_to_num(7.0))
        assert torch.equal(y.nan_to_num().signbit(), x.nan_to_num().signbit())


@pytest.mark.parametrize("seed", [0, -1, 2**40 + 3])
def test_numbers_and_tensors_give_the_same_words(seed):
    places = torch.arange(2**32 - 5, 2**32 + 5)
    word = random_words(stream(Place(1, seed, 2)), 17_000, places)
    assert torch.equal(word, random_words(stream(Place(1, seed, 2)), torch.tensor(17_000.0), places))
    assert torch.equal(word[5:], random_words(stream(Place(1, seed, 2)), 17_000, torch.arange(5)))
    assert word.min() >= 0
    assert word.max() < 2**32


def test_an_average_carries_the_error_that_two_bytes_can_bear_and_one_byte_cannot():
    """A relative rounding error s in each step leaves s / sqrt(2 w) in an average of weight w.

    Stochastic rounding to b bits errs by 2^(1 - b) sqrt(1 / 6), times 0.74, the root mean square of 1 / x in a binade,
    where the average moves by as much as its last bit in a step. It does with 8 bits, those of bfloat16. With the 4 of
    one byte it moves by less, so it is rounded up and down less often, and the error is less than that, but large.
    """

    def relative_error(w, bits, steps):
        rng = torch.Generator().manual_seed(0)
        exact = 2 ** torch.rand(4000, generator=rng)
        level, kept = exact.clone(), exact.clone()
        cut = 24 - bits
        for _ in range(steps):
            g = level * (1 + 4 * torch.randn(level.shape, generator=rng))
            exact.lerp_(g, w)
            kept.lerp_(g, w)
            noise = torch.randint(2**cut, kept.shape, generator=rng, dtype=torch.int32)
            kept = ((kept.view(torch.int32) + noise) & -(2**cut)).view(torch.float32)
        return ((kept - exact) / level).std().item()

    s = math.sqrt(1 / 6) * math.sqrt(0.75 / (2 * math.log(2)))
    for w in (0.001, 0.01):
        assert relative_error(w, 8, steps=int(3 / w)) == pytest.approx(2**-7 * s / math.sqrt(2 * w), rel=0.15)
        assert 0.15 < relative_error(w, 4, steps=int(3 / w)) < 2**-3 * s / math.sqrt(2 * w)


# --- engines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", each("foreach", "fused", "triton"), indirect=True)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_engine_rounds_as_the_loop_does(engine, tensors, options, dtype):
    """But where the last digit of float32 decides: in one element of thousands."""
    if engine.get("foreach") and isinstance(options.get("lr"), torch.Tensor):
        pytest.skip("torch.optim does not take a tensor lr with foreach on CPUs")
    params, expected = tensors(SHAPES, dtype), tensors(SHAPES, dtype)
    optimizer = train(params, 3, **NARROW, **options, **engine)
    reference = train(expected, 3, **NARROW, **options, **LOOP)
    for p, q in zip(params, expected, strict=True):
        for key, value in moments(optimizer, p).items():
            other = reference.state[q][key]
            assert value.dtype == other.dtype == (torch.bfloat16 if p.numel() >= 4096 else torch.float32)
            assert_close([value], [other], 2**-7 if value.dtype == torch.bfloat16 else 1e-5)
            if value.dtype == torch.bfloat16:
                assert (value != other).float().mean() < 2e-3
    assert_close(params, expected, 2e-3 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_do_not_depend_on_threads(tensors, dtype):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            params = tensors(((300_000,), (7,), (40, 1000)), dtype)
            results.append((params, train(params, 3, fused=True, **NARROW)))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert_same(*results[0], *result)


@pytest.mark.parametrize("variant", library.VARIANTS)
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"eps": 0.9}], ids=str)
def test_results_do_not_depend_on_instructions(tensors, variant, options, monkeypatch):
    if library.VARIANTS.index(variant) > library.VARIANTS.index(library.best_variant()):
        pytest.skip(f"this CPU has no {variant}")
    results = []
    for forced in (variant, "plain"):
        monkeypatch.setattr(library, "best_variant", lambda forced=forced: forced)
        params = tensors(SHAPES, torch.float32)
        results.append((params, train(params, 20, fused=True, **NARROW, **options)))
    assert_same(*results[0], *results[1])


def test_a_layout_of_its_own(engine, tensors):
    results = []
    for selecting in (engine, LOOP):
        (p,) = tensors(((16, 32, 4, 4),), torch.float32)
        q = p.detach().to(memory_format=torch.channels_last).requires_grad_()
        results.append(([q], train([q], 1, **NARROW, **selecting)))
    (params, optimizer), (expected, reference) = results
    for key, value in moments(optimizer, params[0]).items():
        assert (value != reference.state[expected[0]][key]).float().mean() < 2e-3


def test_a_compiled_step_rounds_alike(tensors):
    params, expected = tensors(((5000,),), torch.float32), tensors(((5000,),), torch.float32)
    optimizer, reference = Adai(params, **NARROW), Adai(expected, **NARROW)
    step = torch.compile(optimizer.step, backend="eager")
    for _ in range(3):
        step()
        reference.step()
    assert_close(params, expected, 1e-3)
    for key, value in moments(optimizer, params[0]).items():
        assert (value != reference.state[expected[0]][key]).float().mean() < 2e-3


def test_steps_that_change_nothing(engine, tensors):
    (p,) = tensors(((5000,),), torch.float32)
    optimizer = Adai([p], weight_decay=0.1, **NARROW, **engine)
    p.grad.zero_()
    before = p.detach().clone()
    Adai([p], **NARROW, **engine).step()
    assert torch.equal(p, before)
    optimizer.step()
    assert not torch.equal(p, before)


# --- long runs -------------------------------------------------------------------------------------------------------


def test_twenty_thousand_steps_do_not_drift(monkeypatch):
    """Most elements have the least weight, 0.001, with which rounding to nearest would stand still."""
    monkeypatch.setattr(saving, "LEAST_ELEMENTS", 1)
    n, loud = 2000, 40
    rng = torch.Generator().manual_seed(0)
    scale = torch.ones(n)
    scale[:loud] = 100.0
    wide, narrow = (torch.zeros(n).requires_grad_() for _ in range(2))
    reference, optimizer = Adai([wide], lr=0.0), Adai([narrow], lr=0.0, **NARROW)
    for t in range(1, 20_001):
        wide.grad = narrow.grad = scale * (0.5 + torch.randn(n, generator=rng))
        reference.step()
        optimizer.step()
        if t not in (300, 3_000, 17_320, 17_321, 20_000):
            continue
        for key in MOMENTS:
            a, b = (o.state[p].get(key) for o, p in ((optimizer, narrow), (reference, wide)))
            assert (a is None) == (b is None) == (key == "bias_correction" and t >= 17_321)
            if a is None:
                continue
            assert a.dtype == torch.bfloat16
            for part in (slice(loud), slice(loud, None)):
                error = ((a.float() - b) / b[part].square().mean().sqrt())[part].double()
                assert error.std() < 0.1
                assert abs(error.mean()) <= 4.5 * error.std() / math.sqrt(len(error)) + 1e-4


def test_parameters_of_half_precision_state_learn_as_those_of_full(tensors):
    torch.manual_seed(0)
    target = torch.randn(5000)
    losses = []
    for options in ({}, NARROW):
        p = torch.zeros(5000).requires_grad_()
        optimizer = AdaiW([p], lr=0.05, weight_decay=0.0, **options)
        rng = torch.Generator().manual_seed(1)
        for _ in range(1000):
            p.grad = p.detach() - target + torch.randn(5000, generator=rng)
            optimizer.step()
        losses.append((p.detach() - target).square().mean().item())
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_six_bytes_a_parameter_then_four(engine, tensors):
    def bytes_per_parameter():
        return sum(t.numel() * t.element_size() for t in moments(optimizer, p).values()) / p.numel()

    (p,) = tensors(((8192,),), torch.float32)
    optimizer = Adai([p], eps=0.9, **NARROW, **engine)
    optimizer.step()
    assert bytes_per_parameter() == 6
    for _ in range(10):
        optimizer.step()
    assert bytes_per_parameter() == 4


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((4095,), torch.float32, torch.float32),
        ((64, 64), torch.float32, torch.bfloat16),
        ((64, 64), torch.bfloat16, torch.bfloat16),
        ((64, 64), torch.float64, torch.float64),
        ((64, 64), torch.complex64, torch.complex64),
    ],
    ids=str,
)
def test_which_state_is_in_two_bytes(engine, tensors, shape, dtype, expected):
    (p,) = tensors((shape,), dtype)
    optimizer = Adai([p], **NARROW)
    optimizer.step()
    assert {value.dtype for value in moments(optimizer, p).values()} == {expected}
    assert optimizer.inertia(p).dtype != torch.bfloat16


# --- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resuming_continues_bit_for_bit(engine, tensors, dtype):
    params = tensors(SHAPES, dtype)
    optimizer = train(params, 3, seed=1, optimizer=Adai(params, rounding_seed=5, **NARROW, **engine))
    file = io.BytesIO()
    torch.save({"params": [p.detach() for p in params], "optimizer": optimizer.state_dict()}, file)
    train(params, 3, seed=2, optimizer=optimizer)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    again = [p.requires_grad_() for p in saved["params"]]
    resumed = Adai(again, rounding_seed=5, **NARROW, **engine)
    resumed.load_state_dict(saved["optimizer"])
    train(again, 3, seed=2, optimizer=resumed)
    assert_same(params, optimizer, again, resumed)
    twin = copy.deepcopy(optimizer)
    assert (twin.state_dtype, twin.rounding_seed) == (torch.bfloat16, 5)


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize(("before", "after"), [({}, NARROW), (NARROW, {})], ids=["narrower", "wider"])
def test_loading_keeps_the_loading_optimizers_dtype(engine, tensors, before, after, settled):
    options = {"eps": 0.9} if settled else {}
    params, others = tensors(SHAPES, torch.float32), tensors(SHAPES, torch.float32)
    optimizer = train(params, 10, **before, **options)
    loading = Adai(others, **after, **engine)
    loading.load_state_dict(optimizer.state_dict())
    fresh = train(tensors(SHAPES, torch.float32), 1, **after)
    for p, q, twin in zip(params, others, fresh.param_groups[0]["params"], strict=True):
        for key, value in moments(loading, q).items():
            assert value.dtype == fresh.state[twin][key].dtype
            assert torch.equal(value, optimizer.state[p][key].to(value.dtype))
        assert ("bias_correction" in loading.state[q]) is not settled
    train(others, 2, optimizer=loading)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, "bfloat16"])
def test_other_dtypes_are_refused(tensors, dtype):
    with pytest.raises(ValueError, match=r"Invalid state_dtype: .*torch\.bfloat16, torch\.float32 or None"):
        Adai(tensors(), state_dtype=dtype)


def test_what_does_not_go_with_rounding_is_refused(tensors):
    with pytest.raises(RuntimeError, match="rounding has no derivative"):
        Adai(tensors(), differentiable=True, **NARROW)
    with pytest.raises(ValueError, match="state_dtype is an option of the whole optimizer"):
        Adai([{"params": tensors(), **NARROW}])
    with pytest.raises(ValueError, match="Invalid rounding_seed value: 0.5"):
        Adai(tensors(), rounding_seed=0.5, **NARROW)


# --- shards ----------------------------------------------------------------------------------------------------------


def gradients(shape, t):
    """Powers of two, so that no sum depends on the order in which it is taken."""
    rng = torch.Generator().manual_seed(t)
    exponents = torch.randint(-2, 2, shape, generator=rng)
    return torch.where(torch.rand(shape, generator=rng) < 0.5, -1.0, 1.0) * 2.0**exponents


@pytest.mark.parametrize(
    ("shape", "parts"),
    [
        ((40, 200), [(slice(0, 13),), (slice(13, 40),)]),
        ((40, 200), [(slice(None), slice(0, 7)), (slice(None), slice(7, 200))]),
        ((20, 40, 10), [(slice(0, 7), slice(3, 40)), (slice(0, 7), slice(0, 3)), (slice(7, 20),)]),
        ((20, 40, 10), [(slice(None), slice(0, 20), slice(4, 10))]),
    ],
    ids=str,
)
def test_the_places_of_a_shard(shape, parts):
    places = torch.arange(math.prod(shape)).view(shape)
    for part in parts:
        start = tuple(s.start or 0 for s in (*part, *[slice(None)] * (len(shape) - len(part))))
        shard = places[part].clone()
        place = Place(0, 0, 0, start, places.stride())
        assert torch.equal(place.of_elements(shard), places[part])
        runs = place.runs(shard)
        if runs is None:
            assert len(parts) == 1  # cut along two inner dimensions
            continue
        first, run, pitch = runs
        k = torch.arange(shard.numel())
        assert torch.equal(first + k // run * pitch + k % run, shard.flatten())


@pytest.mark.parametrize("dim", [0, 1])
def test_shards_round_as_the_whole_does(engine, monkeypatch, dim):
    torch.manual_seed(0)
    whole = torch.randn(60, 200)
    parts = [part.clone().requires_grad_() for part in whole.tensor_split([17], dim)]
    whole.requires_grad_()
    reference = Adai([whole], lr=0.5, **NARROW, **engine)
    starts = [(0, 0), (17, 0) if dim == 0 else (0, 17)]
    monkeypatch.setattr(saving, "LEAST_ELEMENTS", 1)
    optimizer = Adai(parts, lr=0.5, **NARROW, **engine)
    for t in range(5):
        whole.grad = gradients(whole.shape, t)
        for p, g in zip(parts, whole.grad.tensor_split([17], dim), strict=True):
            p.grad = g.clone()
        reference.step()
        with monkeypatch.context() as patched:
            patched.setattr(
                Sharing, "_find_places", lambda *_, **__: [Place(0, 0, 0, start, whole.stride()) for start in starts]
            )
            optimizer.step()
    assert torch.equal(torch.cat([p.detach() for p in parts], dim), whole.detach())
    for key, value in moments(reference, whole).items():
        assert torch.equal(torch.cat([optimizer.state[p][key] for p in parts], dim), value)


def _on_ranks(cut, engine, steps):
    """A matrix and a small vector as DTensors; returns the whole of parameters and state after some steps."""
    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),))
    values = [torch.linspace(-1, 1, 13_000).view(65, 200), torch.linspace(0, 1, 100)]
    placements = [[Shard(cut)], [Replicate()]]
    params = [
        nn.Parameter(distribute_tensor(value, mesh, placement))
        for value, placement in zip(values, placements, strict=True)
    ]
    optimizer = Adai(params, lr=0.5, **NARROW, **engine)
    for t in range(steps):
        for p, placement in zip(params, placements, strict=True):
            p.grad = distribute_tensor(gradients(p.shape, t), mesh, placement)
        optimizer.step()
    return [
        [p.full_tensor().detach(), *(value.full_tensor() for value in moments(optimizer, p).values())] for p in params
    ]


@pytest.mark.slow
@pytest.mark.parametrize("cut", [0, 1])
def test_one_two_and_four_ranks_round_alike(ranks, cut):
    for engine in ({"fused": True}, {"foreach": True}):
        first, *others = (ranks(size).run(_on_ranks, cut, engine, 4)[0] for size in (1, 2, 4))
        assert first[0][1].dtype == torch.bfloat16
        assert first[1][1].dtype == torch.float32
        for other in others:
            assert all(torch.equal(a, b) for a, b in zip(chain(*first), chain(*other), strict=True))


FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


def _checkpoint(kind, options, folder, load):
    """A model trained and saved on some ranks; or a fresh one on others that loads it and goes on."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(100, 70), nn.Linear(70, 3))
    group = {}
    if kind == "fully_shard":
        fully_shard(model, mesh=init_device_mesh("cpu", (torch.distributed.get_world_size(),)))
    elif kind == "fsdp1":
        model = FullyShardedDataParallel(model, use_orig_params=True, device_id=torch.device("cpu"))
        group = {"process_group": torch.distributed.group.WORLD}
    optimizer = Adai(model.parameters(), **options, **group)
    saved = get_optimizer_state_dict(model, optimizer, options=FLAT)
    alone = not torch.distributed.is_initialized()
    if load:
        dcp.load(saved, checkpoint_id=folder, no_dist=alone)
        set_optimizer_state_dict(model, optimizer, saved, options=FLAT)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(8, 100)).square().sum().backward()
        optimizer.step()
    if not load:
        dcp.save(get_optimizer_state_dict(model, optimizer, options=FLAT), checkpoint_id=folder, no_dist=alone)
    dtypes = {value.dtype for state in optimizer.state.values() for key, value in state.items() if key in MOMENTS}
    return dtypes, {float(state["step"]) for state in optimizer.state.values() if state}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fully_shard", "fsdp1"])
@pytest.mark.parametrize(("before", "after"), [({}, NARROW), (NARROW, {}), (NARROW, NARROW)], ids=str)
def test_distributed_checkpoints_in_every_direction(ranks, tmp_path, kind, before, after):
    folder = str(tmp_path)
    ranks(2).run(_checkpoint, kind, before, folder, False)
    loaded = [*ranks(4).run(_checkpoint, kind, after, folder, True), _checkpoint("alone", after, folder, True)]
    for dtypes, steps in loaded:
        assert (torch.bfloat16 in dtypes) is (after is NARROW)
        assert steps == {6.0}


# --- parameters ------------------------------------------------------------------------------------------------------

PARAMS = {"stochastic_rounding": True}


@pytest.mark.parametrize("state", [{}, NARROW], ids=["float32 state", "bfloat16 state"])
def test_a_bfloat16_parameter_takes_small_steps_on_average(engine, state):
    """A step of 1e-4 from 1, where bfloat16 has 1 - 0.0039 next: to nearest it is lost."""
    results = []
    for options in ({}, PARAMS):
        p = torch.ones(100, 100, dtype=torch.bfloat16, requires_grad=True)
        optimizer = Adai([p], lr=1e-4, **options, **state, **engine)
        for _ in range(100):
            p.grad = torch.ones_like(p)
            optimizer.step()
        results.append(p.detach().double())
    nearest, stochastic = results
    assert torch.equal(nearest, torch.ones_like(nearest))
    variance = 100 * 1e-4 * 2**-8  # of a sum of roundings, each up by 2^-8 with probability 1e-4 / 2^-8
    assert abs(stochastic.mean() - 0.99) < 4 * math.sqrt(variance / p.numel())


@pytest.mark.parametrize("gradient", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("options", [{}, NARROW, {"weight_decay": 0.1}, {"max_grad_norm": 1.0}], ids=str)
def test_every_engine_rounds_parameters_as_the_loop_does(engine, tensors, gradient, options):
    results = []
    for kind in (engine, LOOP):
        params, rng = tensors(SHAPES, torch.bfloat16), torch.Generator().manual_seed(0)
        optimizer = Adai(params, **PARAMS, **options, **kind)
        for _ in range(3):
            for p in params:
                p.grad = None
                p.grad_dtype = gradient
                p.grad = torch.randn(p.shape, generator=rng).to(gradient)
            optimizer.step()
        results.append(params)
    for p, q in zip(*results, strict=True):
        assert (p != q).float().mean() < 5e-3


def test_rounded_parameters_do_not_depend_on_threads(tensors):
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            params = tensors(SHAPES, torch.bfloat16)
            train(params, 3, **PARAMS)
            results.append(params)
    finally:
        torch.set_num_threads(before)
    assert_close(*results, 0)


def test_rounded_parameters_continue_bit_for_bit(tensors):
    params = tensors(SHAPES, torch.bfloat16)
    optimizer = train(params, 2, **PARAMS)
    again = [p.detach().clone().requires_grad_() for p in params]
    resumed = Adai(again, **PARAMS)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(params, 2, seed=1, optimizer=optimizer)
    train(again, 2, seed=1, optimizer=resumed)
    assert_close(params, again, 0)


@pytest.mark.parametrize("engine", each("loop", "foreach", "fused"), indirect=True)
def test_pure_bfloat16_training_learns_where_rounding_to_nearest_stalls(engine):
    """Logistic regression on points that a plane separates."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(2000, 20, generator=rng)
    y = (x @ torch.randn(20, generator=rng) > 0).float()
    losses = []
    for options in ({}, PARAMS):
        w = torch.full((20,), 1.0).bfloat16().requires_grad_()
        optimizer = Adai([w], lr=0.003, **options, **engine)
        for _ in range(1500):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(x.bfloat16() @ w, y.bfloat16()).backward()
            optimizer.step()
        losses.append(nn.functional.binary_cross_entropy_with_logits(x @ w.detach().float(), y).item())
    nearest, stochastic = losses
    assert stochastic < 0.5 * nearest
