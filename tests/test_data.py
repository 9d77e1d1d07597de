"""Data sets: the digits, parquet and image folders as the hub has them, the cache, what goes wrong."""

import os
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from adai.cli import main
from adai.errors import UserError
from adai.lab.tasks.data import load

CPU = torch.device("cpu")


def get(name, tmp_path, **options):
    return load(str(name), device=CPU, cache_dir=tmp_path / "cache", **options)


def write_parquet(folder, *, image="img", size=(6, 5), mode="RGB", parts=("train", "test"), count=9):
    """Parquet files in the schema of the hub's entries; returns the pixels (N, C, H, W) of each part."""
    rng = np.random.default_rng(0)
    features = datasets.Features({image: datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    pixels = {}
    folder.mkdir(parents=True)
    for part in parts:
        shape = (count, *size, 3) if mode == "RGB" else (count, *size)
        arrays = rng.integers(0, 256, shape, dtype=np.uint8)
        rows = {image: [Image.fromarray(a, mode) for a in arrays], "label": [i % 3 for i in range(count)]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / f"{part}-00000-of-00001.parquet")
        pixels[part] = arrays.transpose(0, 3, 1, 2) if mode == "RGB" else arrays[:, None]
    return pixels


def test_digits_are_real_whole_and_normalised(tmp_path):
    data = get("digits", tmp_path)
    assert data.train.pixels.shape == (1198, 1, 8, 8)
    assert data.test.pixels.shape == (599, 1, 8, 8)
    images = data.normalised(data.train.pixels)
    assert abs(images.mean().item()) < 1e-5
    assert images.std().item() == pytest.approx(1, abs=1e-4)
    assert set(data.train.labels.tolist()) == set(data.test.labels.tolist()) == set(range(10))
    assert data.classes == 10


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_parquet_folder_is_read_byte_for_byte(tmp_path, mode):
    pixels = write_parquet(tmp_path / "toy", mode=mode, image="img" if mode == "RGB" else "image")
    for data in (get(tmp_path / "toy", tmp_path), get("toy", tmp_path, data_dir=tmp_path)):
        for part, expected in ((data.train, pixels["train"]), (data.test, pixels["test"])):
            assert np.array_equal(part.pixels.numpy(), expected)
            assert part.labels.tolist() == [i % 3 for i in range(9)]
        assert data.classes == 3
        assert data.mean.flatten().numpy() == pytest.approx(pixels["train"].mean(axis=(0, 2, 3)))
        assert data.std.flatten().numpy() == pytest.approx(pixels["train"].std(axis=(0, 2, 3)))


def test_an_image_folder_is_read_the_same_way(tmp_path):
    for part in ("train", "test"):
        for label in ("cat", "dog"):
            folder = tmp_path / "pets" / part / label
            folder.mkdir(parents=True)
            for i in range(3):
                Image.fromarray(np.full((4, 4, 3), 100 * (label == "dog") + i, dtype=np.uint8)).save(
                    folder / f"{i}.png"
                )
    data = get(tmp_path / "pets", tmp_path)
    assert data.train.pixels.shape == (6, 3, 4, 4)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 100, 101, 102]


def test_the_cache_is_used_renewed_and_mended(tmp_path, caplog):
    pixels = write_parquet(tmp_path / "toy")
    get(tmp_path / "toy", tmp_path)
    (file,) = (tmp_path / "cache").iterdir()
    kept = file.stat().st_mtime_ns
    get(tmp_path / "toy", tmp_path)
    assert file.stat().st_mtime_ns == kept

    file.write_bytes(file.read_bytes()[:-200])
    data = get(tmp_path / "toy", tmp_path)
    assert "is damaged" in caplog.text
    assert np.array_equal(data.test.pixels.numpy(), pixels["test"])
    assert file.stat().st_mtime_ns != kept

    for old in (tmp_path / "toy").iterdir():
        old.unlink()
    (tmp_path / "toy").rmdir()
    write_parquet(tmp_path / "toy", count=12)
    assert len(get(tmp_path / "toy", tmp_path).train.labels) == 12


def test_limit_takes_the_same_part_with_and_without_the_cache(tmp_path):
    pixels = write_parquet(tmp_path / "toy", count=30)
    few = [get(tmp_path / "toy", tmp_path, limit=10)]
    assert not (tmp_path / "cache").exists()  # a part is not kept for the whole
    whole = get(tmp_path / "toy", tmp_path)
    few.append(get(tmp_path / "toy", tmp_path, limit=10))
    for data in few:
        assert len(data.train.labels) == len(data.test.labels) == 10
        assert torch.equal(data.train.pixels, few[0].train.pixels)
        assert torch.equal(data.test.labels, few[0].test.labels)
        every = {array.tobytes() for array in pixels["train"]}
        assert all(image.numpy().tobytes() in every for image in data.train.pixels)
        first = whole.train.pixels[:10]
        assert not torch.equal(data.train.pixels, first)  # a folder of images comes class by class
    assert len(get(tmp_path / "toy", tmp_path, limit=99).train.labels) == 30
    assert len(get("digits", tmp_path, limit=50).test.labels) == 50


def test_a_missing_data_set_is_reported_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="the data folder .*nowhere does not exist"):
        get("mnist", tmp_path, data_dir=tmp_path / "nowhere")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"cannot get the data set .* point `data_dir` or ADAI_DATA_DIR at a folder"
    ) as e:
        get("nobody/nothing", tmp_path, data_dir=None)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("command", ["compare", "train", "lr"])
