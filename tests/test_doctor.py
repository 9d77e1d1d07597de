"""`adai doctor`: what it says about an installation, and that it needs torch alone."""

import importlib.metadata
import subprocess
import sys

import pytest
import torch

import adai
from adai.cli import main
from adai.optim.engines.cpu import library
from tests.test_cpu import not_built

__all__ = ["not_built"]


def said(capsys):
    """What the command prints, by the name of each part."""
    assert main(["doctor"]) == 0
    parts, name = {}, ""
    for line in capsys.readouterr().out.splitlines():
        assert len(line) <= 100 or " " not in line[9:].strip()  # one screen
        name = line[:9].strip() or name
        parts[name] = f"{parts.get(name, '')} {line[9:]}".strip()
    return parts


def installed(monkeypatch, versions, requires):
    """As if these versions were installed, and adai had asked for those packages."""

    def version(package):
        if package not in versions:
            raise importlib.metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: requires)


def test_versions_the_engine_and_the_instructions_are_named(capsys):
    parts = said(capsys)
    assert list(parts) == ["adai", "Python", "torch", "kernel", "Triton", "GPU", "engine", "data", "extras"]
    assert parts["adai"].startswith(adai.__version__)
    assert parts["torch"] == f"{torch.__version__}, threads: {torch.get_num_threads()}"
    assert f"{library.best_variant()} instructions" in parts["kernel"]
    assert parts["engine"].startswith("cpu: fused (the compiled kernel)")


def test_without_the_kernel_the_reason_and_the_cure_are_named(not_built, capsys):
    parts = said(capsys)
    assert parts["kernel"].startswith("none: adai was installed without its CPU kernel")
    assert "install a C compiler, such as gcc, and run pip install . in adai's source folder" in parts["kernel"]
    assert parts["engine"].startswith("cpu: foreach; not fused, because the kernel is missing")


def test_a_kernel_from_other_sources_is_told_and_does_not_end_the_command(monkeypatch, capsys):
    def load():
        raise RuntimeError("_kernel.so was built from other sources than this version of adai; install adai again")

    monkeypatch.setattr(library, "load", load)
    parts = said(capsys)
    assert parts["kernel"].startswith("cannot be used: _kernel.so was built from other sources")
    assert "cpu: a step fails: RuntimeError: _kernel.so" in parts["engine"]


@pytest.mark.parametrize(("folder", "message"), [("here", "mnist"), ("away", "No such file"), ("", "is not set")])
def test_data_sets_are_found(folder, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "here" / "mnist").mkdir(parents=True)
    monkeypatch.setenv("ADAI_DATA_DIR", folder and str(tmp_path / folder))
    assert message in said(capsys)["data"]


def test_of_each_extra_what_is_there_and_what_is_missing_are_named(monkeypatch, capsys):
    requires = ["torch>=2.6", 'rich>=13; extra == "lab"', 'numpy; extra == "lab"', "ray>=2; extra == 'ray'"]
    installed(monkeypatch, {"numpy": "2.4.6", "ray": "2.60.0"}, [*requires, 'ruff; extra == "dev"'])
    parts = said(capsys)
    assert parts["extras"] == "lab: numpy 2.4.6; without rich (pip install 'adai[lab]') ray: ray 2.60.0"
    assert parts["Triton"] == "not installed"


def test_it_needs_torch_alone():
    """Imports of what the extras bring are refused, except for what torch imports itself where it is there."""
    code = """
import sys, torch._dynamo
EXTRAS = {"datasets", "jinja2", "matplotlib", "numba", "numpy", "optuna", "PIL", "ray", "rich", "scipy", "sklearn"}

class Refuse:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in EXTRAS:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Refuse())
from adai.cli import main
sys.exit(main(["doctor"]))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "cpu: fused" in result.stdout
