"""A comparison at several learning rates: what is run where, which rate is the best, and what is said at it."""

import csv
import json
import math

import pytest

from adai.cli import main
from adai.commands.report import show
from adai.errors import UserError
from adai.lab.host.terminal import terminal
from adai.lab.optimizers.recipes import RECIPES
from adai.lab.queue.compare import compare
from adai.lab.results.comparison import read
from adai.lab.results.folders import RunFolder, factors_in, folder_at
from adai.lab.results.learning_rates import read_grid
from adai.lab.results.summary import summarise, verdict
from adai.report.learning_rates import cells, picture, write_points
from adai.report.style import style
from adai.report.tables import NONE
from tests.folders import comparison

NAN = math.nan
DEAD = 90.0  # of the digits, where always answering one class has 89.65 %
ERRORS = {
    0.3: {"adai": [4.0, 4.1, 4.2], "sgd": [3.4, 3.5, 3.7], "adam": [None] * 3},
    1.0: {"adai": [3.0, 3.1, 3.2], "sgd": [3.9, 3.8, 3.7], "adam": [NAN, DEAD, NAN]},
    3.0: {"adai": [2.0, DEAD, NAN], "sgd": [9.0, 9.1, 9.2], "adam": [NAN] * 3},
}


def grid_of(path, errors=ERRORS, **config):
    """Write a comparison at several rates."""
    for factor, of_optimizers in errors.items():
        folder = comparison(folder_at(path, factor), of_optimizers, **config)
        content = json.loads((folder / "config.json").read_text())
        for name in of_optimizers:
            content["optimizers"][name] = {**RECIPES[name].options, "lr": RECIPES[name].options["lr"] * factor}
        (folder / "config.json").write_text(json.dumps(content))
    return path


def found(path):
    return read_grid(read(path))


def test_factor_1_is_the_comparison_itself_and_each_other_has_a_folder_in_it(tmp_path):
    assert folder_at(tmp_path, 1) == tmp_path
    assert folder_at(tmp_path, 0.3) == tmp_path / "lr-grid" / "0.3"
    assert list(factors_in(tmp_path)) == [1.0]
    assert found(comparison(tmp_path, ERRORS[1.0])) is None
    grid_of(tmp_path)
    (tmp_path / "lr-grid" / "notes").mkdir()
    (tmp_path / "lr-grid" / "notes" / "config.json").write_text("{}")
    assert list(factors_in(tmp_path)) == [0.3, 1.0, 3.0]


def test_the_best_rate_has_the_fewest_deaths_and_then_the_lowest_mean(tmp_path):
    grid = found(grid_of(tmp_path))
    assert grid.best("adai") == (1.0, 1.0, "")  # at 3 the one run that is left has the lowest error of all
    assert grid.best("sgd") == (0.3, pytest.approx(0.03), "lowest")
    assert grid.best("adam") == (1.0, 1e-3, "")  # none has finished at any
    assert grid.tried("adai")[3.0] == ([2.0], ["did not learn", "diverged"], 3)


def test_a_rate_at_which_few_runs_have_ended_is_not_the_best_yet(tmp_path):
    errors = {1.0: {"adai": [3.0, 3.1, 3.2]}, 3.0: {"adai": [1.0, math.inf, None]}}
    assert found(grid_of(tmp_path, errors)).best("adai").factor == 1.0


def test_seeds_that_were_added_at_one_rate_do_not_make_it_the_best(tmp_path):
    errors = {1.0: {"adai": [3.0, 3.1, 3.2, 3.1, 3.0]}, 3.0: {"adai": [1.0, 1.1, 1.2]}}
    assert found(grid_of(tmp_path, errors)).best("adai").factor == 3.0


def test_the_verdict_is_at_each_best_rate_and_says_what_that_was_chosen_on(tmp_path):
    grid = found(grid_of(tmp_path))
    text = verdict(summarise(grid.at_best()))
    assert (
        "At each optimizer’s best of 3 learning rates, chosen on the same test data that they are compared on, Adai "
        "has a lower test error than SGD momentum (by 0.43 points"
    ) in text
    assert text.endswith(
        "Best learning rates, with their factor on the optimizer’s own: Adai 1 (× 1), SGD momentum 0.03 (× 0.3, the "
        "lowest of the grid: a better one may lie beyond)."
    )


def test_with_held_out_data_the_verdict_says_so(tmp_path):
    grid = found(grid_of(tmp_path, validation=0.1))
    text = verdict(summarise(grid.at_best()))
    assert ("At each optimizer’s best of 3 learning rates, chosen and compared on held-out training data,") in text
    assert "same test data" not in text


def test_weight_decay_by_hand_is_named_beside_the_rates(tmp_path):
    grid = found(grid_of(tmp_path))
    best = grid.at_best()
    best.entrants[0].options["weight_decay"] = 0.0
    assert "compared on, with settings chosen by hand (Adai: weight decay 0), " in verdict(summarise(best))


def test_the_table_has_every_rate_with_its_deaths(tmp_path):
    table = cells(found(grid_of(tmp_path)))
    assert table.headings == ["optimizer", "best rate", "× 0.3", "× 1", "× 3"]
    assert table.rows == [
        ["Adai", "1 (× 1)", "4.10 ± 0.10", "3.10 ± 0.10", "2.00, 2 of 3 died"],
        ["SGD momentum", "0.03 (× 0.3, the lowest)", "3.53 ± 0.15", "3.80 ± 0.10", "9.10 ± 0.10"],
        ["Adam", NONE, NONE, "3 of 3 died", "3 of 3 died"],
    ]


