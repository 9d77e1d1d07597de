"""On a GPU, where there is one: the Triton engine as it is compiled, streams, graphs and the scaler."""

import copy

import pytest
import torch

from adai import Adai
from adai.optim.engines import triton as gpu
from adai.optim.engines.triton import launch
from tests.engines import LOOP, OPTIONS, SHAPES, assert_close, train

NARROW = {"state_dtype": torch.bfloat16}
PREVIOUS = {"mean": "previous"}

if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)
if (reason := gpu.missing(torch.device("cuda", torch.cuda.current_device()))) is not None:
    pytest.skip(reason, allow_module_level=True)

LARGE = (*SHAPES, (3 * 8192,), (100_001,))


def on_gpu(params):
    moved = [p.detach().cuda().requires_grad_() for p in params]
    for p, q in zip(moved, params, strict=True):
        p.grad = q.grad.cuda()
    return moved


def test_compiled_kernels_are_started_directly():
    """If this version of Triton cannot, each launch takes several times as long on the host."""
    assert launch._ABLE[torch.device("cuda", torch.cuda.current_device())]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_200_steps_equal_the_loop_on_the_cpu(tensors, options, dtype, rtol):
    expected = tensors(LARGE, dtype)
    params = on_gpu(expected)
    train(params, 200, fused=True, **options)
    train(expected, 200, **options, **LOOP)
    assert_close([p.cpu() for p in params], expected, rtol)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"max_grad_norm": 1.0}, {"dampening": 0.7}], ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
@pytest.mark.parametrize("capturable", [False, True])
def test_200_steps_in_one_pass_equal_the_loop_on_the_cpu(tensors, options, dtype, rtol, capturable):
    expected = tensors(LARGE, dtype)
    params = on_gpu(expected)
    train(params, 200, fused=True, capturable=capturable, **PREVIOUS, **options)
    train(expected, 200, **PREVIOUS, **options, **LOOP)
    assert_close([p.cpu() for p in params], expected, rtol)


def assert_rounded_alike(params, optimizer, expected, reference, differing):
    """The state is the same but in a few elements, where a last digit of float32 has decided."""
    for p, q in zip(params, expected, strict=True):
        for key in ("exp_avg", "exp_avg_sq", "bias_correction"):
            value, other = optimizer.state[p][key].cpu(), reference.state[q][key]
            assert value.dtype == other.dtype == (torch.bfloat16 if p.numel() >= 4096 else torch.float32)
            if value.dtype == torch.bfloat16:
                assert (value != other).float().mean() < differing


