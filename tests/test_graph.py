"""The lab's graph of a batch: the same numbers as without, from a function of tensors that stay where they are."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from adai.cli import main
from adai.errors import UserError
from adai.lab import settings as known
from adai.lab.host.boundary import Failed
from adai.lab.host.ranks import Ranks
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from adai.lab.tasks.data import load
from adai.lab.tasks.metric import error
from adai.lab.tasks.sources import Tensors
from adai.lab.tasks.task import Task, image_task
from adai.lab.tasks.text import read_text, text_task
from adai.lab.training import graph
from adai.lab.training.learner import Learner
from adai.lab.training.train import train
from tests.recorded import Recorded, Remembered
from tests.untimed import untimed

CPU = torch.device("cpu")
EPOCHS = 3


@pytest.fixture(params=[Remembered, Recorded])
def graphs(request, monkeypatch):
    """Stand for CUDA graphs; the last that was made."""
    made = []
    monkeypatch.setattr(known, "WITH_GRAPHS", ("cuda", "cpu"))
    monkeypatch.setattr(graph, "CudaGraphs", lambda device: made.append(request.param()) or made[-1])
    return made


@pytest.fixture(scope="module")
def factory():
    """150 images: four batches of 32, and a short one; crops, batch norm, dropout, a metric."""
    make = image_task(load("digits", device=CPU, limit=150), "smallnet", augment=True)

    def task():
        made = make()
        return made._replace(model=nn.Sequential(made.model, nn.Dropout(0.1)), metric=error)

    return task


def both(factory, epochs=EPOCHS, batch=32, **given):
    """Rows and parameters of a learner without the graph and of one with it, and these learners."""
    found, learners = [], []
    for with_graph in (False, True):
        settings = Settings.of("digits", epochs=epochs, batch=batch, warmup_steps=2, graph=with_graph, **given)
        learner = Learner(settings, factory, CPU, Ranks())
        rows = [learner.epoch(done) for done in range(epochs)]
        rows = [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]
        found.append((rows, learner.model.state_dict()))
        learners.append(learner)
    return found, learners


def assert_equal(found):
    (rows, state), (with_graph, replayed) = found
    assert with_graph == rows
    assert all(torch.equal(replayed[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_gives_the_same_bit_for_bit(name, factory, graphs):
    found, _ = both(factory, optimizer=name)
    assert_equal(found)
    assert (graphs[0].captures, graphs[0].replays) == (1, 4 * EPOCHS - graph.WARM_UP)


@pytest.mark.parametrize(
    "given",
    [
        {"clip_norm": 0.5},
        {"precision": "bf16"},
        {"precision": "tf32"},
        {"channels_last": True},
        {"validation": 0.2},
        {"batch": 25},  # no short one
        {"batch": 400},  # nothing but a short one
    ],
    ids=str,
)
def test_every_setting_gives_the_same_bit_for_bit(given, factory, graphs):
    assert_equal(both(factory, optimizer="sgd", **given)[0])


def test_text_gives_the_same_bit_for_bit(graphs, tmp_path):
    (tmp_path / "text.txt").write_text("What is adaptive inertia? " * 60)
    found, _ = both(text_task(read_text(tmp_path / "text.txt", 8), CPU, context=8), optimizer="adai")
    assert_equal(found)
    assert graphs[0].replays > graph.WARM_UP


def test_targets_that_do_not_count_and_weights_of_classes(graphs):
    rng = torch.Generator().manual_seed(0)
    targets = torch.randint(4, (80,), generator=rng).masked_fill(torch.arange(80) % 7 == 0, -100)
    data = Tensors(torch.randn(80, 3, generator=rng), targets)

    def task():
        return Task(nn.Linear(3, 4), data, data, nn.CrossEntropyLoss(weight=torch.arange(1.0, 5.0)))

    assert_equal(both(task, optimizer="sgd")[0])


def test_gradients_stay_where_they_are(factory, graphs):
    _, (_, learner) = both(factory, optimizer="adabound", epochs=1)  # it writes to the gradients
    before = [p.grad.data_ptr() for p in learner.model.parameters()]
    for p in learner.model.parameters():
        p.grad = None  # as an optimizer may do
    learner.epoch(0)
    assert [p.grad.data_ptr() for p in learner.model.parameters()] == before


def test_a_parameter_without_a_gradient_has_none(graphs):
    data = Tensors(torch.randn(80, 3), torch.arange(80) % 4)

    class Net(nn.Linear):
        def __init__(self):
            super().__init__(3, 4)
            self.unused = nn.Parameter(torch.ones(2))

    found, (_, learner) = both(lambda: Task(Net(), data, data), optimizer="adamw")  # decay would shrink it
    assert_equal(found)
    assert learner.model.unused.grad is None
    assert learner.model.unused.tolist() == [1, 1]


def test_a_run_goes_on_with_the_same_numbers(factory, graphs, tmp_path):
    settings = Settings.of("digits", epochs=EPOCHS, batch=32, graph=True)
    whole = train(settings, tmp_path / "whole", factory=factory)

    def stop(rows):
        if len(rows) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "broken", factory=factory, progress=stop)
    assert untimed(train(settings, tmp_path / "broken", factory=factory)) == untimed(whole)
    assert whole.config()["graph"] is True


def test_optimizers_that_evaluate_a_batch_several_times_do_without(factory, graphs):
    settings = Settings.of("digits", epochs=1, batch=32, optimizer="torch:LBFGS", graph=True)
    Learner(settings, factory, CPU, Ranks()).epoch(0)
    assert graphs == []


def test_what_waits_for_the_device_cannot_be_captured_and_is_said(monkeypatch):
    monkeypatch.setattr(known, "WITH_GRAPHS", ("cuda", "cpu"))
    monkeypatch.setattr(graph, "CudaGraphs", lambda device: Recorded())
    data = Tensors(torch.randn(80, 3), torch.arange(80) % 4)

    def waits(outputs, targets):
        return cross_entropy(outputs, targets) / outputs.abs().max().item()

    settings = Settings.of("digits", epochs=1, batch=8, graph=True)
    learner = Learner(settings, lambda: Task(nn.Linear(3, 4), data, data, waits), CPU, Ranks())
    with pytest.raises(UserError, match="cannot be captured as a CUDA graph .RuntimeError: .*; leave `graph` out") as e:
        learner.epoch(0)
    assert not isinstance(e.value, Failed)


class Single(Dataset):
    """Examples that are read one by one."""

    def __len__(self):
        return 40

    def __getitem__(self, i):
        return torch.ones(3), i % 4


def test_data_that_processes_read_are_refused(graphs):
    settings = Settings.of("digits", batch=8, graph=True, workers=0)
    with pytest.raises(UserError, match="`graph` needs training data in memory"):
        Learner(settings, lambda: Task(nn.Linear(3, 4), Single(), Single()), CPU, Ranks())


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"device": "cpu"}, "needs a CUDA device, but the device is cpu; leave `graph` out"),
        ({"device": "mps"}, "needs a CUDA device, but the device is mps; leave `graph` out"),
        ({"device": "cuda", "precision": "fp16"}, "does not work with the precision fp16; leave one of them out"),
        ({"device": "cuda:1", "accumulate": 2}, "does not work with `accumulate` 2; leave one of them out"),
        ({"device": "cuda", "processes": 2}, "does not work with 2 processes; leave one of them out"),
    ],
)
def test_what_a_graph_does_not_work_with_is_refused(given, why):
    with pytest.raises(UserError, match=f"^`graph` {why}$"):
        Settings.of("digits", graph=True, **given)


def test_the_command_refuses_it_on_a_cpu_in_one_line(capsys, tmp_path):
    assert main(["train", "--graph", "--device", "cpu", "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err == (
        "adai train: --graph needs a CUDA device, but the device is cpu; leave --graph out\n"
    )
    assert not (tmp_path / "run").exists()


def test_runs_without_a_graph_are_recorded_as_before(factory, tmp_path):
    run = train(Settings.of("digits", epochs=1, graph=False), tmp_path, factory=factory)
    assert "graph" not in Run(run.path).config()
