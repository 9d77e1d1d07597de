"""What the arithmetic of a step takes on a core, beside what its memory takes: is the kernel bound by memory?

For each form of the state the table has

- the instructions and divisions of the inner loop, per element, as the compiler has made them;
- the cycles that they take at best according to ``llvm-mca``, which knows the core and takes no access to miss a cache;
- the nanoseconds per element that a step really takes while everything is in the cache, on one thread: the slope
  between two sizes, so that the constant part of a step does not count;
- the bytes per element that a step moves if nothing is in the cache.

It needs ``objdump`` and ``llvm-mca`` (packages binutils and llvm), and AVX-512::

    python benchmarks/instructions.py --json benchmarks/results/instructions.json
"""

import argparse
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from adai import Adai
from adai.lab.host.machine import processor
from adai.optim.engines.cpu import library

SIZES = 8192, 40960
VECTOR = 16
"""float32 elements in a vector of AVX-512."""
FORMS: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "float32": ("step_float32_avx512", {}, (40, 32)),
    "bfloat16": ("step_float32_narrow_avx512", {"state_dtype": torch.bfloat16}, (28, 24)),
}
"""By the dtype of the state: the function, the optimizer's options, and the bytes per element before and after the drop
of the bias correction."""


def loops(file: Path, function: str) -> Iterator[list[str]]:
    """The instructions of the innermost loops of a function in which vectors are divided."""
    command = ["objdump", "-d", "--no-show-raw-insn", f"--disassemble={function}", str(file)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"^\s*([0-9a-f]+):\s+(.*?)\s*(?:#.*)?$", text, re.MULTILINE)
    place = {address: i for i, (address, _) in enumerate(found)}
    back = [(place.get(m[1]), i) for i, (_, each) in enumerate(found) if (m := re.match(r"j\w+\s+([0-9a-f]+)", each))]
    ends = [(start, end) for start, end in back if start is not None and start < end]
    for start, end in ends:
        if any((start, end) != (a, b) and start <= a and b <= end for a, b in ends):
            continue
        body = [each for _, each in found[start : end + 1]]
        if any(each.startswith("vdivps") and "zmm" in each for each in body):
            yield body


def cycles(body: list[str], core: str) -> float:
    """The cycles of one turn of a loop, over a hundred of them."""
    text = ".L0:\n" + "\n".join(re.sub(r"^(j\w+)\s.*", r"\1 .L0", each) for each in body) + "\n"
    command = ["llvm-mca", f"-mcpu={core}", "-iterations=100"]
    said = subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout
    return float(re.findall(r"Total Cycles:\s+(\d+)", said)[0]) / 100


def counted(function: str, core: str) -> dict[str, dict[str, float]]:
    """Instructions, divisions and cycles per element, without weight decay, before the drop and after it."""
    bodies = list(loops(Path(library.__file__).with_name("_kernel.so"), function))
    divisions = [sum(each.startswith("vdivps") for each in body) for body in bodies]
    found = {}
    for state, own, per_vector in (("before the drop", max(divisions), 2), ("after the drop", min(divisions), 1)):
        body = min((b for b, n in zip(bodies, divisions, strict=True) if n == own), key=len)  # L2 decay adds some
        elements = VECTOR * own / per_vector
        found[state] = {
            "instructions": len(body) / elements,
            "divisions": own / elements,
            "cycles": cycles(body, core) / elements,
        }
    return found


def in_the_cache(state: str, options: dict[str, Any], turns: int = 15) -> float:
    """Nanoseconds per element of the second pass and the first, on data in the cache."""
    steps = {}
    for size in SIZES:
        p = torch.randn(size).requires_grad_()
        p.grad = torch.randn(size) * 0.01
        optimizer = Adai([p], lr=1e-4, fused=True, **options)
        optimizer.step()
        if state == "after the drop":
            optimizer.state[p]["step"].fill_(20_000)
            optimizer.state[p]["bias_correction"].fill_(1)
            optimizer.step()
        steps[size] = optimizer.step
    slopes = []
    for _ in range(turns):
        least = {size: min(_clock(step) for _ in range(200)) for size, step in steps.items()}
        slopes.append((least[SIZES[1]] - least[SIZES[0]]) / (SIZES[1] - SIZES[0]))
    return 1e9 * median(slopes)


def _clock(step: Callable[[], Any]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--core", default="icelake-server", help="as llvm-mca names it; the nearest that it knows")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for form, (function, own, traffic) in FORMS.items():
        for (when, numbers), moved in zip(counted(function, options.core).items(), traffic, strict=True):
            nanoseconds = in_the_cache(when, own)
            rows.append({"state": form, "when": when, **numbers, "ns_in_the_cache": nanoseconds, "bytes": moved})
            print(", ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()))
    if options.json:
        about = {"cpu": processor(), "core": options.core, "instructions": library.best_variant(), "threads": 1}
        options.json.write_text(json.dumps({**about, "torch": torch.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
