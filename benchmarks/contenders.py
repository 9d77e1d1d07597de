"""The contenders of step_time.py, and the tensors that they update."""

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adai import Adai, AdaiW
from adai.optim.engines.rounding import LEAST_ELEMENTS

BASELINE = "AdamW fused"


class Load(NamedTuple):
    """The tensors that a step updates."""

    shapes: list[tuple[int, ...]]
    device: str

    @property
    def elements(self) -> int:
        """The number of parameters."""
        return sum(torch.Size(shape).numel() for shape in self.shapes)


class Contender(NamedTuple):
    """One optimizer in one state; ``traffic`` is the bytes moved per parameter if every pass misses the caches."""

    step: Callable[[], Any]
    traffic: int | None = None
    state: Callable[[], int] | None = None


def resnet18() -> list[tuple[int, ...]]:
    """Shapes of ResNet-18 in its CIFAR form: 62 tensors, 11.17 M parameters."""
    shapes: list[tuple[int, ...]] = [(64, 3, 3, 3), (64,), (64,)]
    before = 64
    for width in (64, 128, 256, 512):
        for _ in range(2):
            shapes += [(width, before, 3, 3), (width,), (width,), (width, width, 3, 3), (width,), (width,)]
            if before != width:
                shapes += [(width, before, 1, 1), (width,), (width,)]
            before = width
    return [*shapes, (10, 512), (10,)]


SHAPES: dict[str, list[tuple[int, ...]]] = {
    "resnet18": resnet18(),
    "small": [(64,), (128,), (16, 3, 3, 3), (64, 10), (256,)] * 100,
    "large": [(100_000_000,)],
    "billion": [(4096, 4096)] * 40 + [(11008, 4096)] * 7 + [(32000, 400)] + [(4096,)] * 80 + [(128, 3, 3, 3)] * 20,
}
CORE = ("large", "billion")
"""Sets of shapes at which only the contenders that fit into memory and time take part."""
ON_GPUS = ("billion",)
"""Sets of shapes that are measured on CPUs only on request."""


def parameters(load: Load) -> list[Tensor]:
    """Parameters with gradients."""
    rng = torch.Generator(load.device).manual_seed(0)
    params = [torch.randn(shape, generator=rng, device=load.device).requires_grad_() for shape in load.shapes]
    for p in params:
        p.grad = torch.randn(p.shape, generator=rng, device=load.device).mul_(0.01)
    return params


def for_loop(params: list[Tensor]) -> Callable[[], None]:
    """Algorithm 2 line by line, one torch operator after the other, as a direct transcription of the paper."""
    lr, beta0, beta2, eps = 0.1, 0.1, 0.99, 1e-3
    state = [(torch.zeros_like(p), torch.zeros_like(p), torch.ones_like(p)) for p in params]
    t = 0

    @torch.no_grad()
    def step() -> None:
        nonlocal t
        t += 1
        total = torch.zeros((), device=params[0].device)
        for p, (_, v, _) in zip(params, state, strict=True):
            if p.grad is not None:
                v.mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
                total += (v / (1 - beta2**t)).sum()
        mean = total / sum(p.numel() for p in params)
        for p, (m, v, prod) in zip(params, state, strict=True):
            if p.grad is not None:
                mu = (1 - v / (1 - beta2**t) / mean * beta0).clamp(0, 1 - eps)
                m.mul_(mu).addcmul_(1 - mu, p.grad)
                prod.mul_(mu)
                p.sub_(lr * m / (1 - prod))

    return step


def of_class(cls: Any, load: Load, traffic: int | None = None, **options: Any) -> Contender:
    """A contender that is an optimizer, after its first step."""
    optimizer = cls(parameters(load), lr=1e-4, **options)
    optimizer.step()
    return Contender(optimizer.step, traffic, lambda: state_bytes(optimizer))


