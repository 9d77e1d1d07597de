"""Text and tables as tasks: parts, missing values, categories, bad input, and that they learn."""

import numpy as np
import pytest
import torch

from adai.errors import UserError
from adai.lab.models import TABLE_MODELS, TEXT_MODELS
from adai.lab.models.transformer import _turned, _turns
from adai.lab.optimizers.recipes import recipe
from adai.lab.settings import Settings
from adai.lab.tasks.named import named_task
from adai.lab.tasks.tables import read_table, table_task
from adai.lab.tasks.text import Windows, matrices, read_text, text_task
from adai.lab.training.train import train

CPU = torch.device("cpu")


def text(tmp_path, content: str):
    file = tmp_path / "some.txt"
    file.write_text(content, encoding="utf-8")
    return file


def test_parts_of_a_text_follow_one_another(tmp_path):
    content = "".join(chr(97 + number % 26) for number in range(1000))
    found = read_text(text(tmp_path, content), context=8)
    whole = torch.cat([found.train, found.validation, found.test])
    assert "".join(found.characters[number] for number in whole) == content
    assert [len(part) for part in (found.train, found.validation, found.test)] == [800, 100, 100]


def test_windows_lie_end_to_end_and_each_target_is_the_next_character():
    tokens = torch.arange(41)
    windows = Windows(tokens, 8)
    assert len(windows) == 5
    ((inputs, targets),) = windows.batches([torch.tensor([0, 4])], torch.Generator())
    assert inputs.tolist() == [list(range(8)), list(range(32, 40))]
    assert torch.equal(targets, inputs + 1)


@pytest.mark.parametrize("stride", [4, 3, 1])
def test_in_overlapping_windows_each_character_counts_once_with_enough_before_it(stride):
    tokens = torch.arange(1, 42)
    windows = Windows(tokens, 8, stride=stride)
    ((inputs, targets),) = windows.batches([torch.arange(len(windows))], torch.Generator())
    counts = targets != -100
    assert torch.equal(targets[counts], (inputs + 1)[counts])
    counted = targets[counts].tolist()
    assert counted == list(range(2, 2 + len(counted)))
    assert len(tokens) - 1 - len(counted) < stride  # what does not fill a window
    assert counts[0].all()
    assert all(row.tolist() == [False] * (8 - stride) + [True] * stride for row in counts[1:])


def test_a_text_is_read_with_half_a_window_before_each_character(tmp_path):
    found = read_text(text(tmp_path, "".join(chr(97 + number % 26) for number in range(1000))), context=8)
    task = text_task(found, CPU, context=8)()
    for source in (task.test, task.validation):
        assert (source.context, source.stride, source.shifted) == (8, 4, False)
    assert (task.train.context, task.train.stride, task.train.shifted) == (8, 8, True)


def test_shifted_windows_begin_elsewhere_each_epoch_and_stay_within_the_text():
    windows, draws = Windows(torch.arange(100), 8, shifted=True), torch.Generator().manual_seed(0)
    begins = set()
    for _ in range(50):
        ((inputs, targets),) = windows.batches([torch.arange(len(windows))], draws)
        begins.add(int(inputs[0, 0]))
        assert torch.equal(targets, inputs + 1)
    assert begins == set(range(8))


@pytest.mark.parametrize("content", ["too short", "x" * 649])
def test_a_short_text_is_refused(tmp_path, content):
    with pytest.raises(UserError, match=r"some\.txt has [\d,]+ characters; it needs at least 650"):
        read_text(text(tmp_path, content))


def test_a_text_of_one_character_is_refused(tmp_path):
    with pytest.raises(UserError, match="only repeats the character 'x'"):
        read_text(text(tmp_path, "x" * 2000))


def test_a_file_that_is_not_utf8_is_refused(tmp_path):
    file = tmp_path / "latin.txt"
    file.write_bytes(b"caf\xe9" * 1000)
    with pytest.raises(UserError, match="latin.txt is not UTF-8 text"):
        read_text(file)
    with pytest.raises(UserError, match="cannot read"):
        read_text(tmp_path / "none.txt")


