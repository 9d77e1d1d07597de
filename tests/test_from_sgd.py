"""`Adai.from_sgd`: a tuned SGD becomes an Adai."""

import numpy as np
import pytest
import torch

from adai import Adai, AdaiW


@pytest.mark.parametrize("cls", [Adai, AdaiW])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True},
                                     {"momentum": 0.9, "dampening": 0.9}, {"dampening": 0.9}])  # fmt: skip
def test_steps_are_as_long_as_those_sgd_builds_up_to(cls, options):
    """On a constant gradient, once SGD's momentum has built up."""
    p, q = torch.zeros(3, dtype=torch.float64, requires_grad=True), torch.zeros(3, dtype=torch.float64)
    q.requires_grad_()
    sgd = torch.optim.SGD([p], lr=0.1, **options)
    adai = cls.from_sgd(torch.optim.SGD([q], lr=0.1, **options), warmup_steps=0)
    p.grad = q.grad = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    for _ in range(400):
        before = p.detach().clone()
        sgd.step()
    adai.step()
    torch.testing.assert_close(q.detach(), p.detach() - before, rtol=1e-10, atol=0)


def test_groups_decay_and_names_stay():
    model = torch.nn.Linear(2, 2)
    groups = [
        {"params": [("weight", model.weight)], "weight_decay": 5e-4, "maximize": True},
        {"params": [("bias", model.bias)], "lr": 0.2, "momentum": 0.5},
    ]
    adai = Adai.from_sgd(torch.optim.SGD(groups, lr=0.1, momentum=0.9), betas=(0.2, 0.99))
    first, second = adai.param_groups
    assert first["params"][0] is model.weight
    assert second["params"][0] is model.bias
    assert (first["param_names"], second["param_names"]) == (["weight"], ["bias"])
    assert (first["weight_decay"], second["weight_decay"]) == (5e-4, 0)
    assert (first["maximize"], second["maximize"]) == (True, False)
    assert (first["lr"], second["lr"]) == (pytest.approx(1.0), pytest.approx(0.4))
    assert first["betas"] == (0.2, 0.99)
    assert (first["min_inertia"], second["min_inertia"]) == (0.9, 0.5)
    assert (first["warmup_steps"], second["warmup_steps"]) == (100, 100)
    assert not adai.state


def test_the_papers_rule_can_be_had():
    p = torch.zeros(1, requires_grad=True)
    sgd = torch.optim.SGD([p], lr=0.1, momentum=0.9)
    (group,) = Adai.from_sgd(sgd, min_inertia=0.0, warmup_steps=0).param_groups
    assert (group["min_inertia"], group["warmup_steps"]) == (0, 0)


def test_momentum_beyond_the_inertia_bound_is_cut_to_it():
    p = torch.zeros(1, requires_grad=True)
    sgd = torch.optim.SGD([p], lr=0.1, momentum=0.9999)
    assert Adai.from_sgd(sgd).param_groups[0]["min_inertia"] == 1 - 1e-3
    assert Adai.from_sgd(sgd, eps=1e-5).param_groups[0]["min_inertia"] == 0.9999


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_stable_wherever_the_sgd_is(momentum, seed):
    """On quadratics just below the largest curvature that heavy ball stands, 2 (1 + momentum) / lr."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    curvatures = np.geomspace(1e-3, 1, 6) * 0.98 * 2 * (1 + momentum) / 0.1
    H = torch.tensor(basis * curvatures @ basis.T)
    p = torch.tensor(rng.standard_normal(6), requires_grad=True)
    adai = Adai.from_sgd(torch.optim.SGD([p], lr=0.1, momentum=momentum))
    start = p.norm().item()
    for _ in range(2000):
        p.grad = H @ p.detach()
        adai.step()
    assert p.norm().item() < start


def test_a_tensor_lr_stays_one_but_its_own():
    p = torch.zeros(1, requires_grad=True)
    sgd = torch.optim.SGD([p], lr=torch.tensor(0.1), momentum=0.9)
    lr = Adai.from_sgd(sgd).param_groups[0]["lr"]
    torch.testing.assert_close(lr, torch.tensor(1.0))
    assert sgd.param_groups[0]["lr"] == torch.tensor(0.1)


def test_it_wants_sgd_with_momentum_below_one():
    p = torch.zeros(1, requires_grad=True)
    with pytest.raises(TypeError, match="needs a torch.optim.SGD, but got Adam"):
        Adai.from_sgd(torch.optim.Adam([p]))
    with pytest.raises(ValueError, match="Invalid momentum value: 1.0"):
        Adai.from_sgd(torch.optim.SGD([p], momentum=1.0))


def test_keys_of_ones_own_come_along_and_those_of_schedulers_do_not():
    weight, bias = (torch.zeros(2, requires_grad=True) for _ in range(2))
    groups = [{"params": [weight], "name": "body", "lr_scale": 0.1}, {"params": [bias], "name": "head", "lr_scale": 1}]
    sgd = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    torch.optim.lr_scheduler.OneCycleLR(sgd, max_lr=0.1, total_steps=10)
    optimizer = Adai.from_sgd(sgd, betas=(0.2, 0.9))
    assert [group["name"] for group in optimizer.param_groups] == ["body", "head"]
    assert [group["lr_scale"] for group in optimizer.param_groups] == [0.1, 1]
    for group in optimizer.param_groups:
        assert group.keys() == optimizer.defaults.keys() | {"params", "name", "lr_scale"}
        assert group["betas"] == (0.2, 0.9)
