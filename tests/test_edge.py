"""The stability margin: against dense matrices, at the edge of stability, and what is refused."""

import copy
import doctest
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.optim import SGD, Adam, AdamW, RAdam, RMSprop

from adai import Adai, AdaiW
from adai.errors import UserError
from adai.lab import stability
from adai.lab.measure.stability import margin
from adai.lab.measure.stability.weights import moving
from adai.lab.optimizers.recipes import recipe
from adai.theory import stability as theory

F64 = torch.float64


def net(dtype=F64):
    """163 parameters, without kinks."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def data(n=32, dtype=F64):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, generator=rng, dtype=F64).to(dtype), torch.randint(3, (n,), generator=rng)


def trained(optimizer, model, steps, x, y):
    for step in range(steps):
        part = slice(8 * step % len(y), 8 * step % len(y) + 8)
        optimizer.zero_grad()
        cross_entropy(model(x[part]), y[part]).backward()
        optimizer.step()


def hessian(model, x, y, loss=cross_entropy):
    """Row by row, by plain autograd."""
    params = [p for p in model.parameters() if p.requires_grad]
    slope = torch.autograd.grad(loss(model(x), y), params, create_graph=True)
    flat = torch.cat([g.flatten() for g in slope])
    rows = [torch.autograd.grad(g, params, retain_graph=True, allow_unused=True) for g in flat]
    return torch.stack([torch.cat([t.flatten() for t in row]) for row in rows]), flat.detach()


def plain(optimizer, slope):
    """η, S, L2 and decoupled decay of each element, written out from each paper's rule and torch's documentation."""
    state = optimizer.state
    v_hats = [
        state[p]["exp_avg_sq"] / (1 - g["betas"][1] ** state[p]["step"].item())
        for g in optimizer.param_groups
        for p in g["params"]
        if isinstance(optimizer, Adai) and p in state
    ]
    mean = sum(v.sum() for v in v_hats) / sum(v.numel() for v in v_hats) if v_hats else None
    columns, at = [], 0
    for g in optimizer.param_groups:
        for p in g["params"]:
            s, ones = state.get(p, {}), torch.ones_like(p)
            l2 = 0 if isinstance(optimizer, AdamW | AdaiW) else g["weight_decay"]
            first = slope[at : at + p.numel()].view_as(p) + l2 * p.detach()
            at += p.numel()
            if isinstance(optimizer, SGD):
                b = g["momentum"]
                weight = ones * ((1 + 2 * b) / (1 + b) if g["nesterov"] else (1 - g["dampening"] * (b > 0)) / (1 + b))
            elif isinstance(optimizer, RMSprop):
                v = s["square_avg"] if s else (1 - g["alpha"]) * first**2
                v = v - s["grad_avg"] ** 2 if g["centered"] else v
                weight = 1 / ((1 + g["momentum"]) * (v.sqrt() + g["eps"]))
            elif isinstance(optimizer, Adai):
                if s:
                    v_hat = s["exp_avg_sq"] / (1 - g["betas"][1] ** s["step"].item())
                    w = (g["betas"][0] * v_hat / mean).clamp(g["eps"], 1)
                    weight = w / (2 - w)
                else:
                    weight = ones
            elif isinstance(optimizer, RAdam):
                (b, b2), t = g["betas"], s["step"].item()
                top = 2 / (1 - b2) - 1
                rho = top - 2 * t * b2**t / (1 - b2**t)
                r = ((rho - 4) * (rho - 2) * top / ((top - 4) * (top - 2) * rho)) ** 0.5
                weight = (1 - b) / (1 + b) * r * (1 - b2**t) ** 0.5 / (s["exp_avg_sq"].sqrt() + g["eps"])
            elif s:
                b, t = g["betas"][0], s["step"].item()
                v = s["max_exp_avg_sq" if g["amsgrad"] else "exp_avg_sq"] / (1 - g["betas"][1] ** t)
                weight = (1 - b) / ((1 + b) * (v.sqrt() + g["eps"]))
            else:
                weight = 1 / (first.abs() + g["eps"])
            for_all = (g["lr"] * ones, weight, l2 * ones, (g["weight_decay"] - l2) * ones)
            columns.append(torch.stack([part.flatten() for part in for_all]))
    return torch.cat(columns, dim=1)


CASES = {
    "sgd": lambda p: SGD(p, lr=0.1, weight_decay=0.01),
    "momentum": lambda p: SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "dampening": lambda p: SGD(p, lr=0.1, momentum=0.9, dampening=0.3),
    "nesterov": lambda p: SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: Adam(p, lr=0.01, weight_decay=0.01),
    "amsgrad": lambda p: Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=3.0),
    "radam": lambda p: RAdam(p, lr=0.01, betas=(0.9, 0.99)),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, weight_decay=0.01),
    "rmsprop-more": lambda p: RMSprop(p, lr=0.01, momentum=0.5, centered=True),
    "adai": lambda p: Adai(p, lr=0.5, weight_decay=0.01),
    "adaiw": lambda p: AdaiW(p, lr=0.5, weight_decay=0.3),
}


def expected(optimizer, model, x, y, **options):
    """By the whole matrix: the margin, and the largest rate of the first group."""
    H, slope = hessian(model, x, y, **options)
    lr, S, l2, decoupled = plain(optimizer, slope)
    root = (lr * S).sqrt()
    M = root[:, None] * (H + torch.diag(l2)) * root + torch.diag(lr * decoupled)
    exact = torch.linalg.eigvalsh(M)[-1].item() / 2
    return exact, lr[0].item() / exact


@pytest.mark.parametrize("name", CASES)
def test_the_margin_of_a_run_is_that_of_the_whole_matrix(name):
    model, (x, y) = net(), data()
    optimizer = CASES[name](model.parameters())
    trained(optimizer, model, 25, x, y)
    found = stability(optimizer, model, cross_entropy, (x, y), tol=1e-9)
    exact, largest = expected(optimizer, model, x, y)
    assert found.margin == pytest.approx(exact, rel=1e-6)
    assert found.largest_lr == pytest.approx(largest, rel=1e-6)
    assert found.factor == pytest.approx(1 / exact, rel=1e-6)
    assert (found.lr, found.batch_norm) == (optimizer.param_groups[0]["lr"], "the model has none")
    assert found.loss == pytest.approx(cross_entropy(model(x), y).item())


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "rmsprop", "adai", "adaiw"])
def test_before_the_first_step_it_is_that_of_the_first_step(name):
    model, (x, y) = net(), data()
    optimizer = CASES[name](model.parameters())
    found = stability(optimizer, model, cross_entropy, (x, y), tol=1e-9)
    assert found.margin == pytest.approx(expected(optimizer, model, x, y)[0], rel=1e-6)


@pytest.mark.parametrize("cls", [Adam, AdaiW])
def test_parameters_that_join_later_are_at_their_first_step(cls):
    model, (x, y) = net(), data()
    optimizer = cls([*model[0].parameters(), *model[2].parameters()], lr=0.1)
    trained(optimizer, model, 25, x, y)
    optimizer.add_param_group({"params": model[4].parameters()})
    found = stability(optimizer, model, cross_entropy, (x, y), tol=1e-9)
    assert found.margin == pytest.approx(expected(optimizer, model, x, y)[0], rel=1e-6)


def test_groups_have_rates_of_their_own():
    """The margin uses each group's rate, and all rates are multiplied by the same factor to reach the edge."""
    model, (x, y) = net(), data()
    groups = [
        {"params": model[0].parameters(), "lr": 0.3, "weight_decay": 0.5},
        {"params": [*model[2].parameters(), *model[4].parameters()], "lr": 0.02},
    ]
    optimizer = AdaiW(groups)
    trained(optimizer, model, 25, x, y)
    found = stability(optimizer, model, cross_entropy, (x, y), tol=1e-9)
    exact, largest = expected(optimizer, model, x, y)
    assert (found.margin, found.largest_lr) == (pytest.approx(exact, rel=1e-6), pytest.approx(largest, rel=1e-6))
    for group in optimizer.param_groups:
        group["lr"] *= found.factor
    assert stability(optimizer, model, cross_entropy, (x, y), tol=1e-9).margin == pytest.approx(1, rel=1e-6)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(found.largest_lr, rel=1e-6)