def test_the_transformer_sees_no_character_to_come():
    torch.manual_seed(0)
    model = TEXT_MODELS["transformer"](10)
    assert sum(p.numel() for p in TEXT_MODELS["transformer"](65).parameters()) == pytest.approx(0.81e6, rel=0.01)
    tokens = torch.randint(10, (2, 64))
    changed = tokens.clone()
    changed[:, 40:] = 0
    with torch.no_grad():
        a, b = model(tokens), model(changed)
    assert torch.allclose(a[:, :, :40], b[:, :, :40], atol=1e-6)
    assert not torch.allclose(a[:, :, 40:], b[:, :, 40:], atol=1e-3)


def test_attention_of_the_transformer_depends_on_the_distance_alone():
    turns = _turns(16, 6).double()
    q, k = torch.randn(2, 6, dtype=torch.float64)
    at = [_turned(x.expand(16, 6), turns) for x in (q, k)]
    product = at[0] @ at[1].T  # of the query at each position with the key at each other
    for distance in range(16):
        along = product.diagonal(-distance)
        assert torch.allclose(along, along[0].expand_as(along), atol=1e-12)
    assert product[0, 0] == pytest.approx(float(q @ k), abs=1e-12)


def test_vectors_do_not_decay():
    model = TEXT_MODELS["transformer"](10)
    optimizer = recipe("adamw").build(model, matrices)
    decayed, rest = optimizer.param_groups
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in rest["params"]} == {1}
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.5, 0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_text_is_learnt(tmp_path):
    file = text(tmp_path, "the quick brown fox jumps over the lazy dog. " * 60)
    settings = Settings.of(str(file), optimizer="adamw", lr=3e-3, weight_decay=0.1, epochs=12, batch=8, warmup_steps=5)
    run = train(settings, tmp_path / "run")
    assert run.metric == {"name": "bits a character", "unit": "", "lower_is_better": True, "digits": 3}
    first, last = run.rows()[0], run.rows()[-1]
    assert last["test_metric"] < 1 < first["test_metric"]
    assert last["test_metric"] == pytest.approx(last["test_loss"] / np.log(2), rel=1e-5)


def csv(tmp_path, header: str, rows):
    file = tmp_path / "some.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return file


def rows(count: int = 200) -> list[str]:
    random = np.random.default_rng(0)
    kinds = ["red", "blue", ""]
    found = []
    for number in range(count):
        a, kind = random.normal(), kinds[number % 3]
        found.append(f"{'' if number % 7 == 0 else f'{a:.4f}'},{kind},1,{2 * a + (kind == 'red'):.4f}")
    return found


