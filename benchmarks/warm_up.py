"""Where a warm-up acts: on the step, as `Adai`'s ``warmup_steps`` does, or on the gradient as it enters the average.

An average with inertia 0.999 remembers a thousand steps. A warm-up that multiplies the step lets the gradients of the
first steps, which are large, move parameters later at the full rate. A small net on a made-up regression, 300 steps, at
the effective rate 1 with 100 steps of warm-up::

    python benchmarks/warm_up.py --seeds 20 --json benchmarks/results/warm_up.json

Prints how many runs diverged, and the median loss of the others.
"""

import argparse
import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim.lr_scheduler import LinearLR

from adai import Adai
from adai.files import write_whole
from adai.lab.host.machine import processor

LR, DECAY, WARM_UP, STEPS = 1.0, 5e-4, 100, 300

Step = Callable[[], object]


def sgd(model: nn.Module) -> Step:
    """SGD with momentum 0.9 at a tenth of the rate."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LR / 10, momentum=0.9, weight_decay=DECAY)
    schedule = LinearLR(optimizer, 1 / WARM_UP, 1, WARM_UP)

    def step() -> None:
        optimizer.step()
        schedule.step()

    return step


def ema(model: nn.Module) -> Step:
    """Adai with all inertia equal."""
    return Adai(model.parameters(), lr=LR, weight_decay=DECAY, eps=0.1, min_inertia=0.9, warmup_steps=WARM_UP).step


def from_sgd(model: nn.Module) -> Step:
    """`Adai.from_sgd`: the warm-up acts on the step."""
    return Adai.from_sgd(torch.optim.SGD(model.parameters(), lr=LR / 10, momentum=0.9, weight_decay=DECAY)).step


def entering(model: nn.Module) -> Step:
    """The same rule with the warm-up on the gradient as it enters the average."""
    params = list(model.parameters())
    zeros = [[torch.zeros_like(p) for p in params] for _ in range(3)]
    total, count = sum(p.numel() for p in params), iter(range(1, STEPS + 1))

    @torch.no_grad()
    def step() -> None:
        t = next(count)
        ms, vs, cs = zeros
        gs = [p.grad + DECAY * p for p in params]  # type: ignore[operator]
        for v, g in zip(vs, gs, strict=True):
            v.mul_(0.99).addcmul_(g, g, value=0.01)
        mean = sum(v.sum() for v in vs) / total
        for p, m, v, c, g in zip(params, ms, vs, cs, gs, strict=True):
            w = (0.1 * v / mean).clamp(1e-3, 0.1)
            m.mul_(1 - w).add_(w * g * min(1, t / (WARM_UP + 1)))
            c.mul_(1 - w).add_(w)
            p.sub_(LR * m / c)

    return step


FORMS = (sgd, ema, from_sgd, entering)


def final_loss(form: Callable[[nn.Module], Step], batch: int, seed: int) -> float:
    """The loss over all 256 examples after training."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))
    x = torch.randn(256, 10)
    y: Tensor = x.sum(1, keepdim=True)
    step = form(model)
    for _ in range(STEPS):
        some = torch.randperm(len(x))[:batch]
        model.zero_grad()
        mse_loss(model(x[some]), y[some]).backward()
        step()
    return mse_loss(model(x), y).item()


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="where the numbers are written")
    args = parser.parse_args()
    rows = []
    for batch in (256, 32):
        for form in FORMS:
            losses = [final_loss(form, batch, seed) for seed in range(args.seeds)]
            alive = [loss for loss in losses if math.isfinite(loss)]
            median = statistics.median(alive) if alive else None
            rows.append(
                {"batch": batch, "form": form.__name__, "diverged": args.seeds - len(alive), "median loss": median}
            )
            print(rows[-1])
    if args.json:
        about = {"machine": processor(), "torch": torch.__version__, "seeds": args.seeds, "rows": rows}
        write_whole(args.json, lambda part: part.write_text(json.dumps(about, indent=1) + "\n"))


if __name__ == "__main__":
    main()
