"""Tries an installed adai, in an environment that has torch and nothing else.

Usage: python -I .ci/try_installed.py README.md --kernel|--no-kernel
"""

import platform
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch

import adai
from adai.optim.engines.cpu import library


def main(readme: Path, *, kernel: bool) -> None:
    """Fail if another adai is imported, the kernel is not as expected, or README's first example does not run."""
    assert Path(adai.__file__).is_relative_to(sysconfig.get_path("purelib")), f"imported from {adai.__file__}"
    found = library.load() is not None
    assert found == kernel, f"the compiled kernel is {'there' if found else 'missing'}"
    train(first_example(readme))
    subprocess.run([sys.executable, "-m", "adai", "doctor"], check=True)
    engine = f"the compiled kernel ({library.best_variant()})" if kernel else "no compiled kernel"
    print(f"adai {adai.__version__} works: Python {platform.python_version()}, torch {torch.__version__}, {engine}")


def first_example(readme: Path) -> str:
    """The first Python block that imports the optimizer."""
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.S)
    return next(block for block in blocks if "from adai import" in block)


def train(example: str) -> None:
    """Run the example, with a small model where it has none of its own, and step its optimizer."""
    torch.manual_seed(0)
    names = {"model": torch.nn.Linear(4, 3)}
    exec(example, names)
    params = [p for group in names["optimizer"].param_groups for p in group["params"]]
    before = [p.detach().clone() for p in params]
    for p in params:
        p.grad = torch.ones_like(p)
    names["optimizer"].step()
    assert not any(torch.equal(p, old) for p, old in zip(params, before, strict=True)), "a step changed nothing"


if __name__ == "__main__":
    main(Path(sys.argv[1]), kernel={"--kernel": True, "--no-kernel": False}[sys.argv[2]])
