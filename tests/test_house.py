"""Who reads what, and who says what: only `adai.lab.results` reads run folders, and only the command names flags."""

import ast
import re
from pathlib import Path

import pytest

import adai

REPORT = Path(adai.__file__).parent / "report"
READS = {"load", "loads", "read_json", "reader", "DictReader", "glob", "rglob", "iterdir", "read_text", "read_bytes"}
# The page's own template and style sheet, and the files that it has just written and offers as downloads.
ITS_OWN = {("page.py", "read_text"), ("page.py", "read_bytes")}


@pytest.mark.parametrize("file", sorted(REPORT.glob("*.py")), ids=lambda file: file.name)
def test_the_report_parses_nothing(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            assert called not in READS or (file.name, called) in ITS_OWN, f"{file.name}:{node.lineno} reads a file"
            if called == "open":
                assert isinstance(node.args[-1], ast.Constant), f"{file.name}:{node.lineno}"
                assert node.args[-1].value == "w", f"{file.name}:{node.lineno} opens a file to read it"
        if isinstance(node, ast.Constant):
            assert node.value not in ("metrics.jsonl", "start.json"), f"{file.name}:{node.lineno}"


@pytest.mark.parametrize("file", sorted((REPORT.parent / "lab").rglob("*.py")), ids=lambda file: file.name)
def test_the_lab_calls_the_report_only_when_asked(file):
    """At the head of no module of the lab is the report imported: training needs nothing that draws."""
    for node in ast.parse(file.read_text()).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.startswith("adai.report") for name in names), file


# What begins with two hyphens and is no flag of ours: one of Ray's own command, and variables of a style sheet.
NO_FLAGS = {("on_ray.py", "--head"), ("style.py", "--c"), ("style.py", "--grid")}


@pytest.mark.parametrize("folder", ["lab", "report"])
def test_the_library_names_arguments_and_the_command_translates_them(folder):
    for file in sorted((REPORT.parent / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                flags = {(file.name, flag) for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", node.value)}
                assert flags <= NO_FLAGS, f"{file.name}:{node.lineno}"
