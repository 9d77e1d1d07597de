"""Time and collectives of one optimizer step on 1, 2 and 4 processes: Adai compared with torch's AdamW.

Every process is a rank of a gloo group with one thread. Shapes are ResNet-18's, as DTensors sharded along dimension 0,
like those of ``fully_shard``, or as plain shards with ``process_group=``. Within each repetition all contenders run in
turn; a ratio is the median over repetitions of the ratio to foreach AdamW on the same tensors, on the slowest rank.
With more ranks than cores, the times depend on how the machine is shared; the ratios and collectives show the cost of a
step::

    python benchmarks/sharded_step.py --json benchmarks/results/sharded_step.json
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.distributed as dist
from contenders import resnet18
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.multiprocessing.spawn import spawn

from adai import Adai
from adai.lab.host.machine import processor

BASELINE = "AdamW foreach"


def dtensors() -> list[Tensor]:
    """Parameters with gradients, sharded along dimension 0 over all ranks."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    params = []
    for shape in resnet18():
        p = distribute_tensor(torch.randn(shape), mesh, [Shard(0)], src_data_rank=None).requires_grad_()
        p.grad = distribute_tensor(torch.randn(shape) * 0.01, mesh, [Shard(0)], src_data_rank=None)
        params.append(p)
    return params


def plain_shards() -> list[Tensor]:
    """The same values as plain tensors of this rank."""
    params = []
    for p in dtensors():
        part: Any = p.detach()
        shard = part.to_local().clone().requires_grad_()
        gradient: Any = p.grad
        shard.grad = gradient.to_local().clone()
        params.append(shard)
    return params


def contenders() -> dict[str, Callable[[], Any]]:
    """Steps by name: DTensors first, then plain shards."""
    group, adamw = dist.group.WORLD, torch.optim.AdamW
    return {
        f"{BASELINE}, DTensor": adamw(dtensors(), lr=1e-4, foreach=True).step,
        "AdamW fused, DTensor": adamw(dtensors(), lr=1e-4, fused=True).step,
        "Adai, DTensor": Adai(dtensors(), lr=1e-4).step,
        "Adai foreach, DTensor": Adai(dtensors(), lr=1e-4, foreach=True).step,
        "Adai clipping, DTensor": Adai(dtensors(), lr=1e-4, max_grad_norm=1.0).step,
        f"{BASELINE}, plain": adamw(plain_shards(), lr=1e-4, foreach=True).step,
        "AdamW fused, plain": adamw(plain_shards(), lr=1e-4, fused=True).step,
        "Adai, plain": Adai(plain_shards(), lr=1e-4, process_group=group).step,
        "Adai foreach, plain": Adai(plain_shards(), lr=1e-4, foreach=True, process_group=group).step,
    }


def clock(step: Callable[[], Any]) -> float:
    """Seconds from all ranks' common start to this rank's end."""
    dist.barrier()
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def collectives(step: Callable[[], Any]) -> int:
    """The number of collectives in a step."""
    with CommDebugMode() as counter:
        step()
    count: int = counter.get_total_counts()
    return count


def measure(rank: int, size: int, folder: str, repetitions: int) -> None:
    """The work of one rank; rank 0 writes the rows."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(folder, f"store{size}").as_uri(), rank=rank, world_size=size)
    steps = contenders()
    for step in steps.values():
        step()
    counts = {name: collectives(step) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions):
        for name, step in steps.items():
            slowest = torch.tensor(clock(step))
            dist.all_reduce(slowest, op=dist.ReduceOp.MAX)
            times[name].append(slowest.item())
    if rank == 0:
        rows = []
        for name, taken in times.items():
            baseline = times[f"{BASELINE}, {name.rpartition(', ')[2]}"]
            ratio = median(a / b for a, b in zip(taken, baseline, strict=True))
            rows.append({"name": name, "ms": 1e3 * median(taken), "ratio": ratio, "collectives": counts[name]})
        Path(folder, f"rows{size}.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def main() -> None:
    """Measure every requested number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--repetitions", type=int, default=20)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    about = {
        "torch": torch.__version__,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "repetitions": options.repetitions,
    }
    print(", ".join(f"{key} {value}" for key, value in about.items()))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in options.ranks:
            spawn(measure, args=(size, folder, options.repetitions), nprocs=size)
            results[size] = json.loads(Path(folder, f"rows{size}.json").read_text())
            print(f"\n{size} ranks{'ms':>28}{'ratio':>8}{'collectives':>13}")
            for row in results[size]:
                print(f"{row['name']:27}{row['ms']:8.2f}{row['ratio']:8.2f}{row['collectives']:13}", flush=True)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({**about, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
