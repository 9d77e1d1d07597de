"""Any optimizer takes part: by name or as a class, through training, an interruption, tuning and the report."""

import csv
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from adai import Adai
from adai.cli import main
from adai.errors import UserError
from adai.lab.host.ranks import Ranks
from adai.lab.optimizers.contenders import contender
from adai.lab.optimizers.named import importable
from adai.lab.optimizers.recipes import RECIPES, Range, Recipe, recipe
from adai.lab.queue.compare import compare
from adai.lab.queue.executors import Processes
from adai.lab.results.chosen import how
from adai.lab.results.comparison import read
from adai.lab.results.run import Run
from adai.lab.settings import Settings
from adai.lab.training import checkpoints
from adai.lab.training.closure import Closure
from adai.lab.training.learner import Learner
from adai.lab.training.train import train
from adai.report.style import style
from tests import any_optimizer
from tests.untimed import untimed

HERE = "tests.any_optimizer"
CPU = torch.device("cpu")

# By label what is run, with which options, and how many gradient evaluations a step takes (None: it varies).
KINDS = {
    "lion": ("pytorch_optimizer:Lion", {"lr": 0.01, "betas": (0.8, 0.95)}, 1),
    "nadam": ("torch:NAdam", {"lr": 0.01}, 1),
    "free": ("schedulefree:AdamWScheduleFree", {"lr": 0.01}, 1),
    "sam": ("pytorch_optimizer:SAM", {"base_optimizer": "torch:SGD", "lr": 0.1, "rho": 0.1}, 2),
    "sam of a function": (f"{HERE}:sam", {"rho": 0.1}, 2),
    "lbfgs": ("torch:LBFGS", {"lr": 0.1, "max_iter": 4}, None),
    "mine": (f"{HERE}:Mine", {"beta": 0.8}, 1),
    "two": (f"{HERE}:two_groups", {"ratio": 0.2}, 1),
}

TASK = f"{HERE}:task"
SHORT = {"epochs": 3, "batch": 16, "warmup_steps": 2}


def settings(label, **given):
    spec, options, _ = KINDS[label]
    return Settings.of(TASK, optimizer=spec, label=label, options=options, **{**SHORT, **given})


class Killed(BaseException):
    """Nothing in the lab may catch it."""


@pytest.mark.parametrize("label", KINDS)
def test_it_trains_and_goes_on_bit_for_bit_after_an_interruption(label, tmp_path):
    straight = train(settings(label), tmp_path / "straight")
    last = straight.rows()[-1]
    assert straight.status == "finished"  # it learned
    assert last["lr"] > 0
    evaluations = KINDS[label][2]
    assert all(
        row["gradient_evaluations"] == evaluations * row["steps"] if evaluations else row["gradient_evaluations"] > 6
        for row in straight.rows()
    )

    def stop(rows):
        if len(rows) == 1:
            raise Killed

    with pytest.raises(Killed):
        train(settings(label), tmp_path / "broken", progress=stop)
    torch.rand(3)  # another process starts elsewhere
    broken = train(settings(label), tmp_path / "broken")
    assert untimed(broken) == untimed(straight)
    a, b = (checkpoints.load(run.path)["model"] for run in (broken, straight))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert (broken.config()["optimizer"], broken.config()["label"]) == (KINDS[label][0], label)