@pytest.mark.parametrize("options", [*OPTIONS, PREVIOUS], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_state_in_bfloat16_is_rounded_as_by_the_loop(tensors, options, dtype):
    expected = tensors(LARGE, dtype)
    params = on_gpu(expected)
    optimizer = train(params, 3, fused=True, **NARROW, **options)
    reference = train(expected, 3, **NARROW, **options, **LOOP)
    assert_rounded_alike(params, optimizer, expected, reference, 2e-3)
    assert_close([p.cpu() for p in params], expected, 2e-3 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("options", [{}, PREVIOUS], ids=str)
def test_200_steps_with_state_in_bfloat16_equal_the_loop_on_the_cpu(tensors, options):
    """A number that is rounded the other way once is soon forgotten, and changes the parameter by little."""
    expected = tensors(LARGE, torch.float32)
    params = on_gpu(expected)
    optimizer = train(params, 200, fused=True, **NARROW, **options)
    reference = train(expected, 200, **NARROW, **options, **LOOP)
    assert_rounded_alike(params, optimizer, expected, reference, 1e-2)
    for p, q in zip(params, expected, strict=True):
        if p.numel():
            difference = (p.detach().cpu() - q.detach()).square().mean().sqrt()
            assert difference < 3e-4 * q.detach().square().mean().sqrt()


@pytest.mark.parametrize("gradient", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("state", [{}, NARROW], ids=["float32 state", "bfloat16 state"])
def test_parameters_in_bfloat16_are_rounded_as_by_the_loop(tensors, gradient, state):
    results = []
    for options, device in (({"fused": True}, "cuda"), (LOOP, "cpu")):
        rng = torch.Generator().manual_seed(0)
        params = [p.detach().to(device).requires_grad_() for p in tensors(LARGE, torch.bfloat16)]
        optimizer = Adai(params, stochastic_rounding=True, **state, **options)
        for _ in range(3):
            for p in params:
                p.grad = None
                p.grad_dtype = gradient
                p.grad = torch.randn(p.shape, generator=rng).to(device, gradient)
            optimizer.step()
        results.append([p.detach().cpu() for p in params])
    for p, q in zip(*results, strict=True):
        if p.numel() > 1000:
            assert (p != q).float().mean() < 5e-3


@pytest.mark.parametrize("options", [{}, PREVIOUS], ids=str)
def test_resuming_continues_bit_for_bit(tensors, options):
    params = on_gpu(tensors(LARGE, torch.float32))
    optimizer = train(params, 3, fused=True, **NARROW, **options)
    again = [p.detach().clone().requires_grad_() for p in params]
    resumed = Adai(again, fused=True, **NARROW, **options)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(params, 3, seed=1, optimizer=optimizer)
    train(again, 3, seed=1, optimizer=resumed)
    assert_close(params, again, 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_equals_the_loop(tensors, dtype):
    expected = tensors(LARGE, dtype)
    params = on_gpu(expected)
    train(params, 1, fused=True)
    train(expected, 1, **LOOP)
    assert_close([p.cpu() for p in params], expected, 2 * torch.finfo(dtype).eps)


def test_addresses_that_are_no_multiples_of_16_bytes(tensors):
    expected = tensors(LARGE, torch.float32)
    memory = torch.empty(1 + sum(p.numel() for p in expected), device="cuda")
    params, start = [], 1
    for p in expected:
        view = memory[start : start + p.numel()].view(p.shape)
        params.append(view.copy_(p.detach()).requires_grad_())
        start += p.numel()
    train(params, 3, fused=True)
    train(expected, 3, **LOOP)
    assert_close([p.cpu() for p in params], expected, 2e-6)


def test_checkpoints_move_between_devices_and_engines(tensors):
    expected = tensors(SHAPES)
    reference = train(expected, 3, **LOOP)
    params = tensors(SHAPES)
    optimizer = train(params, 3)
    for turn, device in enumerate(("cuda", "cpu", "cuda")):
        saved = copy.deepcopy(optimizer.state_dict())
        params = [p.detach().to(device, copy=True).requires_grad_() for p in params]
        optimizer = Adai(params)
        optimizer.load_state_dict(saved)
        train(params, 3, seed=turn, optimizer=optimizer)
        train(expected, 3, seed=turn, optimizer=reference)
        assert_close([p.cpu() for p in params], expected, 1e-13)


NOT_WAITED_FOR = [
    {"capturable": True},
    {"capturable": True, "weight_decay": 0.1, "max_grad_norm": 1.0},
    {"capturable": True, **PREVIOUS},
    {"capturable": True, **PREVIOUS, **NARROW},
    PREVIOUS,
    {**PREVIOUS, **NARROW},
]


@pytest.mark.parametrize("options", NOT_WAITED_FOR, ids=str)
def test_these_steps_do_not_synchronise(tensors, options):
    params = on_gpu(tensors(LARGE))
    optimizer = train(params, 2, fused=True, **options)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


IN_A_GRAPH = [{}, {"weight_decay": 0.1, "max_grad_norm": 1.0}, PREVIOUS, {**PREVIOUS, "weight_decay": 0.1}]
NARROW_IN_A_GRAPH = [NARROW, {**NARROW, **PREVIOUS}]


@pytest.mark.parametrize(
    ("options", "dtype", "rtol"),
    [(options, torch.float64, 1e-12) for options in IN_A_GRAPH]
    + [(options, torch.float32, 1e-3) for options in NARROW_IN_A_GRAPH],
    ids=str,
)
def test_a_graph_replays_the_step(tensors, options, dtype, rtol):
    """With other gradients and another learning rate at the same addresses, and eager steps of others in between."""
    params, expected = on_gpu(tensors(LARGE, dtype)), on_gpu(tensors(LARGE, dtype))
    lr = torch.tensor(0.03, device="cuda", dtype=torch.float64)
    optimizer = Adai(params, lr=lr, capturable=True, **options)
    reference = Adai(expected, lr=0.03, fused=False, foreach=False, **options)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        optimizer.step()
    torch.cuda.current_stream().wait_stream(side)
    reference.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        optimizer.step()
    others = on_gpu(tensors(LARGE, dtype))
    for t in range(5):
        fresh = tensors(LARGE, dtype, seed=t)
        for p, q, source in zip(params, expected, fresh, strict=True):
            p.grad.copy_(source.grad)
            q.grad = source.grad.cuda()
        lr.fill_(0.03 / (1 + t))
        reference.param_groups[0]["lr"] = 0.03 / (1 + t)
        train(others, 2)
        graph.replay()
        reference.step()
    assert_close(params, expected, rtol)
    assert all(optimizer.state[p]["step"] == 6 for p in params)


def test_a_scaler_skips_on_the_device(tensors):
    params = on_gpu(tensors(SHAPES, torch.float32))
    optimizer = train(params, 1, fused=True, capturable=True)  # the first step makes the state, and so may wait
    scaler = torch.amp.GradScaler("cuda", init_scale=4.0)
    for factor, count in ((1.0, 2), (float("inf"), 2), (1.0, 3)):
        optimizer.zero_grad()
        scaler.scale(sum((p * factor).sum() for p in params)).backward()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            scaler.step(optimizer)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        scaler.update()
        assert all(optimizer.state[p]["step"] == count for p in params)
        assert all(p.isfinite().all() for p in params)
