"""The queue behind results/stability: its order, its file, and what it comes to."""

import json

import pytest

from adai.lab.optimizers.recipes import RECIPES
from adai.report.style import style
from benchmarks import blow_up
from benchmarks.blow_up import Cell, Unit, append, by_cell, cells, mend, queue, rate, read, settings_of


def row(unit, **values):
    return {**unit.cell._asdict(), "seed": unit.seed, "status": "finished", "test_error": 3.0, **values}


def test_seed_0_of_all_cells_comes_first_and_the_tasks_take_turns():
    units = queue(["digits", "mnist"], 2)
    assert len(units) == len(set(units)) == 2 * 2 * 90
    assert [unit.seed for unit in units] == [0] * 180 + [1] * 180
    assert [unit.cell.task for unit in units[:4]] == ["digits", "mnist"] * 2
    assert {unit.cell.factor for unit in units[:36]} == {1.0}
    assert max(unit.seed for unit in queue(["digits", "mnist"]) if unit.cell.task == "mnist") == 9


def test_a_cell_is_what_the_lab_runs():
    adai = settings_of(Unit(Cell("digits", "adai", 3.0, 0.7, 0), 4))
    assert (adai.options["lr"], adai.options["min_inertia"], adai.warmup_steps, adai.seed) == (3.0, 0.7, 0, 4)
    assert (adai.epochs, adai.batch, adai.schedule, adai.model) == (30, 64, "cosine", "smallnet")
    sgd = settings_of(Unit(Cell("mnist-plain", "sgd", 3.0, None, 100), 0))
    assert (sgd.options, sgd.warmup_steps) == ({"lr": 0.3, "momentum": 0.9, "weight_decay": 5e-4}, 100)
    assert (sgd.epochs, sgd.batch, sgd.model) == (1, 128, None)
    assert all(settings_of(Unit(cell, 0)) for cell in cells("mnist"))


def test_a_line_that_was_cut_off_costs_that_run_alone(tmp_path):
    file = tmp_path / "runs.jsonl"
    first, second, third = queue(["digits"], 1)[:3]
    append(file, row(first))
    append(file, row(first, test_error=9.0))  # done twice: the first counts
    with file.open("a") as stream:
        stream.write(json.dumps(row(second))[:20])
    assert list(read(file)) == [first]
    mend(file)
    append(file, row(third))
    assert list(read(file)) == [first, third]
    assert read(file)[first]["test_error"] == 3.0


def test_runs_that_diverged_or_did_not_learn_blew_up():
    unit = queue(["digits"], 1)[0]
    rows = [row(unit, status=status) for status in ("finished", "diverged", "did not learn", "finished")]
    ((_, found),) = by_cell(rows).items()
    assert str(rate(found)) == "2 of 4 (15 to 85 %)"  # Wilson's
    assert blow_up.errors(found) == [3.0, 3.0]


def test_what_is_drawn_says_that_it_is_partial(tmp_path, capsys):
    unit = queue(["digits"], 1)[0]
    with pytest.raises(SystemExit, match="holds no run"):
        blow_up.draw(tmp_path)
    about = {"machine": "a CPU", "torch": "2.13.0", "commit": "abc", "seconds": 2.0}
    append(tmp_path / "runs.jsonl", row(unit, **about))
    found = read(tmp_path / "runs.jsonl")
    page = blow_up.page(by_cell(found.values()), found, ["digits"])
    assert "**This is a partial result: 1 of 4,500 runs are done.**" in page
    assert "| digits, smallnet | smallnet | 1,198 / 599 images | 30 | 64 | 0 to 1 of 30 so far |" in page
    assert "0 of 1 (0 to 79 %); 3.00" in page
    assert "a CPU, one thread a run, torch 2.13.0, commit abc: 1 runs, 2.0 s each" in page


def test_every_line_of_the_figure_has_the_style_of_a_recipe():
    """Other names would be drawn and listed in different styles."""
    styles = [line.style for line in blow_up.LINES]
    assert set(styles) <= RECIPES.keys()
    assert len({style(name) for name in styles}) == len(styles)


def test_settings_are_chosen_on_even_seeds_and_compared_on_odd_ones():
    def runs(optimizer, factor, floor, values, status="finished"):
        cell = Cell("digits", optimizer, factor, floor, 100)
        return {cell: [row(Unit(cell, seed), test_error=value, status=status) for seed, value in enumerate(values)]}

    found = {
        **runs("adai", 1.0, 0.0, [2.0, 9.0, 2.0, 9.0, 2.0, 9.0]),  # the best on even seeds
        **runs("adai", 0.3, 0.9, [3.0, 1.0, 3.0, 1.0, 3.0, 1.0]),
        **runs("adai", 3.0, 0.9, [1.0] * 6, status="did not learn"),
        **runs("ema", 1.0, None, [4.0, 5.0, 4.0, 5.1, 4.0, 5.2]),
        **runs("sgd", 10.0, None, [1.0, 3.0, 1.0, 3.0, 1.0, 3.0]),
    }
    best = blow_up.choose(found, [cell for cell in found if cell.optimizer == "adai"])
    assert best.cell == Cell("digits", "adai", 1.0, 0.0, 100)
    assert best.errors == {1: 9.0, 3: 9.0, 5: 9.0}
    assert blow_up.choose(found, cells("mnist")) is None
    text = blow_up.at_best_rates(found, ["digits", "mnist"], 100)
    assert "digits, smallnet | EMA momentum | × 1 | 5.10 ± 0.10 |  |" in text
    assert "|  | Adai, best floor | × 1, floor 0 | 9.00 ± 0.00 | +3.90 (" in text
    assert "|  | SGD momentum | × 10, the edge of the grid | 3.00 ± 0.00 | −2.10 (" in text
    assert "a lower error than\nEMA momentum on 0 of 1 tasks, and a higher one on 1." in text
