"""The package as it is imported and installed."""

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from zipfile import ZipFile

import pytest

import adai

ROOT = Path(__file__).parents[1]


def test_import_needs_torch_alone():
    """Imports of anything other than adai, torch and Python's standard library are refused."""
    code = """
import sys, torch
known = {name.partition(".")[0] for name in sys.modules} | {"adai"} | sys.stdlib_module_names

class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] not in known:
            raise AssertionError(f"import adai imports {name}")

sys.meta_path.insert(0, Refuse())
import adai
assert not {"numpy", "scipy", "matplotlib", "rich"} & (set(sys.modules) - known)
assert not any(name.startswith("adai.") and not name.startswith("adai.optim") for name in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_is_typed():
    assert files(adai).joinpath("py.typed").is_file()


@pytest.mark.parametrize("missing", ["jax", "optax"])
def test_without_jax_one_line_says_how_to_install_it(missing):
    """Also where the other of the two is there."""
    code = f"""
import sys
sys.modules["optax" if {missing!r} == "jax" else "jax"] = sys
sys.modules[{missing!r}] = None
import adai.jax
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.endswith(f"adai.jax needs {missing}, which is not installed; install it with: pip install 'adai[jax]'")
    assert "During handling" not in done.stderr


@pytest.mark.parametrize("there", ["None", "ModuleType('timm.optim')"], ids=["no timm", "an old timm"])
def test_without_timm_one_line_says_how_to_install_it(there):
    name = "timm" if there == "None" else "timm.optim"
    code = f"""
import sys
from types import ModuleType
sys.modules["timm"] = ModuleType("timm")
sys.modules[{name!r}] = {there}
import adai.integrations.timm
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    needs = "adai.integrations.timm needs timm 1.0.12 or later; install it with: pip install 'timm>=1.0.12'"
    assert done.stderr.splitlines()[-1].endswith(needs)
    assert "During handling" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("compiler", "platform", "has_kernel"),
    [
        pytest.param(None, "linux_", True, marks=pytest.mark.skipif(sys.platform != "linux", reason="names Linux")),
        ("/no/compiler", "any", False),
    ],
)
def test_one_wheel_serves_every_python(compiler, platform, has_kernel, tmp_path):
    """With a C compiler it has the kernel and the platform's name; without one it serves every platform."""
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "adai", tmp_path / "adai", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    build = "from setuptools.build_meta import build_wheel; build_wheel('.')"
    environment = {**os.environ, **({"CC": compiler} if compiler else {})}
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, env=environment, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.startswith(f"adai-{adai.__version__}-py3-none-{platform}")
    with ZipFile(wheel) as archive:
        assert ("adai/optim/engines/cpu/_kernel.so" in archive.namelist()) == has_kernel
