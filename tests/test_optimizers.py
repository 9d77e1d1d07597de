"""Every optimizer of the lab, as its recipe builds it, held to its own paper's update in float64."""

import pkgutil
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_optimizer
import torch

from adai.cli import main
from adai.errors import UserError
from adai.lab.optimizers.padam import Padam
from adai.lab.optimizers.recipes import DEFAULT_OPTIMIZERS, NOT_THE_PAPERS, RECIPES, recipe
from adai.lab.optimizers.yogi import Yogi
from adai.lab.schedules import PAPER_SCHEDULES
from tests import algorithms
from tests.algorithms import constant
from tests.transcription import Transcription

# Six elements that between them take every branch: AdaBound clips at both ends (200 and 1e-5), the second moment rises
# and falls (so that a maximum differs from an average and Yogi's sign changes), one gradient is 0 at first.
START = np.array([0.5, -1.0, 2.0, 0.1, 0.0, 0.0])
GRADIENTS = np.array([
    [1.0, -2.0, 0.5, 200.0, 1e-5, 0.0],
    [0.5, 1e-2, -0.3, 100.0, 2e-5, 0.0],
    [-2.0, 0.1, 3.0, -50.0, -1e-5, 0.3],
    [1.0, 1.0, 1e-3, 10.0, 1e-5, -0.1],
    [0.7, -0.4, 0.2, 20.0, 3e-5, 0.2],
    [-0.2, 0.3, 0.1, 30.0, 1e-5, 0.1],
    [0.1, 0.6, -0.7, 40.0, -2e-5, 0.4],
])  # fmt: skip
L2 = 5e-4


def debias(t, beta):
    return 1 - beta**t


def adam_alpha(t):
    """Adam's bias corrections as a sequence of step sizes: how torch.optim and AdaBound's authors write them."""
    return 1e-3 * np.sqrt(debias(t, 0.999)) / debias(t, 0.9)


def adai(lr, weight_decay, **given):
    """Xie et al., arXiv 2006.15815, Algorithm 2; decoupled decay is by the factor 1 - lr * weight_decay."""
    options = {"lr": lr, "betas": (0.1, 0.99), "eps": 1e-3, "weight_decay": weight_decay, **given}
    transcription = Transcription([{**options, "params": [START]}])

    def step(t, theta, g):
        transcription.step([[g]])
        return transcription.groups[0]["params"][0]

    return step


def with_l2(step, l2=L2):
    """The step on the loss with the penalty l2/2 |θ|²."""
    return lambda t, theta, g: step(t, theta, g + l2 * theta)


# How each paper's algorithm gives what the recipe has to give. Where the library departs from the paper on purpose, the
# argument that says so stands in its line, with the reason.
PAPERS = {
    "adai": lambda: adai(1.0, L2, min_inertia=0.9),
    "adaiw": lambda: adai(0.1, 5e-3, decoupled=True, min_inertia=0.9),
    "sgd": lambda: with_l2(algorithms.momentum(constant(0.1), 0.9)),
    "adam": lambda: with_l2(algorithms.adam(constant(1e-3), 0.9, 0.999, 1e-8)),
    # torch documents the decay as lr * weight_decay; the paper's λ is decoupled from α too, so λ = 1e-3 * 0.5.
    "adamw": lambda: algorithms.adamw(1e-3, 0.9, 0.999, 1e-8, 1e-3 * 0.5, constant(1.0)),
    # torch documents Adam's bias corrections here as well: a choice of the α_t that the paper leaves free. The maximum
    # is of v before the correction, as the paper has it; eps is added after it.
    "amsgrad": lambda: with_l2(
        algorithms.amsgrad(adam_alpha, 0.9, 0.999, eps=lambda t: 1e-8 * np.sqrt(debias(t, 0.999)))
    ),
    # As the paper's authors run it: Adam's bias corrections in α, and no decay by 1/√t, which the paper has for its
    # regret bound. The two guards against 0 are the library's.
    "adabound": lambda: with_l2(
        algorithms.adabound(
            adam_alpha,
            0.9,
            0.999,
            lower=lambda t: 0.1 - 0.1 / (1e-3 * t + 1),
            upper=lambda t: 0.1 + 0.1 / (1e-3 * t),
            decay=constant(1.0),
            eps=1e-8,
            eps_root=1e-15,
        )
    ),
    "padam": lambda: with_l2(algorithms.padam(constant(0.01), 0.9, 0.999, 1 / 8, eps=1e-8)),
    "yogi": lambda: with_l2(algorithms.yogi(constant(1e-3), 0.9, 0.999, 1e-3, 1e-6)),
    # torch documents 5 for the paper's 4, as the paper's authors have it in their code: one step later.
    "radam": lambda: with_l2(algorithms.radam(constant(1e-3), 0.9, 0.999, tractable=5, eps=1e-8)),
    "sgd-plain": lambda: with_l2(algorithms.sgd(constant(1.0))),
    # The lecture's decay is 0.9; torch's default is 0.99.
    "rmsprop": lambda: with_l2(algorithms.rmsprop(constant(1e-3), 0.99, eps=1e-8)),
    "ema": lambda: with_l2(algorithms.ema(constant(1.0), 0.9)),
    "adai-paper": lambda: adai(1.0, L2),
}


