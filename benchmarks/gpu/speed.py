"""Part B: how long a step takes, beside AdamW's, and what bounds it."""

import time
from collections.abc import Callable
from itertools import product
from statistics import median
from typing import Any
from unittest import mock

import host_time
import torch
from contenders import SHAPES, Load, contenders, parameters
from step_time import clock, copy_bandwidth, measure, replays_as_eager, wait
from torch import Tensor

from adai import Adai
from adai.optim.engines import triton
from adai.optim.engines.triton import table
from gpu.items import Scale, needs_gpu

AMOUNTS = {"62": SHAPES["resnet18"], "500": SHAPES["small"], "2000": SHAPES["small"] * 4}


def bandwidth(scale: Scale) -> dict[str, float]:
    """What copying reaches: the measure of all other rates."""
    return {"copy_gb_per_s": _copy(scale) / 1e9}


def host_alone(scale: Scale) -> dict[str, float]:
    """Microseconds of the host for each tensor, with kernels that do nothing, on this machine's CPU."""
    number, steps = (20, 5) if scale.dry else (500, 100)
    return {mode: 1e6 * host_time.step_time(mode, number, steps) / number for mode in host_time.MODES}


def steps_of_many_tensors(scale: Scale) -> dict[str, Any]:
    """From an idle device to an idle device, all contenders in turn."""
    return {n: measure(_load(scale, shapes), 3 if scale.dry else 40, core=True) for n, shapes in AMOUNTS.items()}


def steps_of_large_tensors(scale: Scale) -> dict[str, Any]:
    """100 million and a billion parameters."""
    found = {}
    for name in ("large", "billion"):
        load = Load([(1000,)], scale.device) if scale.dry else Load(SHAPES[name], scale.device)
        found[name] = measure(load, 10, core=True)
        scale.keep(found)
    return found


def steps_back_to_back(scale: Scale) -> dict[str, Any]:
    """Milliseconds of each of many steps that are launched without waiting, and the bandwidth that this is."""
    found: dict[str, Any] = {}
    for n, shapes in {**AMOUNTS, "100 M": SHAPES["large"], "1 B": SHAPES["billion"]}.items():
        load, steps = _load(scale, shapes), 50 if n in AMOUNTS else 10
        for name, make in contenders(load, core=True).items():
            contender = make()

            def many(step: Callable[[], Any] = contender.step, steps: int = steps) -> None:
                for _ in range(steps):
                    step()

            seconds = min(clock(many, scale.device) for _ in range(1 if scale.dry else 5)) / steps
            rate = (contender.traffic or 0) * load.elements / seconds / 1e9
            found.setdefault(n, {})[name] = {"ms": 1e3 * seconds, "gb_per_s": rate}
        scale.keep(found)
    return found


def replayed(scale: Scale) -> dict[str, Any]:
    """Milliseconds of a graph's replay, of Adai and of fused AdamW; and whether it does what eager steps do."""
    needs_gpu(scale)
    found: dict[str, Any] = {"as_eager": replays_as_eager(Load(SHAPES["resnet18"], "cuda"))}
    for n, shapes in AMOUNTS.items():
        for cls in (Adai, torch.optim.AdamW):
            optimizer = cls(parameters(Load(shapes, "cuda")), lr=1e-4, fused=True, capturable=True)
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                optimizer.step()
                optimizer.step()
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            found.setdefault(n, {})[cls.__name__] = 1e3 * _median_time(graph.replay, scale)
    return found


def kernels(scale: Scale) -> dict[str, dict[str, float]]:
    """Microseconds of each kernel in a step of 100 million parameters, as torch's profiler sees them."""
    needs_gpu(scale)
    optimizer = Adai(parameters(Load(SHAPES["large"], "cuda")), fused=True)
    for _ in range(3):
        optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(5):
            optimizer.step()
        torch.cuda.synchronize()
    traffic = {"read": 4, "step": 36}  # bytes for each parameter
    elements, found = Load(SHAPES["large"], "cuda").elements, {}
    for event in profile.key_averages():
        us = event.device_time_total / max(event.count, 1)
        if not us:  # the host's part
            continue
        found[event.key] = {"us": us}
        if event.key in traffic:
            found[event.key]["gb_per_s"] = traffic[event.key] * elements / us / 1e3
    return found


def sweep(scale: Scale) -> dict[str, float]:
    """Milliseconds of a step by the size of chunks and blocks and the number of warps, and by the parameters' dtype."""
    needs_gpu(scale)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        for chunk, block, warps in product((8192, 16384), (256, 512, 1024), (4, 8)):
            with (
                mock.patch.object(table, "CHUNK", chunk),
                mock.patch.object(triton, "CHUNK", chunk),
                mock.patch.object(triton, "BLOCK", block),
                mock.patch.object(triton, "WARPS", warps),
            ):
                optimizer = Adai(_as(dtype, parameters(Load(SHAPES["large"], "cuda"))), fused=True)
                found[f"{dtype} {chunk} {block} {warps}"] = 1e3 * _median_time(optimizer.step, scale)
            scale.keep(found)
            if time.monotonic() > scale.until:
                return found
    return found


def variants(scale: Scale) -> dict[str, float]:
    """Milliseconds of a step: gradients at odd addresses, bfloat16, a dampened step."""
    load = _load(scale, [(1000,)] if scale.dry else SHAPES["large"])
    plain, odd, half = parameters(load), parameters(load), _as(torch.bfloat16, parameters(load))
    for p in odd:
        memory = torch.empty(p.numel() + 1, device=p.device)
        p.grad = memory[1:].view(p.shape).fill_(0.01)
    steps = {
        "aligned": Adai(plain, fused=True).step,
        "gradients at odd addresses": Adai(odd, fused=True).step,
        "bfloat16": Adai(half, fused=True).step,
        "dampened": Adai(parameters(load), fused=True, dampening=0.5).step,
    }
    return {name: 1e3 * _median_time(step, scale) for name, step in steps.items()}


ITEMS = [
    bandwidth,
    host_alone,
    steps_of_many_tensors,
    steps_back_to_back,
    replayed,
    steps_of_large_tensors,
    variants,
    kernels,
    sweep,
]


def _as(dtype: torch.dtype, params: list[Tensor]) -> list[Tensor]:
    """The parameters and their gradients in this dtype."""
    for p in params:
        gradient, p.grad = p.grad, None
        p.data = p.data.to(dtype)
        p.grad = None if gradient is None else gradient.to(dtype)
    return params


def _load(scale: Scale, shapes: list[tuple[int, ...]]) -> Load:
    return Load([(2, 3)] * 5 if scale.dry else shapes, scale.device)


def _copy(scale: Scale) -> float:
    if not scale.dry:
        return copy_bandwidth(scale.device)
    a, b = torch.ones(1000), torch.empty(1000)
    return 8000 / clock(lambda: b.copy_(a), scale.device)


def _median_time(step: Callable[[], Any], scale: Scale) -> float:
    for _ in range(3):
        step()
    wait(scale.device)
    return median(clock(step, scale.device) for _ in range(3 if scale.dry else 15))
