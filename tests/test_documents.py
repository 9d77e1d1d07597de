"""What README and docs show: Python runs, commands parse, and what they name is there."""

import argparse
import os
import re
import shlex
import subprocess
import sys

import pytest

from adai import cli
from tests import documents
from tests.documents import PAGES, ROOT

MODEL = """
import torch
from adai import Adai
model = torch.nn.Linear(4, 3)
model(torch.ones(2, 4)).square().mean().backward()
"""
GIVEN = {
    "README.md": MODEL,
    "docs/optimizer.md": f"{MODEL}p = model.weight\n",
    "docs/performance.md": f"{MODEL}inputs, targets, loss = torch.ones(2, 4), torch.ones(2, 3), torch.nn.MSELoss()\n",
    "docs/sharding.md": f"{MODEL}optimizer = Adai(model.parameters())\nfolder = 'checkpoint'\n",
}
"""What a page takes as given."""

PRINTED = {
    "README.md": r"Adai",
    "docs/stability.md": r"step 100: margin 0\.\d+, stable up to \d+",
    "docs/tutorial-train.md": r"SGD: [\d.]+ % wrong\n(Adai: [\d.]+ % wrong\n){2}suggested: [\d.]+, blows up at",
    "docs/tutorial-compare.md": r"adai",
    "docs/tutorial-optimizer.md": r"^True\n",
}
"""What the script of a page prints."""


def script(page):
    """The Python blocks of a page, one after the other, but those that a comment leaves to others."""
    return "\n".join(block.code for block in documents.blocks(page, "python") if not block.mark)


def each(pages):
    return pytest.mark.parametrize("page", pages, ids=documents.name)


@pytest.mark.slow
@each([page for page in PAGES if script(page)])
def test_the_page_is_a_script_that_runs(page, tmp_path):
    name = documents.name(page)
    for block in documents.blocks(page, "python"):
        if block.mark.startswith("saved as "):
            (tmp_path / block.mark.removeprefix("saved as ")).write_text(block.code, encoding="utf-8")
    (tmp_path / "page.py").write_text(GIVEN.get(name, "") + script(page), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "BROWSER": "true"}
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTED.get(name, ""), done.stdout), done.stdout


RATE = r"\d+ of 50 \([^)]*%\)"
GAP = r"[+−]\d\.\d\d \([^)]*\)"


@pytest.mark.parametrize(("page", "fewest"), [("README.md", 3), ("docs/optimizer.md", 16)])
def test_numbers_of_blow_ups_and_floors_are_those_of_the_results(page, fewest):
    pages = ("stability/README.md", "cifar10-rate3/summary.md")
    measured = "".join((ROOT / "results" / kept).read_text(encoding="utf-8") for kept in pages)
    said = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    numbers = re.findall(f"{RATE}|{GAP}", said)
    assert len(numbers) >= fewest
    assert [number for number in numbers if number not in measured] == []


@each(PAGES)
def test_every_block_says_what_it_is(page):
    text = page.read_text(encoding="utf-8")
    found = documents.blocks(page)
    assert text.count("```") == 2 * len(found)
    for block in found:
        assert block.language in documents.LANGUAGES, block
        assert block.language != "yaml" or block.mark, f"{block} is a configuration that no test reads"
        match block.mark.split(maxsplit=2):
            case []:
                pass
            case ["run", "by", test]:
                source = (ROOT / test).read_text(encoding="utf-8")
                assert page.stem in source, f"{test} does not name {page.name}"
            case ["not", "run:", _] | ["saved", "as", _]:
                pass
            case _:
                pytest.fail(f"{block.mark!r} above a block of {page.name}")
    outside = documents.without_blocks(page)
    assert re.findall(r"^(?: {4}|\t)\S.*", outside, re.M) == [] or page.stem.startswith("reference")  # their options


def typed(page):
    """The commands of a page's ``sh`` blocks, as lists of words."""
    blocks = [block for block in documents.blocks(page, "sh") if not block.mark]
    lines = [shlex.split(line, comments=True) for block in blocks for line in block.code.splitlines()]
    return [line for line in lines if line]


def parsed(words):
    """What `adai` says about its arguments: "" where it takes them."""
    try:
        cli.parser().parse_args(words, argparse.Namespace(arguments=words))
    except SystemExit as stopped:
        return "" if stopped.code in (0, None) else "refused"
    return ""


@each(PAGES)
def test_commands_are_taken(page, capsys):
    for words in typed(page):
        if "adai" in words:
            assert not parsed(words[words.index("adai") + 1 :]), (words, capsys.readouterr().err)


@each(PAGES)
def test_commands_in_sentences_are_taken(page, capsys):
    """One that is only named, without what it needs, counts as well, if its options exist."""
    for command in documents.inline(page):
        words = ["1" if word == "N" else word for word in shlex.split(command)[1:] if word != "…"]
        if parsed(words):
            assert re.search(r"expected|required", capsys.readouterr().err), command
        assert options(words) <= known(words[0]), command


@each(PAGES)
def test_options_in_usage_exist(page):
    for block in documents.blocks(page, "text"):
        for usage in re.split(r"^(?=adai )", block.code, flags=re.M):
            if usage.startswith("adai "):
                assert options(re.findall(r"--[\w-]+", usage)) <= known(usage.split()[1]), usage


def options(words):
    return {word for word in words if word.startswith("--")}


def known(command):
    """The options of a command, and of those within it."""
    return _options_of(_within(cli.parser())[command])


def _within(parser):
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: part for action in actions for name, part in action.choices.items()}


def _options_of(parser):
    return set(parser._option_string_actions).union(*map(_options_of, _within(parser).values()))


@each(PAGES)
def test_what_commands_name_is_there(page):
    """Files of the repository, options of its scripts, and targets of the Makefile."""
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    sentences = [shlex.split(command) for command in documents.inline(page, r"(?:make|python) [^`]+")]
    for words in [*typed(page), *sentences]:
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, words
        for before, word in zip(["", *words], words, strict=False):
            if word.startswith(("benchmarks/", "docs/", "results/", "tests/")) and not before.startswith("--"):
                assert (ROOT / word).exists(), words
        if words[0] == "python" and words[1].endswith(".py"):
            source = (ROOT / words[1]).read_text(encoding="utf-8")
            assert all(f'"{option}"' in source for option in options(words)), words
