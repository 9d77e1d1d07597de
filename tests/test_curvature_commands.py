"""`adai curvature`, `adai noise` and Figures 6 and 7: files, tables, one-line errors."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.data import TensorDataset

from adai.cli import main
from adai.errors import UserError
from adai.lab.measure.stored import subject_at
from adai.lab.measure.subject import by_name, by_task
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from adai.lab.training.train import train
from adai.paper import figure6, figure7
from adai.paper.pretrained import FOLDER, pretrained
from adai.report import eq5
from adai.report.tables import side_by_side

pytestmark = pytest.mark.slow

PNG = b"\x89PNG"


def tiny():
    """A task: 40 points in 3 classes."""
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(40, 4, generator=generator), torch.randint(3, (40,), generator=generator))
    return SimpleNamespace(model=nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), train=data)


def nothing():
    return None


TINY = ["--task", "tests.test_curvature_commands:tiny"]


@pytest.fixture
def states(tmp_path):
    files = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        files.append(tmp_path / f"net{seed}.pt")
        torch.save(tiny().model.state_dict(), files[-1])
    return [str(file) for file in files]


def lines(file):
    with file.open() as rows:
        return list(csv.DictReader(rows))


def test_curvature_writes_table_numbers_and_figures(states, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["curvature", *states, *TINY, "--top", "3", "--dtype", "float64", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for text in ("net0", "net1", "SAM sharpness", "Batch norm: the model has none; 40 samples", f"{out}/curvature.csv"):
        assert text in printed
    table = lines(out / "curvature.csv")
    assert [row["parameters"] for row in table] == ["net0", "net1"]
    objective = subject_at(Path(states[1]), lambda: by_task(TINY[1])).objective(dtype=torch.float64)
    H = objective.hessian()
    assert float(table[1]["loss"]) == pytest.approx(objective.loss())
    assert float(table[1]["largest"]) == pytest.approx(float(torch.linalg.eigvalsh(H)[-1]), rel=1e-3)
    assert abs(float(table[1]["trace"]) - float(H.trace())) < 5 * float(table[1]["trace_se"]) + 1e-9
    about = json.loads((out / "curvature.json").read_text())["about"]["of_each"]["net1"]
    assert (about["batch_norm"], about["samples"], about["dtype"]) == ("the model has none", 40, "float64")
    assert len(lines(out / "eigenvalues.csv")) == 6
    density = [row for row in lines(out / "density.csv") if row["parameters"] == "net0"]
    x, y = (np.array([float(row[key]) for row in density]) for key in ("eigenvalue", "density"))
    assert np.trapezoid(y, x) == pytest.approx(1, rel=1e-2)
    assert all((out / name).read_bytes().startswith(PNG) for name in ("density.png", "surface.png"))


class Picky(nn.Sequential):
    """Refuses to compute with a large first bias."""

    def forward(self, x):
        if self[0].bias[0] > 10:
            raise ValueError("I will not")
        return super().forward(x)


def picky():
    task = tiny()
    task.model = Picky(*task.model)
    return task


@pytest.mark.parametrize(
    ("command", "table"),
    [
        (["curvature", "--top", "2"], "curvature.csv"),
        (["curvature", "--eq5", "--top", "2"], "eq5.csv"),
        (["noise", "--B", "8", "--minibatches", "60", "--parameters", "20"], "noise.csv"),
    ],
    ids=["curvature", "eq5", "noise"],
)
def test_nets_that_cannot_be_measured_are_named_and_the_others_measured(command, table, states, tmp_path, capsys):
    good, bad = torch.load(states[0]), str(tmp_path / "bad.pt")
    torch.save({**good, "0.bias": good["0.bias"] + 100}, bad)
    out, gone = tmp_path / "out", str(tmp_path / "gone.pt")
    rest = [*command[1:], "--task", "tests.test_curvature_commands:picky", "--out", str(out)]
    assert main([command[0], gone, states[0], bad, states[1], *rest]) == 1
    printed = capsys.readouterr()
    assert list(dict.fromkeys(row["parameters"] for row in lines(out / table))) == ["net0", "net1"]
    reason = "cannot compute the loss of this model on its data: ValueError: I will not"
    said = [f"gone.pt: cannot read {gone}: No such file or directory", f"bad: {reason} (see {out}/error.txt)"]
    assert printed.out.splitlines()[-2:] == said
    assert printed.err == ""
    assert "I will not" in (out / "error.txt").read_text()

    assert main([command[0], gone, bad, *rest[:-1], str(tmp_path / "none")]) == 2
    error = capsys.readouterr().err
    assert error == f"adai {command[0]}: {said[0]}\n{said[1]}\n".replace(str(out), str(tmp_path / "none"))


def test_a_comparison_that_cannot_be_measured_is_named_and_the_others_measured(states, tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "config.json").write_text('{"optimizers": {}}')
    out = tmp_path / "out"
    assert main(["curvature", str(empty), states[0], *TINY, "--top", "2", "--out", str(out)]) == 1
    assert [row["parameters"] for row in lines(out / "curvature.csv")] == ["net0"]
    assert f"{empty}: {empty} has no finished run that has learned anything" in capsys.readouterr().out
    assert main(["curvature", str(empty)]) == 2
    assert capsys.readouterr().err.startswith(f"adai curvature: {empty} has no finished run")


def test_batch_statistics_are_written_into_the_result(tmp_path):
    out = tmp_path / "out"
    task = ["--task", "tests.test_curvature_commands:normed", "--batch-norm", "batch", "--batch", "20"]
    assert main(["curvature", *task, "--top", "2", "--out", str(out)]) == 0
    (about,) = json.loads((out / "curvature.json").read_text())["about"]["of_each"].values()
    assert about["batch_norm"] == "statistics of each minibatch of 20"


def normed():
    task = tiny()
    task.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    return task


def test_eq5_is_exact_for_small_nets_and_projected_for_large_ones(tmp_path, capsys, monkeypatch):
    arguments = ["curvature", *TINY, "--eq5", "--dtype", "float64", "--top", "2", "--out", str(tmp_path)]
    assert main(arguments) == 0
    objective = by_task(TINY[1]).objective(dtype=torch.float64)
    values = [float(row["H"]) for row in lines(tmp_path / "directions.csv")]
    np.testing.assert_allclose(values, torch.linalg.eigvalsh(objective.hessian()), atol=1e-10)
    assert [row["B"] for row in lines(tmp_path / "eq5.csv")] == ["1", "10"]  # 100 is more than there is
    assert (tmp_path / "figure7.png").read_bytes().startswith(PNG)
    assert "slope" in capsys.readouterr().out
    monkeypatch.setattr("adai.commands.curvature.EXACT", 10)
    assert main(arguments) == 0
    kinds = [row["kind"] for row in lines(tmp_path / "directions.csv")]
    assert kinds == ["eigenvector"] * 2 + ["random"] * 49


def test_eq5_takes_each_runs_own_samples(tmp_path, capsys, monkeypatch):
    """C of a minibatch depends on the number of samples that it is drawn from."""
    for limit in (60, 200):
        settings = Settings.of("digits", model="fc3-4", optimizer="sgd", epochs=1, limit=limit)
        train(settings, tmp_path / str(limit))
    monkeypatch.setattr("adai.commands.curvature.EXACT", 10)
    runs, factors = [str(tmp_path / "200"), str(tmp_path / "60")], {}
    for given in (runs[:1], runs):
        out = tmp_path / f"out{len(given)}"
        assert main(["curvature", *given, "--eq5", "--top", "5", "--out", str(out)]) == 0
        factors[len(given)] = {(row["parameters"], row["B"]): row["factor"] for row in lines(out / "eq5.csv")}
    assert list(factors[2]) == [("200", "1"), ("200", "10"), ("200", "100"), ("60", "1"), ("60", "10")]
    assert factors[1].items() <= factors[2].items()
    printed = capsys.readouterr().out
    for text in (
        "200: Batch norm: the model has none; 200 samples.",
        "60: Batch norm: the model has none; 60 samples.",
    ):
        assert text in printed


def test_noise_of_batch_statistics_is_that_of_minibatches_of_its_size(tmp_path):
    task = ["--task", "tests.test_curvature_commands:normed", "--batch-norm", "batch", "--B", "8"]
    few = ["--minibatches", "60", "--parameters", "10", "--out", str(tmp_path)]
    assert main(["noise", *task, *few]) == 0
    (about,) = json.loads((tmp_path / "noise.json").read_text())["about"]["of_each"].values()
    assert about["batch_norm"] == "statistics of each minibatch of 8"


def sorted_by_class():
    x, y = torch.randn(60, 4), torch.arange(60) // 20
    return SimpleNamespace(model=normed().model, train=TensorDataset(x, y))


def test_data_that_are_sorted_are_shuffled_where_minibatches_matter():
    subject = by_task("tests.test_curvature_commands:sorted_by_class")
    in_order, _, _ = subject._drawn(None, 0)
    shuffled, targets, _ = subject._drawn(None, 0, shuffled=True)
    assert not torch.equal(in_order, shuffled)
    assert torch.equal(in_order.sum(1).sort().values, shuffled.sum(1).sort().values)
    assert len(set(targets[:20].tolist())) == 3
    by_batch, running = (subject.objective(batch_norm=mode, batch=20) for mode in ("batch", "running"))
    assert torch.equal(by_batch._inputs, shuffled)
    assert torch.equal(running._inputs, in_order)


def test_a_constant_loss_and_noise_of_equal_sizes_can_be_drawn(tmp_path):
    """The loss is a plane, and the largest values of the noise all have the same size."""
    dead = ["--task", "tests.test_curvature_commands:dead", "--top", "2", "--out", str(tmp_path / "dead")]
    assert main(["curvature", *dead]) == 0
    assert (tmp_path / "dead" / "surface.png").read_bytes().startswith(PNG)
    binary = ["--task", "tests.test_curvature_commands:binary", "--B", "1", "--minibatches", "60", "--parameters", "20"]
    assert main(["noise", *binary, "--out", str(tmp_path / "binary")]) == 0
    assert (tmp_path / "binary" / "tails.png").read_bytes().startswith(PNG)


def test_tables_of_many_nets_fit_a_terminal(capsys):
    """With one column for each net there would be no room for the numbers."""
    wide = "1.234 ± 0.0012"
    names = [f"a-long-name-of-a-run/seed{n}" for n in range(3)]
    Console(width=80).print(side_by_side("a title", names, [("trace", [wide] * 3), ("loss", ["0.1"] * 3)], each=2))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert [line.count(wide) for line in out.splitlines() if "trace" in line] == [2, 1]
    assert all(f"seed{n}" in out for n in range(3))
    assert "…" not in out
    row = eq5.Row("pretrained", 100, 12345, *(0.123456,) * 9, 0.5, 0.5)
    Console(width=80).print(eq5.as_table([row]))
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for text in ("pretrained", "12345", "0.123", "(0.123", "0.50"):
        assert text in out


def dead():
    net = tiny().model
    with torch.no_grad():
        net[0].bias.fill_(-100)
        net[2].weight.zero_()
    net[2].bias.requires_grad_(False)
    return SimpleNamespace(model=net, train=tiny().train)


def binary():
    net = nn.Linear(40, 2)
    nn.init.zeros_(net.weight)
    nn.init.zeros_(net.bias)
    return SimpleNamespace(model=net, train=TensorDataset((torch.randn(500, 40) > 0).float(), torch.randint(2, (500,))))


def frozen():
    task = tiny()
    task.model.requires_grad_(False)
    return task


def empty():
    return SimpleNamespace(model=tiny().model, train=TensorDataset(torch.zeros(0, 4), torch.zeros(0).long()))


def unlike():
    return SimpleNamespace(model=nn.Linear(7, 3), train=tiny().train)


def one_sample():
    x, y = tiny().train.tensors
    return SimpleNamespace(model=tiny().model, train=TensorDataset(x[:1], y[:1]))


@pytest.mark.parametrize("command", ["curvature", "noise", "eq5"])
def test_an_interruption_and_a_full_disk_while_files_are_written(command, tmp_path, monkeypatch, capsys):
    few = ["--minibatches", "60", "--parameters", "20", "--B", "8"] if command == "noise" else ["--top", "2"]
    arguments = ["curvature", "--eq5"] if command == "eq5" else [command]

    def status(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(f"adai.report.{command}.write_csv", fail)
        return main([*arguments, *TINY, *few, "--out", str(tmp_path / "out")])

    assert status(KeyboardInterrupt()) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert status(OSError(28, "No space left on device")) == 2
    error = capsys.readouterr().err
    assert "No space left on device; give another folder" in error
    assert error.count("\n") == 1


def test_noise_writes_table_numbers_and_figures(states, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["noise", *states, *TINY, "--B", "8", "--minibatches", "60", "--parameters", "30", "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for text in ("Anderson-Darling rejects", "(Gaussian", "noise scale", f"{out}/noise.csv"):
        assert text in printed
    table = lines(out / "noise.csv")
    assert [row["parameters"] for row in table] == ["net0", "net1"]
    assert 0 <= float(table[0]["anderson_darling_rejected"]) <= 1
    assert len(lines(out / "parameters.csv")) <= 60
    pictures = ("figure6.png", "figure6-2.png", "tails.png", "tails-2.png")
    assert all((out / name).read_bytes().startswith(PNG) for name in pictures)


@pytest.mark.parametrize("command", ["curvature", "noise"])
def test_data_and_net_that_no_run_would_use_are_refused(command, tmp_path, monkeypatch, capsys):
    for seed in (0, 1):
        settings = Settings.of("digits", model="fc3-4", optimizer="sgd", epochs=1, limit=60, seed=seed)
        train(settings, tmp_path / f"seed{seed}")
    run, checkpoint = tmp_path / "seed0", tmp_path / "seed1" / "checkpoint-000001.pt"
    plain = run / "plain.pt"  # it is in a run's folder, but not a checkpoint of the run
    torch.save(by_name("digits", "fc3-4").model.state_dict(), plain)
    few = ["--samples", "60", *(["--top", "2"] if command == "curvature" else ["--B", "8", "--minibatches", "60"])]
    monkeypatch.setattr("adai.report.noise.write_figures", lambda *_, **__: None)
    monkeypatch.setattr("adai.report.curvature.draw_surfaces", lambda *_: None)

    def status(*arguments):
        return main([command, *map(str, arguments), *few, "--out", str(tmp_path / "out")])

    for named in (["--dataset", "digits"], ["--model", "fc3-4"], TINY, ["--dataset", "digits", "--model", "fc3-4"]):
        assert status(run, checkpoint, *named) == 2
        error = capsys.readouterr().err
        assert f"every RUN brings its own data and net; leave out {' and '.join(named[::2])}" in error
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert status(run, checkpoint) == 0
    assert status(run, plain, "--model", "fc3-4") == 2
    assert "of another dataset, model, states, which would be overwritten" in capsys.readouterr().err
    (tmp_path / "out" / f"{command}.json").unlink()
    assert status(run, plain, "--model", "fc3-4") == 0
    about = json.loads((tmp_path / "out" / f"{command}.json").read_text())["about"]
    assert (about["dataset"], about["model"]) == ("digits", "fc3-4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curvature", "gone.pt"], "cannot read gone.pt: No such file"),
        (["curvature", "{file}"], "is not a state dict saved by torch"),
        (["curvature", "{other}", *TINY], "does not fit this net"),
        (["curvature", "--task", "no.such:task"], "cannot import the task"),
        (["curvature", *TINY, "--dataset", "mnist"], "brings its own data and net; leave out --dataset"),
        (["curvature", "--task", "tests.test_curvature_commands:gone"], "has no function 'gone'"),
        (["curvature", "--task", "tests.test_curvature_commands:nothing"], "returns NoneType"),
        (["curvature", "--rho", "0"], "'0' is not a number above 0"),
        (["curvature", "--model", "resnet19"], "unknown model 'resnet19'"),
        (["curvature", *TINY, "--top", "51"], "--top 51: there are 51 parameters; ask for fewer"),
        (["curvature", "--task", "tests.test_curvature_commands:frozen"], "the model has no parameter that requires"),
        (["curvature", "--task", "tests.test_curvature_commands:empty"], "as many targets as inputs, at least 1"),
        (
            ["noise", "--task", "tests.test_curvature_commands:unlike"],
            "cannot compute the loss of this model on its data: RuntimeError",
        ),
        (["curvature", "--task", "tests.test_curvature_commands:one_sample", "--eq5"], "all 1 samples has no noise"),
        (["noise", *TINY, "--minibatches", "39"], "39 minibatches and 51 parameters; tail indices need 40 of each"),
        (["noise", *TINY, "--B", "41"], "B = 41"),
        (["noise", *TINY, "--B", "40"], "no noise"),
        (["noise", "--device", "warp"], "cannot use device 'warp'"),
        (["curvature", "--out", "{file}"], "File exists; give another folder with --out"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(arguments, message, tmp_path, capsys):
    (tmp_path / "file").write_text("no checkpoint")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other")
    given = [text.format(file=tmp_path / "file", other=tmp_path / "other") for text in arguments]
    given += [] if "--out" in given else ["--out", str(tmp_path / "out")]
    try:
        status = main(given)
    except SystemExit as exit_:
        status = exit_.code
    error = capsys.readouterr().err
    assert status == 2
    assert message in error
    assert error.count("\n") == 1


def test_the_seed_draws_the_weights_and_leaves_the_callers_generator_alone():
    state = torch.random.get_rng_state()
    one, same, other = (by_name("digits", "smallnet", seed=seed).objective(samples=20).theta for seed in (0, 0, 1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_figure7_of_the_digits(tmp_path):
    table = figure7.figure7(tmp_path, figure7.Settings(dataset="digits", model="fc3-4", epochs=2, samples=60))
    assert [(row.parameters, row.B) for row in table] == [(p, B) for p in ("pretrained", "random") for B in (1, 10)]
    assert json.loads((tmp_path / "eq5.json").read_text())["about"]["dtype"] == "float64"
    assert (tmp_path / "figure7.png").read_bytes().startswith(PNG)


def test_figure6_of_the_digits(tmp_path):
    settings = figure6.Settings(dataset="digits", epochs=1, minibatches=40, parameters=20, B=32)
    trained, random = figure6.figure6(tmp_path, settings)
    assert (trained.parameters, random.parameters) == ("after 1 epochs", "random initialisation")
    assert (tmp_path / "figure6.png").read_bytes().startswith(PNG)
    about = json.loads((tmp_path / "noise.json").read_text())["about"]
    assert about["minibatches"] == 40
    assert about["training"]["test_error"] == Run(tmp_path / FOLDER).rows()[-1]["test_error"]
    # The trained net is kept and can be measured: it has the same noise as in the figure.
    few = ["--B", "32", "--minibatches", "40", "--parameters", "20", "--out", str(tmp_path / "again")]
    assert main(["noise", str(tmp_path / FOLDER), *few]) == 0
    (again,) = lines(tmp_path / "again" / "noise.csv")
    assert float(again["noise_scale"]) == pytest.approx(trained.noise_scale, rel=1e-5)


def test_pretraining_goes_on_after_an_interruption(tmp_path):
    """Ten steps per epoch; of two epochs, half of the second is lost."""
    told = []

    def interrupting(what, more, total):
        told.append((what, more, total))
        if len(told) == 16:
            raise KeyboardInterrupt

    whole = pretrained(tmp_path / "whole", "digits", "fc3-4", epochs=2)
    with pytest.raises(KeyboardInterrupt):
        pretrained(tmp_path / "cut", "digits", "fc3-4", epochs=2, progress=interrupting)
    assert told == [("training", 0, 20)] + [("training", 1, 20)] * 15
    told.clear()
    rest = pretrained(tmp_path / "cut", "digits", "fc3-4", epochs=2, progress=interrupting)
    assert told == [("training", 10, 20)] + [("training", 1, 20)] * 10
    again = pretrained(tmp_path / "cut", "digits", "fc3-4", epochs=2, progress=interrupting)
    assert len(told) == 11  # nothing is left to do
    assert whole.ended == rest.ended == again.ended
    for one in (rest, again):
        torch.testing.assert_close(one.trained.model.state_dict(), whole.trained.model.state_dict(), rtol=0, atol=0)
    fresh = by_name("digits", "fc3-4").model.state_dict()
    torch.testing.assert_close(whole.random.model.state_dict(), fresh, rtol=0, atol=0)


def test_pretraining_that_diverged_is_said(tmp_path):
    pretrained(tmp_path, "digits", "fc3-10", epochs=5)
    run = Run(tmp_path / FOLDER)
    for what, died in (("did not learn", {"test_error": 95.0}), ("diverged", {"train_loss": None})):
        run.write_rows([{**row, **died} for row in run.rows()])
        with pytest.raises(UserError, match=f"{what}, so there is no net to measure"):
            pretrained(tmp_path, "digits", "fc3-10", epochs=5)