@pytest.mark.slow
def test_all_are_tuned_compared_and_drawn(tmp_path, capsys):
    names = [f"{label}={spec}" for label, (spec, _, _) in KINDS.items()]
    options = {label: own for label, (_, own, _) in KINDS.items()}
    searched = {
        "mine": {"beta": Range(0.5, 0.99)},
        "sam": {"rho": Range(0.01, 0.5, log=True)},
        "lbfgs": {"max_iter": Range(2, 6)},
    }
    given = {"task": TASK, "seeds": 1, "overrides": options, "ranges": searched, "tune": 2, **SHORT}
    assert compare(tmp_path, optimizers=["adai", *names], **{**given, "epochs": 2}) == []
    tuned = json.loads((tmp_path / "tuning" / "tuning.json").read_text())
    assert tuned["ranges"]["mine"]["beta"] == [0.5, 0.99]
    assert tuned["ranges"]["mine"]["lr"] == pytest.approx([0.05 / 30, 0.05 * 30])
    assert tuned["trials"]["mine"][0]["beta"] == 0.8  # what was given comes first
    assert all(isinstance(trial["max_iter"], int) for trial in tuned["trials"]["lbfgs"])
    assert all(len(trials) == 2 for trials in tuned["trials"].values())
    assert main(["report", str(tmp_path)]) == 0
    assert "gradients" in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert all(f"({spec})" in page for spec, _, _ in KINDS.values())
    assert "sam 2" in page
    with (tmp_path / "summary.csv").open() as file:
        rows = {row["optimizer"]: row for row in csv.DictReader(file)}
    assert float(rows["sam"]["gradients_per_step"]) == 2
    assert rows.keys() == {"adai", *KINDS}


# --- closures ---------------------------------------------------------------------------------------------------------


def closure_on_a_batch():
    """A net with dropout and batch norm, and the closure of one batch."""
    made = any_optimizer.task()
    inputs, targets = made.train[:16]

    def evaluate():
        made.model.zero_grad()
        loss = cross_entropy(made.model(inputs), targets)
        loss.backward()
        return loss

    return made.model, Closure(list(made.model.parameters()), list(made.model.buffers()), evaluate)


def test_a_closure_evaluates_anew_with_the_same_dropout_and_takes_batch_norm_in_once():
    torch.manual_seed(0)
    model, closure = closure_on_a_batch()
    first = closure.evaluate()
    gradients = [p.grad.clone() for p in model.parameters()]
    statistics = [buffer.clone() for buffer in model.buffers()]
    ahead = torch.get_rng_state()
    assert closure() is first  # nothing has changed
    assert closure.evaluations == 1
    model.zero_grad()
    assert torch.equal(closure(), first)
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))
    assert closure.evaluations == 2
    next(model.parameters()).data.add_(1.0)  # which leaves no trace but the values
    assert closure() != first
    assert closure.evaluations == 3
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), statistics, strict=True))
    assert torch.equal(torch.get_rng_state(), ahead)


def test_sam_takes_the_step_of_its_paper():
    """∇L at w + ρ g/‖g‖ moves w, whatever dropout and batch norm do, over the pieces of an accumulated batch too."""
    given = {"lr": 0.1, "rho": 0.1}
    options = {**SHORT, "epochs": 1, "batch": 96, "schedule": "constant", "warmup_steps": 0}
    for accumulate in (1, 3):
        chosen = Settings.of(TASK, optimizer=f"{HERE}:sam", options=given, accumulate=accumulate, **options)
        learner = Learner(chosen, any_optimizer.task, CPU, Ranks())
        state, draws = torch.get_rng_state(), learner.draws.get_state()
        mirror = Learner(chosen, any_optimizer.task, CPU, Ranks())
        torch.set_rng_state(state)
        learner.epoch(0)

        def gradient(mirror, state, draws):
            torch.set_rng_state(state)
            mirror.draws.set_state(draws)
            mirror.model.train()
            mirror.model.zero_grad()
            pieces = list(mirror._pieces())
            for x, y in mirror.train.batches([piece.where for piece in pieces], mirror.draws):
                (cross_entropy(mirror.model(x), y) * len(y) / 96).backward()
            return [p.grad.clone() for p in mirror.model.parameters()]

        before = [p.detach().clone() for p in mirror.model.parameters()]
        g = gradient(mirror, state, draws)
        norm = torch.cat([each.flatten() for each in g]).norm()
        with torch.no_grad():
            for p, each in zip(mirror.model.parameters(), g, strict=True):
                p.add_(0.1 * each / norm)
        at = gradient(mirror, state, draws)
        for p, w, each in zip(learner.model.parameters(), before, at, strict=True):
            torch.testing.assert_close(p.detach(), w - 0.1 * each, rtol=1e-4, atol=1e-6)


