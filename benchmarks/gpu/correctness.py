"""Part A: whether the engines do on a GPU what they do on a CPU."""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from adai import Adai
from adai.optim import step
from gpu import lab
from gpu.items import Scale, Skipped, needs_gpu

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SHAPES = ((3, 4), (), (0,), (2, 3, 2, 5), (1001,), (3 * 8192,))
LOOP: dict[str, Any] = {"foreach": False, "fused": False}


def tests(scale: Scale) -> str:
    """tests/test_cuda.py; without a GPU it skips itself."""
    # Without -q, which pyproject.toml has: pytest writes no summary if it is given twice.
    command = [sys.executable, "-m", "pytest", "--no-header", "tests/test_cuda.py"]
    if find_spec("xdist"):  # most of the time goes into compiling kernels
        command += ["-n", "2" if scale.dry else "8"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)
    last = done.stdout.strip().splitlines()[-1]
    if done.returncode not in ((0, 5) if scale.dry else (0,)):  # 5: nothing was collected
        raise AssertionError(done.stdout[-4000:] + done.stderr[-2000:])
    return last


def foreach_equals_loop(scale: Scale) -> float:
    """The greatest relative difference after 20 steps."""
    return _difference(scale, {"foreach": True, "fused": False})


def fused_equals_loop(scale: Scale) -> dict[str, float]:
    """The same of the fused engine, for several options."""
    options: list[dict[str, Any]] = [{}, {"weight_decay": 0.1, "max_grad_norm": 1.0}, {"dampening": 0.7}]
    return {str(each): _difference(scale, {"fused": True}, **each) for each in options}


def channels_last_equals_loop(scale: Scale) -> float:
    """The same, with gradients in another layout than the parameters."""
    params, expected = _params(scale, ((8, 4, 3, 3), (16, 8, 3, 3))), _params(scale, ((8, 4, 3, 3), (16, 8, 3, 3)))
    for p in params:
        p.data = p.data.to(memory_format=torch.channels_last)
    return _steps_apart(params, expected, {"fused": True})


def mixed_dtypes_equal_loop(scale: Scale) -> float:
    """The same for float32, float64 and bfloat16 in one group."""
    dtypes = (torch.float32, torch.float64, torch.bfloat16)
    params, expected = ([p for each in dtypes for p in _params(scale, ((33,), (64, 3)), each)] for _ in range(2))
    return _steps_apart(params, expected, {"fused": True}, within=2e-2)


def nan_spreads(scale: Scale) -> dict[str, bool]:
    """A nan gradient makes every parameter nan, in every engine and where the host does not ask for the mean."""
    found = {}
    engines: dict[str, dict[str, Any]] = {
        "loop": LOOP,
        "foreach": {"foreach": True, "fused": False},
        "fused": {"fused": True},
    }
    for name, engine in engines.items():
        params = _params(scale, ((5,), (7, 2)))
        optimizer = Adai(params, **engine)
        with mock.patch.object(step, "_asks", return_value=False):
            optimizer.step()
            assert params[0].grad is not None
            params[0].grad[0] = float("nan")
            optimizer.step()
        found[name] = all(bool(p.isnan().all()) for p in params)
    assert all(found.values()), found
    return found


def default_mode_does_not_wait(scale: Scale) -> str:
    """No step but the first waits for the device."""
    needs_gpu(scale)
    optimizer = Adai(_params(scale, SHAPES))
    optimizer.step()
    optimizer.step()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "no synchronisation"