def by_paper(step, gradients=GRADIENTS):
    theta, path = START, []
    for t, g in enumerate(gradients, start=1):
        theta = step(t, theta, g)
        path.append(theta)
    return np.array(path)


def by_library(make, gradients=GRADIENTS):
    p = torch.tensor(START, requires_grad=True)
    optimizer = make([p])
    path = []
    for g in gradients:
        p.grad = torch.tensor(g)
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return np.array(path)


@pytest.mark.parametrize("name", RECIPES)
def test_three_steps_and_four_more_equal_the_paper(name):
    """Seven, since RAdam's rectification begins at the sixth."""
    np.testing.assert_allclose(by_library(recipe(name).build), by_paper(PAPERS[name]()), rtol=1e-12, atol=1e-14)


def test_three_steps_by_hand():
    """The transcriptions themselves, on one parameter that starts at 1 with gradients 1, 2 and -1."""

    def walk(step):
        theta, path = 1.0, []
        for t, g in enumerate((1.0, 2.0, -1.0), start=1):
            theta = step(t, theta, g)
            path.append(theta)
        return path

    half = constant(0.5)
    assert walk(algorithms.sgd(half)) == [0.5, -0.5, 0.0]
    assert walk(algorithms.momentum(half, 0.5)) == [0.5, -0.75, -0.875]  # v = -0.5, -1.25, -0.125
    # v = 1/2, 9/4, 13/8; m = 1/2, 5/4, 1/8; corrections 1/2, 3/4, 7/8
    v, m = np.array([1 / 2, 9 / 4, 13 / 8]), np.array([1 / 2, 5 / 4, 1 / 8])
    assert walk(algorithms.rmsprop(half, 0.5)) == pytest.approx(1 - 0.5 * np.cumsum([1, 2, -1] / np.sqrt(v)))
    corrections = np.array([1 / 2, 3 / 4, 7 / 8])
    moves = (m / corrections) / np.sqrt(v / corrections)
    assert walk(algorithms.adam(half, 0.5, 0.5, 0.0)) == pytest.approx(1 - 0.5 * np.cumsum(moves))
    assert walk(algorithms.adamw(0.5, 0.5, 0.5, 0.0, 0.0, constant(1.0))) == pytest.approx(1 - 0.5 * np.cumsum(moves))
    v_max = np.array([1 / 2, 9 / 4, 9 / 4])
    assert walk(algorithms.amsgrad(half, 0.5, 0.5)) == pytest.approx(1 - 0.5 * np.cumsum(m / np.sqrt(v_max)))
    assert walk(algorithms.padam(half, 0.5, 0.5, 1 / 8)) == pytest.approx(1 - 0.5 * np.cumsum(m / v_max**0.125))
    # From v = 3/2: 1 < 3/2 lowers it by 1/2, 4 > 1 raises it by 2, 1 < 3 lowers it by 1/2.
    yogi = algorithms.yogi(half, 0.5, 0.5, 0.25, 1.5)
    assert walk(yogi) == pytest.approx(1 - 0.5 * np.cumsum(m / (np.sqrt([1, 3, 2.5]) + 0.25)))
    # α/√v = 0.71, 0.33, 0.39, clipped to [0.35, 0.5], over √t
    adabound = algorithms.adabound(half, 0.5, 0.5, constant(0.35), constant(0.5), decay=lambda t: t**-0.5)
    rates = np.array([0.5, 0.35, 0.5 / np.sqrt(13 / 8)]) / np.sqrt([1, 2, 3])
    assert walk(adabound) == pytest.approx(1 - np.cumsum(rates * m))
    # With beta2 = 0.5, ρ_∞ = 3: never tractable, so the steps are lr times the corrected average.
    assert walk(algorithms.radam(half, 0.5, 0.5)) == pytest.approx(1 - 0.5 * np.cumsum(m / corrections))