def test_schedule_free_weights_are_the_averaged_ones_in_evaluation_and_checkpoint(tmp_path):
    learner = Learner(settings("free"), any_optimizer.task, CPU, Ranks())
    learner.epoch(0)
    kept = {key: value.clone() for key, value in learner.state()["model"].items()}
    evaluated = [p.detach().clone() for p in learner.model.parameters()]
    learner.optimizer.train()
    assert not all(map(torch.equal, evaluated, learner.model.parameters()))
    learner.optimizer.eval()
    names = [name for name, _ in learner.model.named_parameters()]
    for name, value in zip(names, evaluated, strict=True):
        assert torch.equal(kept[name], value)


def test_the_schedule_multiplies_every_groups_own_rate():
    learner = Learner(settings("two", epochs=1), any_optimizer.task, CPU, Ranks())
    learner.epoch(0)
    first, second = (group["lr"] for group in learner.optimizer.param_groups)
    assert first < 0.1
    assert second == pytest.approx(0.2 * first)


def test_recipes_are_stepped_as_before_and_counted_once(tmp_path):
    rows = train(Settings.of(TASK, optimizer="adai", **SHORT), tmp_path).rows()
    assert [row["gradient_evaluations"] for row in rows] == [6, 6, 6]


# --- names ------------------------------------------------------------------------------------------------------------


def test_what_a_name_stands_for():
    assert recipe("adai").build(nn.Linear(2, 1)).__class__ is Adai
    assert contender("", "torch:NAdam").options == {"lr": 0.002, "weight_decay": 0.0}
    assert contender("", "torch:NAdam").name == "NAdam"
    fast = contender("fast", "adai", {"lr": 3.0})
    options = {"lr": 3.0, "weight_decay": 5e-4, "min_inertia": 0.9}
    assert (fast.label, fast.spec, fast.options) == ("fast", "adai", options)
    two = contender("", f"{HERE}:two_groups").build(nn.Linear(2, 1))
    assert [group["lr"] for group in two.param_groups] == pytest.approx([0.1, 0.01])
    assert contender("sgd", "sgd").label == "SGD momentum"


def test_classes_functions_and_recipes_of_python_have_names_too():
    known = contender("mine", any_optimizer.Mine, {"beta": 0.5})
    assert (known.spec, known.options["beta"]) == (f"{HERE}:Mine", 0.5)
    assert importable(known.spec)
    assert contender("a", torch.optim.NAdam).spec == "torch:NAdam"
    local = contender("local", lambda model: torch.optim.SGD(model.parameters(), lr=0.3))
    assert not importable(local.spec)
    assert recipe(local.spec).build(nn.Linear(2, 1)).param_groups[0]["lr"] == 0.3
    with pytest.raises(UserError, match="other processes cannot import the optimizer local; define what they run"):
        compare("runs", optimizers=[local], task=TASK, execute=Processes(2))
    with pytest.raises(UserError, match="was defined in another process"):
        recipe("__main__:Mine as mine")
    own = contender("", Recipe("Nesterov", torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}))
    assert (own.name, own.spec, own.options["weight_decay"]) == ("Nesterov", "torch:SGD", 0.0)


