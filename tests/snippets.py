"""Reads the snippets of README and docs, and trains small nets on real MNIST with them."""

import ast
import contextlib
import functools
import os
import re

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from adai import Adai, AdaiW
from adai.lab.tasks.data import load
from tests import documents

ROOT = documents.ROOT
SOURCES = sorted((ROOT / "adai").rglob("*.py"))

BATCH, STEPS, TEST = 128, 120, 1_000
BOUND = 20.0
"""Test error in percent that every run ends below; guessing is 89."""

needs_mnist = pytest.mark.skipif(
    "ADAI_DATA_DIR" not in os.environ, reason="trains on MNIST; set ADAI_DATA_DIR to a folder that holds it"
)


def blocks(path, language="python"):
    """The blocks of a document in this language, or the examples in the docstrings of a source file."""
    if path.suffix == ".md":
        return [block.code for block in documents.blocks(path, language)]
    text = path.read_text()
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docs = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text)) if isinstance(node, documented)]
    return ["\n".join(re.findall(r"^ *(?:>>>|\.\.\.) (.*)$", doc, re.M)) for doc in docs]


def block_with(path, text, language="python"):
    """The one block of a document that holds this text."""
    (block,) = [block for block in blocks(path, language) if text in block]
    return block


MAKERS = ("Adai", "AdaiW", "Adai.from_sgd", "ZeroRedundancyOptimizer")


OF_SEVERAL = ("process_group", "optimizer_class", "coupling")
"""Keywords that only mean something where there are several processes or optimizers."""


class _Construction(ast.NodeTransformer):
    """Of ``Adai(model.parameters(), lr=1.0, process_group=group)`` it leaves ``Adai(params, lr=1.0)``."""

    def visit_Call(self, node):
        self.generic_visit(node)
        if _called(node) in ("Adai", "AdaiW", "torch.optim.SGD", "ZeroRedundancyOptimizer"):
            node.args[:1] = [ast.Name("params", ast.Load())]
            node.keywords = [word for word in node.keywords if word.arg not in OF_SEVERAL]
        return node


def _called(node):
    return ast.unparse(node.func)


def constructions(path):
    """The expressions in a document that make an Adai of ``params``, with the names that they use."""
    names = {"torch": torch, "Adai": Adai, "AdaiW": AdaiW, "ZeroRedundancyOptimizer": Adai}
    found = []
    for block in blocks(path):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(name)], value=ast.Dict()):
                    with contextlib.suppress(ValueError):  # not of literals, so no options
                        names[name] = ast.literal_eval(node.value)
                case ast.Call() if _called(node) in MAKERS:
                    found.append(ast.unparse(_Construction().visit(node)))
    return found, names


def documented():
    """Every documented optimizer once: where it stands first, and a function of parameters that makes it.

    Two that have the same options, to rounding, are the same.
    """
    makers = {}
    for path in [*documents.PAGES, *SOURCES]:
        found, names = constructions(path)
        for expression in found:
            make = functools.partial(_made, expression, names)
            optimizer = make([torch.zeros(1, requires_grad=True)])
            options = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
            options["lr"] = float(f"{options['lr']:.9g}")
            where = f"{path.relative_to(ROOT)}: {expression}"
            makers.setdefault(repr((type(optimizer), sorted(options.items()))), (where, make))
    return dict(makers.values())


def _made(expression, names, params):
    return eval(expression, {**names, "params": list(params)})


@functools.cache
def mnist():
    """Normalised images and labels, to train and to test on."""
    data = load("mnist", device=torch.device("cpu"))
    train, test = data.train.few(BATCH * STEPS), data.test.few(TEST)
    return (data.normalised(train.pixels), train.labels), (data.normalised(test.pixels), test.labels)


def net(*, batch_norm):
    """Two convolutions and a linear layer."""

    def convolution(before, after):
        norm = [nn.BatchNorm2d(after)] if batch_norm else []
        return [nn.Conv2d(before, after, 5, padding=2), *norm, nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*convolution(1, 16), *convolution(16, 32), nn.Flatten(), nn.Linear(32 * 7 * 7, 10))


def error(model):
    """Test error in percent."""
    x, y = mnist()[1]
    model.eval()
    with torch.no_grad():
        return 100 * (model(x).argmax(1) != y).double().mean().item()


def error_after_training(make, *, batch_norm, seed):
    """Test error in percent after `STEPS` steps of a plain loop with the optimizer that ``make`` makes."""
    torch.manual_seed(seed)
    model, (x, y) = net(batch_norm=batch_norm), mnist()[0]
    optimizer = make(model.parameters())
    for where in torch.randperm(len(y)).split(BATCH):
        optimizer.zero_grad()
        cross_entropy(model(x[where]), y[where]).backward()
        optimizer.step()
    return error(model)
