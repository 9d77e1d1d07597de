"""The snippets in README, docs and docstrings train a net, exactly as printed."""

import pytest
import torch

from adai import Adai
from tests import documents, snippets

DOCUMENTED = snippets.documented()


def test_the_first_snippet_is_from_sgd_of_what_it_replaces():
    found, names = snippets.constructions(snippets.ROOT / "README.md")
    before = snippets.blocks(snippets.ROOT / "README.md")[0].strip().removeprefix("optimizer = ")
    p = torch.zeros(1, requires_grad=True)
    sgd = eval(before.replace("model.parameters()", "[p]"), {"torch": torch, "p": p})
    (group,) = eval(found[0], {**names, "params": [p]}).param_groups
    (expected,) = Adai.from_sgd(sgd).param_groups
    assert group | {"lr": 0} == expected | {"lr": 0}
    assert group["lr"] == pytest.approx(expected["lr"], rel=1e-12)


def test_every_place_is_read():
    """A block that is no longer found would silently no longer be tested."""
    paths = [*documents.PAGES, *snippets.SOURCES]
    found = {str(path.relative_to(snippets.ROOT)): len(snippets.constructions(path)[0]) for path in paths}
    assert {path: count for path, count in found.items() if count} == {
        "README.md": 1,
        "docs/extending.md": 1,
        "docs/integrations.md": 2,
        "docs/lr.md": 1,
        "docs/optimizer.md": 1,
        "docs/performance.md": 1,
        "docs/sharding.md": 10,
        "docs/stability.md": 1,
        "docs/tutorial-train.md": 3,
        "adai/lab/measure/range_test/find.py": 1,
        "adai/optim/adai.py": 3,
        "adai/optim/in_backward.py": 1,
        "adai/optim/shared/coupling.py": 1,
    }


@pytest.mark.slow
@snippets.needs_mnist
@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch norm"])
@pytest.mark.parametrize("make", DOCUMENTED.values(), ids=list(DOCUMENTED))
def test_it_trains(make, batch_norm):
    for seed in (0, 1):
        assert snippets.error_after_training(make, batch_norm=batch_norm, seed=seed) < snippets.BOUND