def test_a_run_without_a_label_is_what_it_was_for_earlier_versions(tmp_path):
    old = Settings.of(TASK, optimizer="sgd", **SHORT)
    assert "label" not in old.as_dict()
    train(old, tmp_path)
    config = Run(tmp_path).config()
    assert (config["optimizer"], "label" in config) == ("sgd", False)
    tuples = Settings.of(TASK, optimizer="torch:Adam", options={"betas": (0.8, 0.9)}, **SHORT)
    assert tuples == Settings(**json.loads(json.dumps(tuples.as_dict())))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["torch:NAdm"], "torch.optim has no 'NAdm'; did you mean NAdam"),
        (["nowhere:Thing"], "cannot import the optimizer 'nowhere:Thing': No module named 'nowhere'"),
        (["torch:lr_scheduler"], "'torch:lr_scheduler' is a module; give a class of optimizers, or a function"),
        (["collections:OrderedDict"], "'collections:OrderedDict' is a class that does not derive from torch.optim"),
        ([f"{HERE}:number"], "number returns int; it has to return a torch.optim.Optimizer"),
        ([f"{HERE}:elsewhere"], "elsewhere has no parameter of the model"),
        ([f"{HERE}:Unable"], "Unable cannot take a step with this model: RuntimeError: no step today"),
        ([f"{HERE}:Unkept"], "Unkept cannot be kept in a checkpoint (it holds torch.nn.modules.linear.Linear)"),
        ([f"{HERE}:NoRate"], "NoRate has no default for lr; give NoRate.lr a value in --option"),
        (
            ["pytorch_optimizer:SAM"],
            "SAM has no default for base_optimizer; give SAM.base_optimizer a value in --opt",
        ),
        (["a=adai", "a=sgd"], "two optimizers have the label 'a'"),
        (["sgd=torch:SGD"], "the label 'sgd' is the name of a recipe, but stands for 'torch:SGD'"),
        (["tuning=adai"], "the label 'tuning' names another folder"),
        (["../x=adai"], "the label '../x' may only have letters, digits, spaces and _ . + -;"),
        (["=adai"], "'=adai': give label=name"),
        (
            [f"mine={HERE}:Mine", "--option", "mine.gamma=1"],
            "mine takes no option 'gamma'; it takes lr, beta",
        ),
        ([f"mine={HERE}:Mine", "--option", "yours.beta=1"], "give one of the optimizers that run (mine) and an option"),
        ([f"mine={HERE}:Mine", "--option", "mine.beta"], "--option mine.beta: give a name and a value"),
        ([f"mine={HERE}:Mine", "--option", "mine.lr=1", "--lr", "mine=2"], "mine.lr is given twice, as 2.0 and 1"),
        ([f"mine={HERE}:Mine", "--option", "mine.beta=x"], "mine cannot take a step with this model: TypeError"),
        (["--tune", "2", "--range", "adai.eps=0.9:0.5"], "the range of adai.eps is 0.9 to 0.5; the second number has"),
        (["--tune", "2", "--range", "adai.eps=0.5:0.5"], "the range of adai.eps is 0.5 to 0.5; the second number has"),
        (["--tune", "2", "--range", "adai.eps=0:1:log"], "the range of adai.eps begins at 0; a logarithmic range"),
        (["--tune", "2", "--range", "adai.gamma=0:1"], "adai takes no option 'gamma' to search"),
        (["--tune", "2", "--range", "adai.eps=1"], "--range adai.eps=1: give low:high or low:high:log"),
        (["--range", "adai.eps=0.1:1"], "--range says what --tune searches; add --tune N"),
        (
            ["torch:LBFGS", "--precision", "fp16"],
            "LBFGS evaluates each batch several times, which fp16 does not support",
        ),
        (["a=torch:LBFGS", "--option", "a.lr=-1"], "making the optimizer a with lr=-1"),
    ],
)
def test_bad_input_is_one_line_before_any_training(arguments, message, tmp_path, capsys):
    names = [] if arguments[0].startswith("--") else ["--optimizers"]
    given = ["--task", TASK, "--epochs", "1", "--out", str(tmp_path / "out")]
    assert main(["compare", *given, *names, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("metrics.jsonl"))


def test_a_label_cannot_change_what_it_stands_for(tmp_path):
    common = {"task": TASK, "seeds": 1, "epochs": 1, "batch": 32}
    compare(tmp_path, optimizers=["a=torch:SGD"], overrides={"a": {"lr": 0.1}}, **common)
    with pytest.raises(UserError, match="a is torch:SGD there, torch:Adam here"):
        compare(tmp_path, optimizers=["a=torch:Adam"], overrides={"a": {"lr": 0.1}}, **common)
    compare(tmp_path, optimizers=["b=torch:Adam"], **common)  # another one joins
    assert read(tmp_path).names == ["b", "a"]


def test_train_and_lr_take_any_optimizer_and_its_options(tmp_path, capsys):
    common = ["--task", TASK, "--batch", "16", "--optimizer", f"{HERE}:sam", "--option", "rho=0.2", "lr=0.05"]
    assert main(["train", *common, "--epochs", "1", "--out", str(tmp_path / "run")]) == 0
    assert Run(tmp_path / "run").config()["options"] == {"lr": 0.05, "rho": 0.2}
    assert main(["lr", *common, "--seeds", "1", "--steps", "20", "--out", str(tmp_path / "lr")]) == 0
    assert "sam on" in " ".join(capsys.readouterr().out.split())


def test_stability_refuses_what_it_does_not_know_by_name(tmp_path, capsys):
    train(settings("lion", epochs=1), tmp_path)
    assert main(["stability", str(tmp_path), "--out", str(tmp_path / "s")]) == 2
    assert "no stability limit is known for Lion" in capsys.readouterr().err


@pytest.mark.slow
def test_the_documented_commands_run(tmp_path, monkeypatch):
    """Those of "An optimizer of your own" in docs/compare.md, with the file that it shows, on few images."""
    page = (Path(__file__).parents[1] / "docs" / "compare.md").read_text()
    section = page.split("## An optimizer of your own\n")[1].split("\n## ")[0]
    (tmp_path / "mine.py").write_text(re.search(r"```python\n(.*?)```", section, re.S)[1])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    commands = re.findall(r"^adai (.*)$", section, re.M)
    assert len(commands) == 5
    for command in commands:
        seeds = ["--seeds", "1"] if command.startswith("compare") else []
        assert main([*shlex.split(command), "--limit", "64", "--epochs", "1", "--batch", "32", *seeds]) == 0, command
    monkeypatch.delitem(sys.modules, "mine")
    assert "heavy (mine:Heavy)" in (tmp_path / "runs" / "heavy" / "report.html").read_text()
    assert Run(tmp_path / "runs" / "one").config()["options"] == {"lr": 0.05, "weight_decay": 0.0, "beta": 0.8}
    tuned = json.loads((tmp_path / "runs" / "tuned" / "tuning" / "tuning.json").read_text())
    assert tuned["ranges"]["heavy"]["beta"] == [0.5, 0.99]


# --- figures ----------------------------------------------------------------------------------------------------------


def test_twelve_labels_have_looks_of_their_own_and_never_adais():
    names = ["adai", *(f"label {number}" for number in range(12))]
    looks = [style(name, names) for name in names]
    assert len({look.light for look in looks}) == len({(look.marker, look.dashes) for look in looks}) == 13
    assert style("adaiw") not in looks[1:]
    mixed = [*list(RECIPES)[:5], *names[1:8]]
    assert len({style(name, mixed).light for name in mixed}) == 12


def test_the_verdict_says_whose_defaults_they_are(tmp_path):
    common = {"task": TASK, "seeds": 1, "epochs": 1, "batch": 32}
    compare(tmp_path, optimizers=["adai", "torch:NAdam", f"mine={HERE}:Mine"], **common)
    assert how(read(tmp_path)) == "At untuned CIFAR settings (Adai) and the constructors’ defaults (NAdam, mine)"
    compare(tmp_path, optimizers=[f"other={HERE}:Mine"], overrides={"other": {"beta": 0.5}}, **common)
    assert re.match(r"At settings chosen by hand \(other: beta 0.5\) and untuned", how(read(tmp_path)))


def test_the_verdict_says_that_a_function_sets_the_options(tmp_path):
    common = {"task": TASK, "seeds": 1, "epochs": 1, "batch": 32}
    compare(tmp_path, optimizers=[f"mine={HERE}:two_groups"], **common)
    assert how(read(tmp_path)) == "At the settings of its function"
    compare(tmp_path, optimizers=["torch:NAdam"], **common)
    both = "At the constructors’ defaults (NAdam) and the settings of its function (mine)"
    assert how(read(tmp_path)) == both


@pytest.mark.parametrize(("own", "of_runs", "warned"), [(5, 7, True), (5, 0, False), (0, 7, False)])
def test_two_warm_ups_that_multiply_are_a_warning(own, of_runs, warned, tmp_path, caplog):
    given = {"task": TASK, "seeds": 1, "epochs": 1, "batch": 32, "warmup_steps": of_runs}
    compare(tmp_path, optimizers=["adai", "sgd"], overrides={"adai": {"warmup_steps": own}}, **given)
    text = "adai has a warm-up of its own (5 steps) besides that of the runs (7 steps), and the two multiply"
    assert [message.partition(";")[0] for message in caplog.messages] == [text] * warned