def test_the_csv_has_a_row_for_every_run_at_every_rate(tmp_path):
    grid = found(grid_of(tmp_path))
    write_points(tmp_path / "lr-grid.csv", grid)
    with (tmp_path / "lr-grid.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27
    of_adai = [(row["factor"], row["seed"], row["status"], row["test_error"]) for row in rows[6:9]]
    assert of_adai == [("3.0", "0", "finished", "2.0"), ("3.0", "1", "did not learn", "90.0"),
                       ("3.0", "2", "diverged", "90.0")]  # fmt: skip
    assert (rows[3]["lr"], rows[18]["status"], rows[18]["test_error"]) == ("1.0", "not started", "")


def test_the_figure_has_means_of_the_living_and_counts_deaths_at_their_rate(tmp_path):
    shown = picture(found(grid_of(tmp_path)))
    (ax,) = shown.figure.axes
    own = [line for line in ax.lines if line.get_color() == style("adai").light]
    mean, *marks = own
    assert mean.get_ydata() == pytest.approx([4.1, 3.1, 2.0])
    assert [line.get_marker() for line in marks] == ["+", "x"]
    assert all(3 / 1.3 < line.get_xdata()[0] < 3 * 1.3 for line in marks)
    assert all(line.get_ydata()[0] > 1 for line in marks)  # above the axes
    assert [text.get_text() for text in ax.texts] == ["1", "1", "1", "2", "3"]  # Adai's at 3, Adam's at 1 and 3
    assert "Adai 4.10 at 0.3, 3.10 at 1 and 2.00 at 3 (2 of 3 died at 3)" in shown.description


@pytest.mark.slow
def test_the_page_has_a_section_on_the_rates_and_all_else_at_the_best(tmp_path, capsys):
    path = grid_of(tmp_path / "r")
    show(terminal(), path)
    out, page = " ".join(capsys.readouterr().out.split()), (path / "report.html").read_text()
    for text in (
        "3 of 3 died",
        "by factor on each optimizer’s own learning rate",
        "At each optimizer’s best of 3 learning rates",
    ):
        assert text in out
        assert text in page
    assert "lr = 0.03, momentum = 0.9" in page
    assert 'id="figure-learning-rates"' in page
    assert 'download="lr-grid.csv"' in page
    assert (path / "figures" / "learning-rates.pdf").exists()


TINY = {"optimizers": ["adai", "sgd"], "seeds": 1, "epochs": 1, "limit": 100}


def test_every_rate_is_run_and_an_interruption_costs_nothing(tmp_path):
    def options(factor, name):
        return RunFolder(folder_at(tmp_path, factor)).run(name, 0).config()["options"]

    def interrupted(jobs):
        if sum(len(job.run.rows()) for job in jobs) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, **TINY, lr_grid=[3, 0.3], watch=interrupted)
    assert list(factors_in(tmp_path)) == [0.3, 1.0, 3.0]  # all that is planned is known from the start
    done = {file: file.read_bytes() for file in tmp_path.rglob("metrics.jsonl")}
    begun = []
    compare(tmp_path, **TINY, lr_grid=[3, 0.3], execute=lambda jobs, tick: begun.extend(jobs) or [])
    assert len(begun) == 6 - len(done) == 3
    assert [job.label for job in begun] == [
        "smallnet, SGD momentum, seed 0",
        "smallnet, Adai, 3 times its learning rate, seed 0",
        "smallnet, SGD momentum, 3 times its learning rate, seed 0",
    ]
    compare(tmp_path, **TINY, lr_grid=[3, 0.3])
    assert all(file.read_bytes() == content for file, content in done.items())
    assert [options(f, "sgd")["lr"] for f in (0.3, 1.0, 3.0)] == [0.03, 0.1, 0.3]  # not 0.30000000000000004
    assert [options(f, "adai")["lr"] for f in (0.3, 1.0, 3.0)] == [0.3, 1.0, 3.0]
    assert RunFolder(tmp_path).config()["optimizers"]["sgd"]["lr"] == 0.1
    assert all(found(tmp_path).tried("sgd")[f].planned == 1 for f in (0.3, 1.0, 3.0))


def test_rates_may_be_added_to_a_comparison_that_is_there(tmp_path):
    compare(tmp_path, **TINY)
    begun = []
    compare(tmp_path, **TINY, lr_grid=[0.1, 1.0], execute=lambda jobs, tick: begun.extend(jobs) or [])
    assert [job.folder.relative_to(tmp_path.absolute()).parts[:3] for job in begun] == [
        ("lr-grid", "0.1", "adai"),
        ("lr-grid", "0.1", "sgd"),
    ]


def test_a_comparison_with_held_out_data(tmp_path):
    assert main(["compare", "--optimizers", "sgd", "--seeds", "1", "--epochs", "1", "--limit", "100", "--validation",
                 "0.2", "--out", str(tmp_path)]) == 0  # fmt: skip
    assert RunFolder(tmp_path).run("sgd", 0).config()["validation"] == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--lr-grid", "0.1", "0"], "'0' is not a number above 0"),
        (["--validation", "1"], "'1' is not a number between 0 and 1"),
    ],
)
def test_bad_input_is_one_line(options, message, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["compare", *options])
    assert exit.value.code == 2
    assert message in capsys.readouterr().err


def test_tuning_and_a_grid_are_refused_together(tmp_path):
    with pytest.raises(UserError, match="`tune` and `lr_grid` both choose learning rates; leave one of them out"):
        compare(tmp_path, **TINY, tune=2, lr_grid=[3])