def test_a_data_folder_without_the_data_set_is_told_first_and_no_folder_is_left(command, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    (tmp_path / "data").mkdir()
    places = ["--data-dir", str(tmp_path / "data"), "--out", str(tmp_path / "new" / "run")]
    assert main([command, "--dataset", "nothing", *places]) == 2
    captured = capfd.readouterr()
    assert captured.err.startswith(f"adai {command}: {tmp_path}/data has no folder nothing, and cannot get the data")
    assert captured.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_unsuitable_data_are_reported_in_one_line(tmp_path):
    write_parquet(tmp_path / "trainonly", parts=("train",))
    with pytest.raises(UserError, match="has the parts train; it needs train, and test or validation"):
        get(tmp_path / "trainonly", tmp_path)
    (tmp_path / "text").mkdir()
    for part in ("train", "test"):
        datasets.Dataset.from_dict({"text": ["x"]}).to_parquet(tmp_path / "text" / f"{part}.parquet")
    with pytest.raises(UserError, match="has the columns text; it needs an image and a class label"):
        get(tmp_path / "text", tmp_path)


def test_images_of_different_sizes_are_refused(tmp_path):
    for part in ("train", "test"):
        for label, side in (("a", 4), ("b", 5)):
            folder = tmp_path / "mixed" / part / label
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((side, side, 3), dtype=np.uint8)).save(folder / "0.png")
    with pytest.raises(UserError, match="differ in size"):
        get(tmp_path / "mixed", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "mean", "least", "classes"),
    [
        ("mnist", (60000, 1, 28, 28), [0.1307], 5000, 10),
        ("cifar10", (50000, 3, 32, 32), [0.4914, 0.4822, 0.4465], 5000, 10),
        ("cifar100", (50000, 3, 32, 32), [0.5071, 0.4865, 0.4409], 500, 100),
    ],
)
def test_real_data_have_the_published_means(name, shape, mean, least, classes, tmp_path):
    folder = os.environ.get("ADAI_DATA_DIR")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"ADAI_DATA_DIR, a folder with {name}, is not set")
    data = get(name, tmp_path, data_dir=Path(folder))
    assert data.train.pixels.shape == shape
    assert (data.mean / 255).flatten().numpy() == pytest.approx(mean, abs=1e-4)
    assert data.train.labels.bincount().min() >= least  # CIFAR-100 has coarse labels too, 20 of them
    assert data.classes == classes