def test_a_table_becomes_numbers(tmp_path):
    found = read_table(csv(tmp_path, "a,kind,constant,y", rows()), "y")
    assert found.names == ("a", "kind=None", "kind=blue", "kind=red")
    assert [len(part.targets) for part in (found.train, found.validation, found.test)] == [160, 20, 20]
    features = found.train.features
    assert torch.allclose(features.mean(dim=0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(features.std(dim=0, correction=0), torch.ones(4), atol=1e-5)
    assert float(found.train.targets.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert all(torch.isfinite(part.features).all() for part in (found.train, found.validation, found.test))


def test_the_parts_are_the_same_at_every_call_and_disjoint(tmp_path):
    lines = [f"{number},{number}" for number in range(100)]
    file = csv(tmp_path, "x,y", lines)
    first, again = read_table(file, "y"), read_table(file, "y")
    assert torch.equal(first.test.targets, again.test.targets)
    values = torch.cat([part.targets for part in (first.train, first.validation, first.test)])
    assert len(values.unique()) == 100


def test_a_missing_number_is_the_training_median(tmp_path):
    lines = [f"{'' if number == 5 else number % 10},{number}" for number in range(100)]
    found = read_table(csv(tmp_path, "x,y", lines), None)
    parts = {float(y): float(x) for part in found[3:] for x, y in zip(part.features[:, 0], part.targets, strict=True)}
    levels = sorted({round(x, 4) for x in parts.values()})
    assert len(levels) in {10, 11}  # the median may lie between two numbers
    assert found.target == "y"


@pytest.mark.parametrize(
    ("header", "lines", "target", "message"),
    [
        ("x,y", ["1,2"] * 40, "z", r"has no column 'z'; choose from x, y"),
        ("x,y", ["1,2"] * 40, "y", r"the target 'y' of .* has one value, 2"),
        ("x,y", [f"1,{n}" for n in range(40)], "y", r"has no column beside 'y' that has two values"),
        ("x,y", [f"{n},a" for n in range(40)], "y", r"the target 'y' of .* is text, such as 'a'"),
        ("x,y", [f"{n}," for n in range(40)], "y", r"has 0 rows with a target 'y'; it needs at least 30"),
        ("x,y", [f"t{n},{n}" for n in range(400)], "y", r"the column 'x' of .* has \d+ different texts"),
        ("x,y", [f"{n},{n}e305" for n in range(40)], "y", r"the target 'y' of .* has values that are too large"),
        ("x,y", [], "y", r"has 0 rows with a target 'y'; it needs at least 30"),
        ("", [], None, r"is not a CSV file \(No columns to parse from file\)"),
        ("x,y", ["1,2,3,4", "1,2"] * 20, None, r"is not a CSV file \(Length of header"),
        ("x,y", ["1,2", "1,2,3,4"] * 20, None, r"is not a CSV file \(Error tokenizing data"),
    ],
)
def test_bad_tables_are_refused(tmp_path, header, lines, target, message):
    with pytest.raises(UserError, match=message):
        read_table(csv(tmp_path, header, lines), target)


def test_the_metric_of_a_small_target_has_digits_to_show(tmp_path):
    for scale, digits in ((1e-3, 7), (1, 4), (1000, 1), (1e6, 0)):
        lines = [f"{n},{n % 2 * scale}" for n in range(200)]  # the standard deviation is a little below scale / 2
        task = table_task(read_table(csv(tmp_path, "x,y", lines), "y"), CPU)()
        assert task.metric.digits == digits


def test_no_table_is_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(UserError, match="is not a CSV file"):
        read_table(tmp_path / "binary.csv", "y")
    with pytest.raises(UserError, match="no such file"):
        read_table(tmp_path / "none.csv", "y")


def test_a_table_is_learnt_in_the_target_s_own_unit(tmp_path):
    file = csv(tmp_path, "a,kind,constant,y", rows(600))
    settings = Settings.of(str(file), optimizer="adamw", lr=3e-3, weight_decay=0.01, epochs=15, batch=32, target="y")
    run = train(settings, tmp_path / "run")
    last = run.rows()[-1]
    scale = read_table(file, "y").scale
    assert last["test_metric"] == pytest.approx(scale * last["test_loss"] ** 0.5, rel=1e-4)
    assert last["test_metric"] < 0.6 * scale
    assert sum(p.numel() for p in TABLE_MODELS["mlp"](4).parameters()) == 4 * 128 + 128 + 128 * 129 + 129


@pytest.mark.parametrize(
    ("task", "given", "message"),
    [
        ("a.txt", {"model": "resnet8"}, "unknown model 'resnet8'; choose from transformer"),
        ("a.csv", {"augment": True}, "a.csv is no data set of images; leave `augment` out"),
        ("digits", {"target": "y"}, "the task digits is no table; leave `target` out"),
    ],
)
def test_settings_that_do_not_suit_the_kind_are_refused(task, given, message):
    with pytest.raises(UserError, match=message):
        Settings.of(task, **given)


def test_a_named_data_set_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="shakespeare/input.txt"):
        named_task(Settings.of("shakespeare"), CPU, tmp_path)