def test_adamw_decays_by_the_paper():
    """Its decay alone: no gradient, θ shrinks by η λ a step, whatever α."""
    step = algorithms.adamw(123.0, 0.9, 0.999, 1e-8, 0.25, constant(0.5))
    assert step(1, 1.0, 0.0) == 1 - 0.125


def test_radam_rectifies_one_step_before_torch():
    """ρ_5 = 4.99 is above the paper's 4 and not above the 5 of its authors' code and torch: that one step differs."""
    moved = {}
    for tractable in (4, 5):
        step = algorithms.radam(constant(1e-3), 0.9, 0.999, tractable)
        moved[tractable] = np.diff(by_paper(step, GRADIENTS[:, :6] + 0.1), axis=0, prepend=[START])
    same = [bool(np.allclose(a, b, rtol=1e-9)) for a, b in zip(moved[4], moved[5], strict=True)]
    assert same == [True, True, True, True, False, True, True]


def one_parameter(make, gradients):
    """The path of a single parameter from 0, 0 first."""
    p = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = make([p])
    path = [0.0]
    for g in gradients:
        p.grad = torch.full_like(p, g)
        optimizer.step()
        path.append(p.item())
    return np.array(path)


def test_pytorch_optimizers_padam_lacks_the_maximum():
    """Why `Padam` is carried here. Should this fail, the library has been mended and ours can go.

    One gradient of 200, then 3,000 of 1: the paper goes on dividing by the v of the first, the library forgets it.
    """
    gradients = [200.0] + 3000 * [1.0]
    library = one_parameter(lambda ps: pytorch_optimizer.PAdam(ps, lr=0.01, partial=1 / 8), gradients)
    ours = one_parameter(lambda ps: Padam(ps, lr=0.01), gradients)
    first = (library[1] - library[0]) / (ours[1] - ours[0])
    assert first == pytest.approx(10 * adam_alpha(1) / 0.01)  # bias corrections alone, a choice of α_1
    last = (library[-1] - library[-2]) / (ours[-1] - ours[-2])
    print(f"Padam: the library's last step is {last:.3f} times the paper's")
    v = 0.999**3000 * 0.001 * 200**2 + 1 - 0.999**3000
    corrections = 10 * adam_alpha(3001) / 0.01
    assert last == pytest.approx((0.001 * 200**2 / v) ** (1 / 8) * corrections, rel=1e-6)
    assert last == pytest.approx(1.351, abs=5e-4)


def test_pytorch_optimizers_yogi_moves_without_a_gradient_and_rescales_v():
    """Why `Yogi` is carried here. Should this fail, the library has been mended and ours can go."""
    still = 1000 * [0.0]
    library = one_parameter(lambda ps: pytorch_optimizer.Yogi(ps, lr=1e-3), still)
    print(f"Yogi: without a gradient the library goes {abs(library[-1]):.2e} in 1000 steps")
    assert abs(library[-1]) > 1e-6
    assert np.all(one_parameter(lambda ps: Yogi(ps, lr=1e-3), still) == 0)

    # Were it a matter of the learning rate alone, these would be equal.
    for g, expected in ((1e-2, 0.600), (1.0, 0.326)):
        library = one_parameter(lambda ps: pytorch_optimizer.Yogi(ps, lr=1e-3), [g])[1]
        ratio = library / one_parameter(lambda ps: Yogi(ps, lr=1e-3), [g])[1]
        print(f"Yogi: at a gradient of {g:g} the library's first step is {ratio:.3f} times the paper's")
        assert ratio == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("make", [Padam, Yogi])
