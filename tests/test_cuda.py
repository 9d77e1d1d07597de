"""On a GPU, where there is one: the Triton engine as it is compiled, streams, graphs and the scaler."""

import copy

import pytest
import torch

from adai import Adai
from adai.optim.engines import triton as gpu
from tests.engines import LOOP, OPTIONS, SHAPES, assert_close, train

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


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_200_steps_equal_the_loop_on_the_cpu(tensors, options, dtype, rtol):
    expected = tensors(LARGE, dtype)
    params = on_gpu(expected)
    train(params, 200, fused=True, **options)
    train(expected, 200, **options, **LOOP)
    assert_close([p.cpu() for p in params], expected, rtol)


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


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "max_grad_norm": 1.0}], ids=str)
def test_capturable_steps_do_not_synchronise(tensors, options):
    params = on_gpu(tensors(LARGE))
    optimizer = train(params, 2, capturable=True, fused=True, **options)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "max_grad_norm": 1.0}], ids=str)
def test_a_graph_replays_the_step(tensors, options):
    """With other gradients and another learning rate at the same addresses, and eager steps of others in between."""
    params, expected = on_gpu(tensors(LARGE)), on_gpu(tensors(LARGE))
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
    others = on_gpu(tensors(LARGE))
    for t in range(5):
        fresh = tensors(LARGE, seed=t)
        for p, q, source in zip(params, expected, fresh, strict=True):
            p.grad.copy_(source.grad)
            q.grad = source.grad.cuda()
        lr.fill_(0.03 / (1 + t))
        reference.param_groups[0]["lr"] = 0.03 / (1 + t)
        train(others, 2)
        graph.replay()
        reference.step()
    assert_close(params, expected, 1e-12)
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
