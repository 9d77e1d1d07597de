"""Everything that is to be learnt on a GPU, in four parts of under six minutes each.

Each part writes a JSON file, anew after every item. An item that fails is written down with its error, and the next
one is run. Nothing is taken from the network. docs/gpu.md says how to run it and what to expect::

    python benchmarks/gpu_hour.py A B C D --data shared/gpu --out benchmarks/results/gpu
    python benchmarks/gpu_hour.py --dry

``--dry`` runs all parts on a CPU with tiny sizes: it tests this script and measures nothing.
"""

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from gpu import correctness, items, lab, show, speed

PARTS: dict[str, Sequence[items.Item]] = {"A": correctness.ITEMS, "B": speed.ITEMS, "C": lab.LAB, "D": lab.CIFAR}


def about(scale: items.Scale) -> dict[str, Any]:
    """What it runs on."""
    found: dict[str, Any] = {"dry": scale.dry, "torch": torch.__version__, "python": platform.python_version()}
    try:
        found["triton"] = version("triton")
    except PackageNotFoundError:
        found["triton"] = None
    if scale.device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    return found


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="of A, B, C and D; all by default")
    parser.add_argument("--items", nargs="+", metavar="NAME", help="these items of the parts; all by default")
    parser.add_argument("--dry", action="store_true", help="on a CPU, with tiny sizes")
    parser.add_argument("--data", type=Path, help="the folder with the parts of CIFAR-10's cache file, for part D")
    parser.add_argument("--show", action="store_true", help="print the tables of the files in --out, and run nothing")
    parser.add_argument("--split", type=Path, metavar="FILE", help="cut the lab's cache file into --data, and end")
    parser.add_argument("--seconds", type=float, default=330, help="no item of a part begins later than this")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gpu"))
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no part {unknown[0]}; choose from {', '.join(PARTS)}")
    names = [item.__name__ for part in options.parts or PARTS for item in PARTS[part]]
    missing = [name for name in options.items or () if name not in names]
    if missing:
        parser.error(f"there is no item {missing[0]}; choose from {', '.join(names)}")
    if options.split:
        if options.data is None:
            parser.error("--split needs --data, the folder to write the parts to")
        print(*lab.split(options.split, options.data), sep="\n")
        return
    if options.show:
        print(show.tables(options.out))
        return
    if not options.dry and not torch.cuda.is_available():
        parser.error("torch finds no GPU here; --dry runs this on a CPU")
    scale = items.Scale("cpu" if options.dry else "cuda", options.dry, options.data, options.seconds)
    failed = []
    for part in options.parts or PARTS:
        chosen = [item for item in PARTS[part] if not options.items or item.__name__ in options.items]
        report = items.run(chosen, scale, options.out / f"{part}.json", {"part": part, **about(scale)})
        failed += [name for name, item in report["items"].items() if item["status"] == "failed"]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