def test_carried_optimizers_keep_torchs_manners(make):
    """Groups with options of their own, closures, checkpoints, parameters without a gradient."""

    def fresh():
        torch.manual_seed(0)
        ps = [torch.randn(3, 2, requires_grad=True), torch.randn(2, requires_grad=True)]
        return ps, make([{"params": ps[:1]}, {"params": ps[1:], "lr": 0.5, "weight_decay": 0.1}], lr=0.1)

    def run(ps, optimizer, steps):
        for _ in range(steps):
            optimizer.zero_grad()
            optimizer.step(lambda: sum((p**4).sum() for p in ps).backward())
        return ps

    straight = run(*fresh(), 6)
    ps, optimizer = fresh()
    run(ps, optimizer, 3)
    other, again = fresh()
    with torch.no_grad():
        for p, q in zip(other, ps, strict=True):
            p.copy_(q)
    again.load_state_dict(optimizer.state_dict())
    run(other, again, 3)
    assert all(map(torch.equal, straight, other))

    gradient = ps[1].grad.clone()
    optimizer.step()
    assert torch.equal(ps[1].grad, gradient)  # L2 is not written into it
    ps[0].grad = None
    before = ps[0].detach().clone()
    optimizer.step()
    assert torch.equal(ps[0], before)


def test_recipes_are_the_papers():
    """Appendix D.1."""
    rates = {1.0: ["adai", "adai-paper"], 0.1: ["sgd", "adaiw"], 0.01: ["padam"],
             0.001: ["adam", "amsgrad", "adamw", "adabound", "yogi", "radam"]}  # fmt: skip
    for lr, names in rates.items():
        assert [RECIPES[name].options["lr"] for name in names] == [lr] * len(names)
    decoupled = {"adaiw": 0.005, "adamw": 0.5}
    for name, r in RECIPES.items():
        assert r.options["weight_decay"] == decoupled.get(name, 0.0005)
    assert RECIPES["sgd"].options["momentum"] == 0.9
    assert len(RECIPES) == 14
    assert set(NOT_THE_PAPERS) == RECIPES.keys() - {name for names in rates.values() for name in names}
    assert DEFAULT_OPTIMIZERS == ("adai", "adaiw", "sgd", "adam", "adamw")
    assert set(DEFAULT_OPTIMIZERS) < RECIPES.keys()
    with pytest.raises(UserError, match="unknown optimizer 'lion'; choose from adai, .*, adai-paper"):
        recipe("lion")


def test_schedules_are_the_papers():
    ten, hundred = PAPER_SCHEDULES["cifar10"], PAPER_SCHEDULES["cifar100"]
    assert (ten.epochs, ten.batch, hundred.epochs, hundred.batch) == (200, 128, 200, 128)
    assert [ten.factor(epoch) for epoch in (0, 79, 80, 159, 160, 199)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [hundred.factor(epoch) for epoch in (0, 99, 100, 149, 150, 199)] == [1, 1, 0.1, 0.1, 0.01, 0.01]


@pytest.mark.parametrize("name", RECIPES)
def test_baselines_come_from_libraries(name):
    module = type(recipe(name).build([torch.nn.Parameter(torch.zeros(2))])).__module__
    carried = {"adai": "adai.optim", "adaiw": "adai.optim", "ema": "adai.optim",
               "adai-paper": "adai.optim", "padam": "adai.lab.optimizers.padam", "yogi": "adai.lab.optimizers.yogi",
               "adabound": "pytorch_optimizer"}  # fmt: skip
    assert module.startswith(carried.get(name, "torch.optim"))


@pytest.mark.slow
def test_only_adabound_needs_pytorch_optimizer(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)

    def compare(*names):
        options = ["--seeds", "1", "--epochs", "1", "--out", str(tmp_path / "runs")]
        return main(["compare", *options, "--optimizers", *names])

    assert compare("sgd-plain", "adabound") == 2
    message = "adai compare: cannot run without pytorch_optimizer installed; pip install 'adai[lab]'\n"
    assert capsys.readouterr().err == message
    assert not (tmp_path / "runs").exists()  # said before any training
    assert compare("sgd-plain", "padam", "yogi") == 0
    assert "Padam" in capsys.readouterr().out


def test_help_names_every_optimizer(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")  # no name is broken over two lines
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    assert set(re.findall(r"[\w-]+", capsys.readouterr().out)) >= RECIPES.keys()


def test_the_page_shows_the_recipes():
    page = (Path(__file__).parents[1] / "docs" / "compare.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| `([\w.]+)` \| `([^|]+)` \|$", page, re.MULTILINE)
    shown = [(name, label, pkgutil.resolve_name(where), options) for name, label, where, options in rows]
    expected = []
    for name, r in RECIPES.items():
        options = ", ".join(f"{key}={value}" for key, value in r.options.items())
        expected.append((name, r.label, type(r.build([torch.nn.Parameter(torch.zeros(2))])), options))
    assert shown == expected
