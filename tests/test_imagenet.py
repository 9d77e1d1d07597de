"""Pictures of any size, read by workers: what is cut out of them, and a run on a folder of them."""

import numpy as np
import pytest
import torch
from PIL import Image

from adai.errors import UserError
from adai.lab.settings import Settings
from adai.lab.tasks.hub import read
from adai.lab.tasks.imagenet import Pictures, middle_box, normalised, random_box
from adai.lab.training.train import train
from tests.untimed import untimed


@pytest.fixture
def folder(tmp_path):
    """Pictures of two classes, dark on the left or on the right, all of different sizes."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 16), ("validation", 6)):
        for label in ("left", "right"):
            (tmp_path / "toy" / part / label).mkdir(parents=True)
            for i in range(count):
                height, width = rng.integers(20, 50, 2)
                pixels = rng.integers(100, 256, (height, width, 3), dtype=np.uint8)
                half = slice(0, width // 2) if label == "left" else slice(width // 2, None)
                pixels[:, half] //= 8
                Image.fromarray(pixels).save(tmp_path / "toy" / part / label / f"{i}.png")
    return tmp_path / "toy"


def test_random_parts_are_inside_and_as_large_and_as_wide_as_they_should_be():
    torch.manual_seed(0)
    boxes = np.array([random_box(500, 375) for _ in range(2000)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0
    assert top.min() >= 0
    assert right.max() <= 500
    assert bottom.max() <= 375
    share = (right - left) * (bottom - top) / (500 * 375)
    ratio = (right - left) / (bottom - top)
    assert 0.08 <= share.min() < 0.1
    assert 0.9 < share.max() <= 1
    assert 3 / 4 <= ratio.min() < 0.77
    assert 1.3 < ratio.max() <= 4 / 3 + 1e-9
    assert np.std(left) > 30


def test_a_part_that_never_fits_is_the_middle():
    assert random_box(1000, 10) == pytest.approx((500 - 20 / 3, 0, 500 + 20 / 3, 10))
    assert middle_box(512, 256) == (144, 16, 368, 240)


def test_pictures_are_cut_resized_and_mirrored(folder):
    rows, _ = read(str(folder))
    assert rows.classes == 2
    test = Pictures(rows, size=16, train=False)
    pixels, label = test[0]
    assert (pixels.shape, pixels.dtype, label) == ((3, 16, 16), torch.uint8, 0)
    assert pixels[..., :6].float().mean() < 60
    assert pixels[..., 10:].float().mean() > 120
    assert torch.equal(pixels, test[0][0])
    torch.manual_seed(0)
    seen = [Pictures(rows, size=16, train=True)[0][0].float() for _ in range(40)]
    darker = [image[..., :3].mean() < image[..., 13:].mean() for image in seen]
    assert 5 < sum(darker) < 35  # mirrored half of the time
    batch = normalised(torch.stack([torch.full((3, 2, 2), 124, dtype=torch.uint8)]))
    assert batch.flatten(1).abs().max() < 0.4


def test_a_folder_of_pictures_is_learnt_by_workers_and_goes_on_bit_for_bit(folder, tmp_path):
    settings = Settings.of(
        str(folder), model="convnet", image_size=16, epochs=3, batch=8, lr=0.1, warmup_steps=2, workers=2
    )
    run = train(settings, tmp_path / "a")
    assert run.rows()[-1]["train_error"] < 20

    class Stop(BaseException):
        pass

    def stop(rows):
        if len(rows) == 2:
            raise Stop

    with pytest.raises(Stop):
        train(settings, tmp_path / "b", progress=stop)
    assert untimed(train(settings, tmp_path / "b")) == untimed(run)


def test_without_a_size_such_a_folder_is_refused_with_the_way_out(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("ADAI_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(UserError, match="differ in size (.*); give `image_size` to cut them all to one size"):
        train(Settings.of(str(folder), model="convnet"), tmp_path / "run")