def settled(cls: Any, load: Load, traffic: int | None = None, **options: Any) -> Contender:
    """The same optimizer after enough steps that the bias correction is dropped."""
    optimizer = cls(parameters(load), lr=1e-4, **options)
    optimizer.step()
    for state in optimizer.state.values():
        state["step"].fill_(20_000)
        state["bias_correction"].fill_(1)
    optimizer.step()
    return Contender(optimizer.step, traffic, lambda: state_bytes(optimizer))


def clipped_adamw(load: Load, max_norm: float) -> Contender:
    """Fused AdamW after clip_grad_norm_, which multiplies gradients by 1 if they are already short enough."""
    params = parameters(load)
    optimizer = torch.optim.AdamW(params, lr=1e-4, fused=True)

    def step() -> None:
        torch.nn.utils.clip_grad_norm_(params, max_norm)
        optimizer.step()

    step()
    return Contender(step, 40, lambda: state_bytes(optimizer))


def state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of all state tensors with more than two elements."""
    tensors = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, Tensor)]
    return sum(t.numel() * t.element_size() for t in tensors if t.numel() > 2)


def contenders(load: Load, *, core: bool) -> dict[str, Callable[[], Contender]]:
    """All contenders by name; ``core`` leaves out those that do not fit into memory or time at large sizes."""
    sgd, adamw = torch.optim.SGD, torch.optim.AdamW
    all_of_them: dict[str, Callable[[], Contender]] = {
        BASELINE: lambda: of_class(adamw, load, 28, fused=True),
        "Adai fused": lambda: of_class(Adai, load, 40, fused=True),
        "Adai fused, settled": lambda: settled(Adai, load, 32, fused=True),
        "Adai fused, one pass": lambda: of_class(Adai, load, 36, fused=True, mean="previous"),
        "Adai fused, one pass, settled": lambda: settled(Adai, load, 28, fused=True, mean="previous"),
    }
    if any(torch.Size(shape).numel() >= LEAST_ELEMENTS for shape in load.shapes):
        narrow: dict[str, Any] = {"fused": True, "state_dtype": torch.bfloat16}
        all_of_them |= {
            "Adai fused, bf16": lambda: of_class(Adai, load, 28, **narrow),
            "Adai fused, bf16, settled": lambda: settled(Adai, load, 24, **narrow),
            "Adai fused, bf16, one pass": lambda: of_class(Adai, load, 24, mean="previous", **narrow),
            "Adai fused, bf16, one pass, settled": lambda: settled(Adai, load, 20, mean="previous", **narrow),
        }
    if core:
        return all_of_them
    all_of_them |= {
        "Adai fused, clipping, settled": lambda: settled(Adai, load, 32, fused=True, max_grad_norm=1.0),
        "AdamW fused behind clip_grad_norm_": lambda: clipped_adamw(load, 1.0),
        "Adai fused, L2": lambda: of_class(Adai, load, 44, fused=True, weight_decay=5e-4),
        "AdaiW fused": lambda: of_class(AdaiW, load, 40, fused=True),
        "AdaiW fused, settled": lambda: settled(AdaiW, load, 32, fused=True),
        "Adai foreach": lambda: of_class(Adai, load, foreach=True),
        "Adai foreach, settled": lambda: settled(Adai, load, foreach=True),
        "Adai for-loop": lambda: of_class(Adai, load, foreach=False),
        "Adai for-loop, settled": lambda: settled(Adai, load, foreach=False),
        "Algorithm 2 as a for-loop": lambda: Contender(for_loop(parameters(load))),
        "AdamW foreach": lambda: of_class(adamw, load, foreach=True),
        "AdamW for-loop": lambda: of_class(adamw, load, foreach=False),
        "SGD momentum fused": lambda: of_class(sgd, load, 20, momentum=0.9, fused=True),
        "SGD momentum foreach": lambda: of_class(sgd, load, momentum=0.9, foreach=True),
        "SGD momentum for-loop": lambda: of_class(sgd, load, momentum=0.9, foreach=False),
    }
    try:
        other = importlib.import_module("pytorch_optimizer").Adai
    except ImportError:
        return all_of_them
    return all_of_them | {"pytorch-optimizer's Adai": lambda: of_class(other, load)}
