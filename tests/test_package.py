"""The package as it is imported and installed."""

import subprocess
import sys
from importlib.resources import files

import pytest

import adai


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