def more_than_2_to_the_31_elements(scale: Scale) -> str:
    """The step of one huge tensor equals that of a small one with the same gradients, at both its ends."""
    n = 10_001 if scale.dry else 2**31 + 8192 + 5
    large, small = (torch.zeros(size, device=scale.device, requires_grad=True) for size in (n, 64))
    for p in (large, small):
        p.grad = torch.full_like(p, 0.5)
        optimizer = Adai([p])
        optimizer.step()
        optimizer.step()
    for piece in (large[:8], large[n // 2 : n // 2 + 8], large[-8:]):
        torch.testing.assert_close(piece, small[:8], rtol=1e-5, atol=0)
    return f"{n} elements"


def compiled_step_equals_eager(scale: Scale) -> str:
    """`torch.compile` of the step."""
    params, expected = _params(scale, SHAPES), _params(scale, SHAPES)
    optimizer, reference = Adai(params), Adai(expected, **LOOP)
    compiled = torch.compile(optimizer.step, backend="eager" if scale.dry else "inductor")
    for _ in range(3):
        compiled()
        reference.step()
    return f"{_apart(params, expected, 1e-4):.1e}"


def ddp_and_fsdp2_equal_plain(scale: Scale) -> dict[str, float]:
    """In a world of one process."""
    found = {}
    store: Any = torch._C._distributed_c10d.HashStore()
    dist.init_process_group("nccl" if scale.device == "cuda" else "gloo", store=store, rank=0, world_size=1)
    try:
        for name in ("ddp", "ddp, views", "fsdp2"):
            models = []
            for wrapped in (True, False):
                torch.manual_seed(0)
                model: Any = torch.nn.Sequential(torch.nn.Linear(9, 33), torch.nn.Tanh(), torch.nn.Linear(33, 3))
                model = inner = model.to(scale.device)
                if wrapped and name == "fsdp2":
                    fully_shard(model, mesh=init_device_mesh(scale.device, (1,)))
                elif wrapped:
                    model = DistributedDataParallel(model, gradient_as_bucket_view=name == "ddp, views")
                optimizer = Adai(model.parameters(), lr=0.1)
                for _ in range(3):
                    optimizer.zero_grad()
                    model(torch.ones(4, 9, device=scale.device)).square().mean().backward()
                    optimizer.step()
                whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in inner.parameters()]
                models.append([p.detach() for p in whole])
            found[name] = _apart(models[0], models[1], 1e-5)
    finally:
        dist.destroy_process_group()
    return found


def memory_does_not_grow(scale: Scale) -> dict[str, int]:
    """Bytes allocated after 10 steps and after 1,000, with new gradients in each."""
    needs_gpu(scale)
    params = _params(scale, SHAPES)
    optimizer, allocated = Adai(params), {}
    for t in range(1, 1001):
        for p in params:
            p.grad = torch.ones_like(p)
        optimizer.step()
        if t in (10, 1000):
            allocated[str(t)] = torch.cuda.memory_allocated()
    assert allocated["1000"] <= allocated["10"], allocated
    return allocated


def sanitized(scale: Scale) -> str:
    """compute-sanitizer over a few steps, with tensors of odd sizes."""
    needs_gpu(scale)
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        raise Skipped("compute-sanitizer is not installed")
    code = (
        "import torch; from adai import Adai\n"
        "ps = [torch.ones(n, device='cuda', requires_grad=True) for n in (1, 33, 8193)]\n"
        "for p in ps: p.grad = torch.ones_like(p)\n"
        "o = Adai(ps, fused=True, weight_decay=0.1, max_grad_norm=1.0)\n"
        "for _ in range(3): o.step()\n"
    )
    command = [tool, "--error-exitcode", "9", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout.strip().splitlines()[-1]


def lab_graph_equals_eager(scale: Scale) -> dict[str, float]:
    """The greatest relative difference of a training loss, of three epochs; dropout draws the same numbers."""
    found = {}
    for optimizer in ("adai", "sgd"):
        losses = [lab.losses(scale, optimizer=optimizer, deterministic=True, graph=graph) for graph in (False, True)]
        found[optimizer] = max(abs(a / b - 1) for a, b in zip(*losses, strict=True))
    assert max(found.values()) < 1e-4, found
    return found


ITEMS = [
    fused_equals_loop,
    foreach_equals_loop,
    channels_last_equals_loop,
    mixed_dtypes_equal_loop,
    nan_spreads,
    default_mode_does_not_wait,
    memory_does_not_grow,
    compiled_step_equals_eager,
    ddp_and_fsdp2_equal_plain,
    lab_graph_equals_eager,
    more_than_2_to_the_31_elements,
    tests,
    sanitized,
]


def _params(scale: Scale, shapes: Any, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    params = []
    for shape in shapes:
        p = torch.randn(shape, generator=rng).to(scale.device, dtype).requires_grad_()
        p.grad = torch.randn(shape, generator=rng).to(scale.device, dtype)
        params.append(p)
    return params


def _difference(scale: Scale, engine: dict[str, Any], **options: Any) -> float:
    return _steps_apart(_params(scale, SHAPES), _params(scale, SHAPES), engine, **options)


def _steps_apart(
    params: list[Tensor], expected: list[Tensor], engine: dict[str, Any], within: float = 1e-5, **options: Any
) -> float:
    optimizer, reference = Adai(params, **engine, **options), Adai(expected, **LOOP, **options)
    for _ in range(20):
        optimizer.step()
        reference.step()
    return _apart(params, expected, within)


def _apart(params: list[Tensor], expected: list[Tensor], within: float) -> float:
    """The greatest difference, relative to the largest element of a tensor; raises where it is more than ``within``."""
    apart = 0.0
    for p, q in zip(params, expected, strict=True):
        if q.numel():
            own, other = p.detach().double(), q.detach().double()
            apart = max(apart, float((own - other).abs().max() / other.abs().max().clamp_min(1e-30)))
    assert apart <= within, f"{apart:.1e} apart, more than {within:.1e}"
    return apart