def test_on_a_quadratic_the_largest_lr_is_the_largest_at_which_parameters_shrink():
    """Tested with the optimizer itself: slightly below the limit parameters shrink, slightly above they grow."""
    torch.manual_seed(0)
    A = torch.randn(8, 8, dtype=F64)
    H = A @ A.T / 8 + 0.1 * torch.eye(8, dtype=F64)

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.theta = nn.Parameter(torch.ones(8, dtype=F64))

        def forward(self, x):
            return 0.5 * self.theta @ H @ self.theta + 0 * x.sum()

    batch = torch.zeros(1, 1, dtype=F64), torch.zeros(1)

    def grows(make, lr, steps=400):
        model = Quadratic()
        optimizer = make(model.parameters(), lr)
        norms = []
        for _ in range(steps):
            optimizer.zero_grad()
            model(batch[0]).backward()
            optimizer.step()
            norms.append(model.theta.detach().norm().item())
        return norms[-1] > norms[steps // 2]

    for make in (
        lambda p, lr: SGD(p, lr, weight_decay=0.3),
        lambda p, lr: SGD(p, lr, momentum=0.8, dampening=0.5),
        lambda p, lr: SGD(p, lr, momentum=0.8, nesterov=True),
    ):
        model = Quadratic()
        found = stability(make(model.parameters(), 0.01), model, lambda out, _: out, batch, tol=1e-12)
        assert not grows(make, 0.99 * found.largest_lr)
        assert grows(make, 1.01 * found.largest_lr)


def test_options_that_adai_may_have():
    """A lower bound of the inertia caps S, and the optimizer's own warm-up is part of the rate."""
    model, (x, y) = net(), data()
    optimizer = Adai(model.parameters(), lr=0.5)
    start = stability(optimizer, model, cross_entropy, (x, y)).margin
    trained(optimizer, model, 25, x, y)
    plain_margin = stability(optimizer, model, cross_entropy, (x, y)).margin
    group = optimizer.param_groups[0]
    group["warmup_steps"] = 99
    found = stability(optimizer, model, cross_entropy, (x, y))
    assert found.margin == pytest.approx(plain_margin * 25 / 100)
    assert found.largest_lr == pytest.approx(0.5 / found.margin)
    group |= {"warmup_steps": 0, "min_inertia": 1 - group["eps"]}  # all inertia is equal: S = eps / (2 - eps)
    H, _ = hessian(model, x, y)
    least = 0.5 * torch.linalg.eigvalsh(H)[-1].item() / 2 * group["eps"] / (2 - group["eps"])
    assert stability(optimizer, model, cross_entropy, (x, y)).margin == pytest.approx(least, rel=1e-3)
    fresh = net()
    optimizer = Adai(fresh.parameters(), lr=0.5)
    optimizer.param_groups[0]["warmup_steps"] = 3
    assert stability(optimizer, fresh, cross_entropy, (x, y)).margin == pytest.approx(start / 4)


def test_the_example_of_the_documentation():
    """One parameter, for which there is no Lanczos."""
    assert doctest.testmod(margin) == (0, 7)


def test_a_rate_of_0_has_no_margin_but_a_limit():
    model, (x, y) = net(), data()
    found = stability(SGD(model.parameters(), lr=0.0), model, cross_entropy, (x, y))
    other = stability(SGD(model.parameters(), lr=0.1), model, cross_entropy, (x, y))
    assert (found.margin, found.factor) == (0, float("inf"))
    assert found.largest_lr == pytest.approx(other.largest_lr)


def test_parameters_that_do_not_move_are_fixed():
    """Frozen parameters, and parameters that the optimizer does not have; another group has a rate of 0."""
    model, (x, y) = net(), data()
    model[0].requires_grad_(False)
    H, _ = hessian(model, x, y)
    found = stability(SGD(model[4].parameters(), lr=0.1), model, cross_entropy, (x, y), tol=1e-9)
    top = torch.linalg.eigvalsh(H[-18:, -18:])[-1].item()
    assert found.margin == pytest.approx(0.1 * top / 2, rel=1e-6)
    still = [{"params": model[2].parameters(), "lr": 0.0}, {"params": model[4].parameters(), "lr": 0.1}]
    assert stability(SGD(still), model, cross_entropy, (x, y), tol=1e-9).margin == pytest.approx(found.margin, rel=1e-6)


class Drawing(nn.Module):
    """Batch norm and dropout, and it draws a number that it does not use."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = (
            nn.Linear(6, 8),
            nn.BatchNorm1d(8),
            nn.Dropout(0.5),
            nn.Linear(8, 3),
        )

    def forward(self, x):
        torch.rand(1), random.random(), np.random.rand()
        return self.last(self.drop(self.norm(self.first(x))))


@pytest.mark.parametrize("training", [True, False])
def test_the_callers_objects_do_not_change(training):
    torch.manual_seed(0)
    model, (x, y) = Drawing().train(training), data(dtype=torch.float32)
    optimizer = AdaiW(model.parameters(), lr=0.1)
    trained(optimizer, model, 3, x, y)
    before = [copy.deepcopy(thing.state_dict()) for thing in (model, optimizer)]
    grads = [p.grad.clone() for p in model.parameters()]
    drawn = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = stability(optimizer, model, cross_entropy, (x, y))
    with torch.no_grad():
        found = stability(optimizer, model, cross_entropy, (x, y))
    assert found == half
    assert model.training == model.norm.training == training
    for was, thing in zip(before, (model, optimizer), strict=True):
        torch.testing.assert_close(thing.state_dict(), was, rtol=0, atol=0)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), grads, strict=True))
    assert torch.equal(torch.get_rng_state(), drawn[0])
    assert random.getstate() == drawn[1]
    assert np.array_equal(np.random.get_state()[1], drawn[2])
    running = stability(optimizer, model, cross_entropy, (x, y), batch_norm="running")
    assert (found.batch_norm, running.batch_norm) == ("statistics of each minibatch of 32", "running statistics")
    assert running.loss != found.loss


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            torch.optim.Adagrad,
            "no stability limit is known for Adagrad; there is one for SGD, Adam, AdamW",
        ),
        (type("Mine", (SGD,), {}), "no stability limit is known for Mine"),
        (lambda p: Adai(p, dampening=0.5), "Adai has a dampening other than 1"),
        (lambda p: AdaiW(p, maximize=True), "AdaiW has maximize=True; minimise the negative loss"),
        (
            lambda p: SGD([{"params": p[:2]}, {"params": p[2:], "momentum": 0.5}], momentum=0.9, nesterov=True),
            "SGD has groups that differ in nesterov",
        ),
    ],
)
def test_what_has_no_limit_is_refused_by_name(make, message):
    model, (x, y) = net(), data()
    with pytest.raises(UserError, match=message) as error:
        stability(make(list(model.parameters())), model, cross_entropy, (x, y))
    assert "\n" not in str(error.value)


def test_bad_input_is_said():
    model, (x, y) = net(), data()
    optimizer = Adai(model.parameters())
    with pytest.raises(ValueError, match="batch has to be a pair of tensors"):
        stability(optimizer, model, cross_entropy, x)
    with pytest.raises(ValueError, match="as many targets as inputs"):
        stability(optimizer, model, cross_entropy, (x, y[:5]))
    with pytest.raises(ValueError, match="the optimizer has none of the model's parameters"):
        stability(optimizer, net(), cross_entropy, (x, y))
    with pytest.raises(UserError, match="the loss is nan"):
        stability(optimizer, model, lambda out, y: cross_entropy(out, y) * float("nan"), (x, y))
    trained(optimizer, model, 2, x, y)
    optimizer.state[model[2].weight]["exp_avg_sq"].fill_(float("nan"))
    with pytest.raises(UserError, match=r"the optimizer's state for 0.weight is not finite; take one from before"):
        stability(optimizer, model, cross_entropy, (x, y))


def tanh_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "steps"), [(lambda p: SGD(p, lr=1.0), 1200), (lambda p: Adam(p, lr=0.005), 2000)], ids=["sgd", "adam"]
)
def test_full_batch_training_settles_at_the_edge(make, steps):
    """Cohen et al., arXiv 2103.00065: 2/η; arXiv 2207.14484: Adam at 38/η of the preconditioned Hessian."""
    model, (x, y) = tanh_net(), data(64, torch.float32)
    targets = nn.functional.one_hot(y, 3).float()
    optimizer, margins = make(model.parameters()), []
    for step in range(steps):
        optimizer.zero_grad()
        mse_loss(model(x), targets).backward()
        optimizer.step()
        if step >= steps - 200 and step % 20 == 0:
            margins.append(stability(optimizer, model, mse_loss, (x, targets)).margin)
    assert np.mean(margins) == pytest.approx(1, abs=0.05)


def test_half_precision_and_a_rate_that_is_a_tensor():
    """The computation is in float32, at the bfloat16 values of the parameters."""
    half, (x, y) = net(torch.bfloat16), data(dtype=torch.bfloat16)
    optimizer = Adai(half.parameters(), lr=torch.tensor(0.5))
    trained(optimizer, half, 5, x, y)
    whole = copy.deepcopy(half).float()
    other = Adai(whole.parameters(), lr=0.5)
    other.load_state_dict(optimizer.state_dict())
    found, same = (
        stability(o, m, cross_entropy, (x.to(m[0].weight.dtype), y)) for o, m in ((optimizer, half), (other, whole))
    )
    assert found.margin == pytest.approx(same.margin, rel=1e-5) != 0


def test_the_variants_of_adai_have_the_limits_of_their_inertia():
    """EMA momentum 0.9 is stable up to 38/η whatever the gradients; min_inertia 0.9 bounds the step weight likewise."""
    model, (x, y) = net(), data()
    for name, most in (("ema", theory.ema(0.9)), ("adai", 1 / 19)):
        optimizer = recipe(name).build(model.parameters())
        trained(optimizer, model, 5, x, y)
        weights = torch.cat([one.weight.flatten() for one in moving(optimizer, torch.zeros_like).values()])
        assert weights.max().item() == pytest.approx(most)
        assert (weights.min().item() == pytest.approx(most)) == (name == "ema")
