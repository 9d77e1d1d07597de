"""Parts of a data set: what is in which, and that they fit together."""

import logging

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from adai.errors import UserError
from adai.lab.tasks.data import load
from adai.lab.tasks.hub import read

draws = np.random.default_rng(0)


def picture(value=None):
    pixels = draws.integers(0, 255, (4, 4, 3), np.uint8) if value is None else np.full((4, 4), value, np.uint8)
    return Image.fromarray(pixels)


def folder(path, **parts):
    """Class folders, with so many images in each."""
    for part, classes in parts.items():
        for name, count in classes.items():
            (path / part / name).mkdir(parents=True)
            for i in range(count):
                picture().save(path / part / name / f"{i}.png")
    return path


def parquet(path, part, names, labels, values):
    path.mkdir(exist_ok=True)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    rows = {"image": [picture(value) for value in values], "label": labels}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path / f"{part}-00000-of-00001.parquet")


def get(path, tmp_path, **options):
    return load(str(path), device=torch.device("cpu"), cache_dir=tmp_path / "cache", **options)


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("test", ["test", "val", "evaluation"])
def test_parts_are_the_folders_right_below_whatever_classes_are_called(train, test, tmp_path):
    names = {"dev": 2, "eval-set": 1, "test": 1, "train": 3}
    data = get(folder(tmp_path / "toy", **{train: names, test: names}), tmp_path)
    assert data.train.labels.tolist() == data.test.labels.tolist() == [0, 0, 1, 2, 3, 3, 3]


def test_classes_are_numbered_by_name_in_the_training_part(tmp_path):
    path = folder(tmp_path / "toy", train={"a": 1, "b": 1, "c": 1}, test={"a": 1, "c": 1})
    data = get(path, tmp_path)
    assert data.test.labels.tolist() == [0, 2]
    assert data.classes == 3
    assert get(path, tmp_path).classes == get(path, tmp_path, limit=1).classes == 3  # of the cache, and of a part


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": {"a": 1}, "test": {"a": 1, "b": 1}}, "its training part does not have .b; training: a."),
        ({"train": {"a": 1}, "training": {"a": 1}, "test": {"a": 1}}, "are both the train part; rename one"),
        ({"train": {"a": 1, "b/deeper": 1}, "test": {"a": 1}}, "deeper/0.png is not in a class folder right below"),
    ],
)
def test_parts_that_do_not_fit_are_refused_by_name(parts, message, tmp_path):
    with pytest.raises(UserError, match=message):
        get(folder(tmp_path / "toy", **parts), tmp_path)


def test_a_part_that_is_a_link_to_the_other_is_refused(tmp_path):
    path = folder(tmp_path / "toy", train={"a": 2, "b": 2})
    (path / "test").symlink_to(path / "train")
    with pytest.raises(UserError, match="each image belongs in one part"):
        get(path, tmp_path)


def test_test_images_that_are_training_images_are_counted_in_a_warning(tmp_path, caplog):
    path = folder(tmp_path / "toy", train={"a": 3, "b": 3}, test={"a": 2, "b": 2})
    get(path, tmp_path)
    assert "training images too" not in caplog.text
    (path / "test" / "a" / "0.png").write_bytes((path / "train" / "b" / "1.png").read_bytes())
    with caplog.at_level(logging.WARNING):
        get(path, tmp_path)
    assert "1 of 4 test images are training images too" in caplog.text


def test_parquet_files_with_the_classes_in_another_order_are_mapped_by_name(tmp_path):
    parquet(tmp_path / "toy", "train", ["black", "grey", "white"], [0, 1, 2], [0, 128, 255])
    parquet(tmp_path / "toy", "test", ["white", "black"], [0, 1, 0], [254, 1, 253])
    data = get(tmp_path / "toy", tmp_path)
    assert data.train.labels.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == [2, 0, 2]
    _, test = read(str(tmp_path / "toy"))
    assert [test.class_of(number) for number in range(3)] == [2, 0, 2]


def test_images_without_a_label_are_counted_and_refused(tmp_path):
    parquet(tmp_path / "toy", "train", ["a", "b"], [0, 1], [0, 1])
    parquet(tmp_path / "toy", "test", ["a", "b"], [-1, -1, 0], [2, 3, 4])
    with pytest.raises(UserError, match="2 of 3 images in the test part of .* have no label"):
        get(tmp_path / "toy", tmp_path)


def test_a_parquet_file_that_is_in_two_parts_by_its_folders_is_refused(tmp_path):
    (tmp_path / "toy" / "train").mkdir(parents=True)
    parquet(tmp_path / "toy" / "train" / "test-tubes", "x", ["a"], [0], [0])
    with pytest.raises(UserError, match="is in the parts .*rename what is below them"):
        get(tmp_path / "toy", tmp_path)
