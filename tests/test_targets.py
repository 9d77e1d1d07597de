"""Targets that a loss ignores or weights, compared with torch's own mean over all at once."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, nll_loss
from torch.utils.data import Dataset, TensorDataset

from adai.errors import UserError
from adai.lab.host.ranks import Ranks
from adai.lab.measure.objective import Objective
from adai.lab.settings import Settings
from adai.lab.tasks import metric
from adai.lab.tasks.targets import Counted
from adai.lab.tasks.task import Task
from adai.lab.training.learner import Learner
from adai.lab.training.metrics import Tally

CPU = torch.device("cpu")
WEIGHT = torch.tensor([0.5, 1.0, 3.0])
LOSSES = {
    "cross_entropy": cross_entropy,
    "another index": partial(cross_entropy, ignore_index=1),
    "module": nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1),
    "weights": partial(cross_entropy, weight=WEIGHT),
    "weights in a module": nn.CrossEntropyLoss(weight=WEIGHT),
}


@pytest.fixture(params=LOSSES)
def loss(request):
    return LOSSES[request.param]


@pytest.fixture
def examples():
    """Fourteen, of which those without a class are unevenly spread: none of the last three counts."""
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(14, 4, generator=draws), torch.randint(3, (14,), generator=draws)
    y[[0, 1, 2, 5, 11, 12, 13]] = -100
    return x, y


def net():
    return nn.Linear(4, 3)


def test_means_of_batches_are_the_mean_of_all(loss, examples):
    outputs, y = net()(examples[0]), examples[1]
    y = y if Counted(loss).ignored == -100 else y.clamp(min=Counted(loss).ignored or 0)
    tally = Tally(CPU, counted=Counted(loss))
    for some in (slice(0, 3), slice(3, 4), slice(4, 11), slice(11, 14)):
        tally.add(Counted(loss)(outputs[some], y[some]), outputs[some], y[some])
    assert tally.means(Ranks()).loss == pytest.approx(loss(outputs, y).item(), rel=1e-5)


def test_errors_are_those_of_the_targets_that_count():
    outputs = torch.eye(7).repeat(2, 1)
    y = torch.tensor([0, 1, 2, 3, 4, 5, 0] + [-100] * 7)
    tally = Tally(CPU, top=True)
    tally.add(torch.tensor(1.0), outputs, y)
    means = tally.means(Ranks())
    assert (means.examples, means.error) == (14, pytest.approx(100 / 7))
    # The likeliest class is 6; the others tie, so the lowest come next, and 0 is among them.
    assert means.error_top == pytest.approx(0)
    nothing = Tally(CPU)
    nothing.add(torch.tensor(0.0), outputs[:2], y[-2:])
    assert math.isnan(nothing.means(Ranks()).loss)
    assert nothing.means(Ranks()).error is None


class Read(Dataset):
    """Examples that are not in memory."""

    def __init__(self, *tensors):
        self.tensors = tensors

    def __len__(self):
        return len(self.tensors[0])

    def __getitem__(self, index):
        return tuple(tensor[index] for tensor in self.tensors)


@pytest.mark.parametrize("kind", [TensorDataset, Read])
@pytest.mark.parametrize("accumulate", [1, 3, 14])
def test_a_step_in_pieces_is_the_step_of_the_whole_batch(kind, accumulate, loss, examples):
    x, y = examples
    y = y if Counted(loss).ignored == -100 else y.clamp(min=Counted(loss).ignored or 0)
    made = []

    def factory():
        data = kind(x, y)
        made.append(net())
        return Task(made[-1], data, data, loss)

    settings = Settings.of("x:y", optimizer="sgd", lr=1.0, weight_decay=0.0, options={"momentum": 0.0}, batch=14,
                           accumulate=accumulate, workers=0, warmup_steps=0, epochs=1, schedule="constant")  # fmt: skip
    learner = Learner(settings, factory, CPU, Ranks())
    start = [p.detach().clone().requires_grad_() for p in made[0].parameters()]
    whole = loss(x @ start[0].T + start[1], y)
    gradients = torch.autograd.grad(whole, start)
    row = learner.epoch(0)
    for p, before, gradient in zip(made[0].parameters(), start, gradients, strict=True):
        assert torch.allclose(p, before - gradient, atol=1e-6)
    assert row["train_loss"] == pytest.approx(whole.item(), rel=1e-5)


def test_an_objective_is_the_mean_over_what_counts(loss, examples):
    x, y = (examples[0].double(), examples[1])
    y = y if Counted(loss).ignored == -100 else y.clamp(min=Counted(loss).ignored or 0)
    model = net().double()
    loss = partial(cross_entropy, weight=WEIGHT.double()) if Counted(loss).weights is not None else loss
    objective = Objective(model, x, y, loss=loss, batch=3)
    whole = loss(model(x), y)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(whole, list(model.parameters()))])
    assert objective.loss() == pytest.approx(whole.item(), rel=1e-12)
    assert torch.allclose(objective.gradient(), gradient, atol=1e-12)
    assert torch.allclose(torch.cat(list(objective.sample_gradients(2))).mean(0), gradient, atol=1e-12)
    # H is the derivative of the gradient: with all samples in one minibatch torch's own mean is what is differentiated.
    v = torch.randn(objective.size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    h = 1e-5
    difference = (objective.gradient(objective.theta + h * v) - objective.gradient(objective.theta - h * v)) / (2 * h)
    assert torch.allclose(objective.hvp(v), difference, atol=1e-8)
    assert torch.allclose(objective.hessian() @ v, objective.hvp(v), atol=1e-12)


def test_words_of_a_sequence_count_one_by_one():
    draws = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(4, 3, 5, generator=draws), torch.randint(3, (4, 5), generator=draws)
    y[0, 1:] = -100
    tally = Tally(CPU)
    for one in range(4):
        tally.add(cross_entropy(outputs[one, None], y[one, None]), outputs[one, None], y[one, None])
    assert tally.means(Ranks()).loss == pytest.approx(cross_entropy(outputs, y).item(), rel=1e-5)
    counts = y != -100
    wrong = (outputs.argmax(1) != y)[counts].double().mean().item()
    assert tally.means(Ranks()).error == pytest.approx(100 * wrong)


@pytest.mark.parametrize("ignored", [-100, 1])
def test_metrics_count_the_targets_that_the_loss_counts(ignored):
    draws = torch.Generator().manual_seed(0)
    outputs, y = torch.randn(6, 3, 5, generator=draws), torch.randint(3, (6, 5), generator=draws)
    y[0], y[1, 2:] = ignored, ignored
    loss = partial(cross_entropy, ignore_index=ignored)
    counts = y != ignored
    nats = loss(outputs, y).item()
    right = (outputs.argmax(1) == y)[counts].double().mean().item()
    expected = {
        metric.error: 100 * (1 - right),
        metric.accuracy: 100 * right,
        metric.bits: nats / math.log(2),
        metric.perplexity: math.exp(nats),
    }
    for one, value in expected.items():
        tally = Tally(CPU, counted=Counted(loss), metric=one)
        for some in (slice(0, 1), slice(1, 6)):
            tally.add(Counted(loss)(outputs[some], y[some]), outputs[some], y[some])
        assert tally.means(Ranks()).metric == pytest.approx(value, rel=1e-5)


def test_a_loss_of_ones_own_says_what_it_leaves_out():
    def own(outputs, targets):
        return cross_entropy(outputs, targets, ignore_index=7)

    assert Counted(own).ignored is None
    own.ignore_index = 7
    assert Counted(own).counts(torch.tensor([7, 1])).tolist() == [False, True]
    assert int(Counted(own).weight(torch.tensor([7, 1, 7]))) == 1
    assert Counted(partial(nll_loss, ignore_index=3)).ignored == 3


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_loss_that_is_no_mean_is_refused(reduction):
    for loss in (
        nn.CrossEntropyLoss(reduction=reduction),
        partial(cross_entropy, reduction=reduction),
        nn.MSELoss(reduction=reduction),
    ):
        with pytest.raises(UserError, match=f"reduction='{reduction}'; it has to be the mean"):
            Counted(loss)
