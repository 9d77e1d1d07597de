"""The learning-rate range test: rates, blow-up, seeds, what it suggests, and that it leaves nothing behind."""

import copy
import csv
import json
import random
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss
from torch.utils.data import DataLoader, TensorDataset

from adai import Adai
from adai.cli import main
from adai.lab import find_lr
from adai.lab.measure.range_test.result import RangeTest, Rise, RunningMean

OPTIMIZERS = {
    "adai": lambda groups: Adai(groups, lr=0.1),
    "sgd": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9),
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=0.1),
    "tensor lr": lambda groups: torch.optim.Adam(groups, lr=torch.tensor(0.1)),
    "lbfgs": lambda groups: torch.optim.LBFGS(groups[0]["params"], lr=0.1, max_iter=2),
}


def net() -> nn.Sequential:
    """With batch norm, dropout, and a frozen batch norm."""
    model = nn.Sequential(
        nn.Linear(4, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(8, 8),
        nn.BatchNorm1d(8),
        nn.Linear(8, 3),
    )
    model[5].eval()
    return model


def loader(seed: int = 0) -> DataLoader[Any]:
    """Shuffled, with a generator of its own."""
    torch.manual_seed(seed)
    data = TensorDataset(torch.randn(64, 4), torch.randint(3, (64,)))
    return DataLoader(data, batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(5))


def train_on(batch: Any, optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """One step, with the same dropout every time."""
    torch.manual_seed(0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(batch[0]), batch[1])
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]


def snapshot(optimizer: torch.optim.Optimizer, model: nn.Module, data: DataLoader[Any]) -> dict[str, Any]:
    """Copies of everything that the test may change, and the ids of the objects that must stay the same."""
    state = {k: dict(s.items()) for k, s in enumerate(optimizer.state.values())}
    return copy.deepcopy(
        {
            "model": model.state_dict(),
            "gradients": [None if p.grad is None else p.grad for p in model.parameters()],
            "modes": [module.training for module in model.modules()],
            "state": state,
            "groups": [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups],
            "attributes": sorted(vars(optimizer)),
            "random": [torch.get_rng_state(), random.getstate(), np.random.get_state(), data.generator.get_state()],
            "ids": [
                *(id(p.grad) for p in model.parameters()),
                *(id(v) for s in optimizer.state.values() for v in s.values() if isinstance(v, Tensor)),
                *(id(group["lr"]) for group in optimizer.param_groups),
            ],
        }
    )


def same(a: Any, b: Any) -> bool:
    """Whether two nested structures of tensors, arrays and numbers are equal bit for bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else bool(a == b)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("how", ["to the end", "exception"])
def test_everything_is_put_back(name: str, how: str) -> None:
    data, model = loader(), net()
    optimizer = OPTIMIZERS[name]([{"params": [*model.parameters()]}])
    for batch in data:  # state, statistics and gradients to lose
        train_on(batch, optimizer, model)
    twin = None if name == "lbfgs" else copy.deepcopy((optimizer, model))  # torch cannot copy an LBFGS
    before, calls = snapshot(optimizer, model, data), 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        np.random.rand()
        random.random()
        if how == "exception" and calls > 40:
            raise KeyError("of the user's loss")
        return cross_entropy(outputs, targets)

    if how == "exception":
        with pytest.raises(KeyError, match="of the user's loss"):
            find_lr(optimizer, model, loss, data, steps=30, seeds=2, highest=0.1)
    else:
        find_lr(optimizer, model, loss, data, steps=30, seeds=2, highest=0.1)
    assert same(snapshot(optimizer, model, data), before)
    if twin:  # training continues as without the test
        train_on(batch, optimizer, model)
        train_on(batch, *twin)
        assert same(model.state_dict(), twin[1].state_dict())


def test_buffers_and_modes_that_are_replaced_are_put_back() -> None:
    class Counting(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 1)
            self.register_buffer("calls", torch.zeros(1), persistent=False)

        def forward(self, inputs: Tensor) -> Tensor:
            self.calls = self.calls + 1
            return super().forward(inputs)

    model = Counting().eval()
    calls = model.calls
    find_lr(
        torch.optim.SGD(model.parameters(), lr=1), model, mse_loss, [(torch.ones(4, 2), torch.ones(4, 1))], steps=20
    )
    assert model.calls is calls
    assert not model.calls.any()
    assert not model.training


class Watched(torch.optim.SGD):
    """Keeps the learning rates of each step, and the mode of the model."""

    seen: ClassVar[list[list[float]]] = []

    def step(self, closure: Any = None) -> Any:
        self.seen.append([group["lr"] for group in self.param_groups])
        return super().step(closure)


@pytest.mark.parametrize("at_0", [False, True])
def test_rates_rise_exponentially_and_groups_keep_their_ratio(at_0: bool) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = Watched([{"params": model[0].parameters(), "lr": 1e-9}, {"params": model[1].parameters(), "lr": 3e-9}])
    if at_0:  # a scheduler whose warm-up starts at 0
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    Watched.seen.clear()
    test = find_lr(
        optimizer, model, mse_loss, [(torch.ones(4, 2), torch.ones(4, 1))], lowest=1e-8, highest=1e-4, steps=41, seeds=1
    )
    first, second = np.array(Watched.seen).T
    np.testing.assert_allclose(first, 10.0 ** np.linspace(-8, -4, 41))
    np.testing.assert_allclose(second, 3 * first)
    np.testing.assert_array_equal(test.rates, first)


def quadratic(x: float = 2.0) -> tuple[nn.Module, list[tuple[Tensor, Tensor]]]:
    """Curvature 2x² in one parameter, and a gradient noise that keeps the loss from reaching 0."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    inputs = torch.full((1, 1), x)
    return model, [(inputs, inputs * 0 + side) for side in (-0.3, 0.3)]


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_blow_up_on_a_quadratic_is_at_the_limit(beta: float) -> None:
    """H = 8: gradient descent is stable up to 2 / 8, the heavy ball up to 1 + beta times that."""
    model, data = quadratic()
    test = find_lr(
        torch.optim.SGD(model.parameters(), lr=1.0, momentum=beta), model, mse_loss, data,
        lowest=0.01, highest=3.0, steps=600, seeds=1,
    )  # fmt: skip
    limit = (1 + beta) * 2 / 8
    assert test.limit == pytest.approx(limit, rel=1e-3)
    assert limit < test.blow_up < 1.25 * limit
    assert test.suggested is not None
    assert limit / 40 < test.suggested < limit / 2


def test_stops_where_the_loss_blows_up() -> None:
    model, data = quadratic()
    test = find_lr(
        torch.optim.SGD(model.parameters(), lr=1.0), model, mse_loss, data, lowest=1e-3, highest=1e6, seeds=1
    )
    stopped = test.ends[0]
    assert 20 < stopped < len(test.rates) / 2
    assert test.blow_up == test.rates[stopped - 1]
    assert np.isnan(test.losses[0, stopped:]).all()


def test_a_loss_that_is_not_finite_is_a_blow_up() -> None:
    running = RunningMean()
    assert not running.blown_up_by(1.0)
    assert running.blown_up_by(float("nan"))


def test_a_warm_up_of_the_optimizer_does_not_hide_the_rate() -> None:
    def found(**options: int) -> RangeTest:
        torch.manual_seed(0)
        model = net()
        optimizer = Adai(model.parameters(), **options)
        test = find_lr(optimizer, model, cross_entropy, loader(), steps=60, seeds=1)
        assert optimizer.param_groups[0]["warmup_steps"] == options.get("warmup_steps", 0)
        return test

    warm, cold = found(warmup_steps=100), found()
    assert (warm.suggested, warm.blow_up, warm.limit) == (cold.suggested, cold.blow_up, cold.limit)


def test_noise_is_no_blow_up_and_losing_half_of_what_was_gained_is() -> None:
    draws = np.random.default_rng(0)
    running = RunningMean()
    assert not any(running.blown_up_by(float(loss)) for loss in 2 + 0.1 * draws.standard_normal(200))
    assert not any(running.blown_up_by(float(loss)) for loss in np.linspace(2, 0.1, 50))
    assert not any(running.blown_up_by(0.8) for _ in range(100))
    assert any(running.blown_up_by(1.5) for _ in range(100))


def test_seeds_vary_the_order_and_nothing_else() -> None:
    data, model = loader(), nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    test, again = (find_lr(optimizer, model, cross_entropy, data, steps=20, seeds=3) for _ in range(2))
    assert test.losses.shape == (3, 20)
    assert len(np.unique(test.losses[:, 0])) == 3
    np.testing.assert_array_equal(test.losses, again.losses)


def test_suggestion_follows_the_lowest_seed_and_the_limit() -> None:
    rates = np.geomspace(1e-3, 10, 41)
    falling = [float(loss) for loss in np.linspace(2, 0.1, 41)]
    test = RangeTest.of(rates, [Rise(falling, 1.0, 0.5), Rise(falling, 0.4, 0.02), Rise(falling, None, 0.3)])
    assert test.blow_up == 1.0
    assert test.limit == 0.02
    assert test.suggested == pytest.approx(0.1)
    assert test.suggested_without_warm_up == 0.02
    calm = RangeTest.of(rates, [Rise(falling, None, None)])
    assert calm.suggested is None
    assert calm.suggested_without_warm_up is None


def test_no_limit_for_optimizers_that_divide_by_the_first_gradient() -> None:
    model, data = quadratic()
    assert find_lr(torch.optim.Adam(model.parameters()), model, mse_loss, data, steps=20, seeds=1).limit is None


def test_the_documented_call_runs(capsys: Any) -> None:
    docs = Path(__file__).parent.parent / "docs" / "lr.md"
    (code,) = re.findall(r"```python\n(.*?)```", docs.read_text(), re.DOTALL)
    exec(code, {})
    suggested, without, limit, blow_up = map(float, capsys.readouterr().out.split())
    assert without <= min(suggested, limit) < blow_up


X, Y = torch.ones(4, 2), torch.ones(4, 1)


@pytest.mark.parametrize(
    ("data", "options", "error", "words"),
    [
        ([], {}, ValueError, "data has no batch"),
        (iter([(X, Y)]), {}, ValueError, "none is left"),
        ([X], {}, TypeError, "a batch is Tensor"),
        ([(X, Y, Y)], {}, TypeError, "a batch is tuple"),
        ([(X, Y)], {"lowest": 1.0, "highest": 0.1}, ValueError, "rates from 1 to 0.1"),
        ([(X, Y)], {"lowest": 0.0}, ValueError, "rates from 0 to 100"),
        ([(X, Y)], {"steps": 3}, ValueError, "steps = 3"),
        ([(X, Y)], {"seeds": 0}, ValueError, "seeds = 0"),
    ],
)
def test_bad_arguments(data: Any, options: dict[str, Any], error: type[Exception], words: str) -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(error, match=words):
        find_lr(torch.optim.SGD(model.parameters(), lr=1.0), model, mse_loss, data, **options)


def test_bad_optimizers() -> None:
    model = nn.Linear(2, 1)
    with pytest.raises(TypeError, match="optimizer is Linear"):
        find_lr(model, model, mse_loss, [(X, Y)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no parameter of the model"):
        find_lr(torch.optim.SGD(nn.Linear(2, 1).parameters(), lr=1.0), model, mse_loss, [(X, Y)])


TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset
from adai.lab.tasks.task import Task

def line():
    x = torch.randn(64, 2)
    data = TensorDataset(x, x.sum(dim=1, keepdim=True))
    return Task(nn.Linear(2, 1), train=data, test=data, loss=nn.functional.mse_loss)

def broken():
    return line()._replace(loss=lambda outputs, targets: outputs.nonsense)
"""


@pytest.fixture
def here(tmp_path: Any, monkeypatch: Any) -> Any:
    """A working folder with a task."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "range_test_task.py").write_text(TASK)
    return tmp_path


def test_command(here: Any, capsys: Any) -> None:
    command = ["lr", "--task", "range_test_task:line", "--optimizer", "sgd", "--seeds", "2", "--steps", "60"]
    assert main([*command, "--out", "out"]) == 0
    said = capsys.readouterr().out
    found = json.loads((here / "out" / "lr.json").read_text())
    assert "warm-up of 100 steps" in said
    assert f"{found['suggested']:.2g}"[:3] in said
    assert len(found["blow_ups"]) == len(found["limits"]) == 2
    assert (here / "out" / "lr.png").stat().st_size > 10_000
    with (here / "out" / "lr.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["test"] for row in rows} == {"0", "1"}
    assert float(rows[0]["lr"]) == 1e-6


def test_command_says_so_where_nothing_blows_up(here: Any, capsys: Any) -> None:
    command = ["lr", "--task", "range_test_task:line", "--optimizer", "sgd", "--seeds", "1", "--steps", "20"]
    assert main([*command, "--highest", "1e-5", "--out", "out"]) == 0
    assert "give a larger --highest" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--lowest", "1", "--highest", "0.5"], "rates from 1 to 0.5"),
        (["--steps", "5"], "steps = 5"),
        (["--seeds", "0"], "'0' is not a whole number above 0"),
        (["--lowest", "-1"], "'-1' is not a number above 0"),
        (["--optimizer", "nonsense"], "unknown optimizer 'nonsense'"),
        (["--dataset", "digits"], "leave out --dataset"),
        (["--device", "nonsense"], "cannot use device"),
        (["--task", "range_test_task:nothing"], "no function 'nothing'"),
        (["--task", "range_test_task:broken"], "the task range_test_task:broken failed: AttributeError"),
        (["--out", "/dev/null/out"], "cannot write to /dev/null/out"),
    ],
)
def test_bad_input_is_one_line(here: Any, capsys: Any, options: list[str], words: str) -> None:
    try:
        status = main(["lr", "--task", "range_test_task:line", *options])
    except SystemExit as exit:
        status = exit.code
    said = capsys.readouterr().err
    assert status == 2
    assert words in said
    assert len(said.strip().splitlines()) == 1
