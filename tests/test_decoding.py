"""Pictures of every mode: grey or RGB with the right colours, or refused by name."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from adai.errors import UserError
from adai.lab.tasks.data import load
from adai.lab.tasks.decoding import decoded

RED, GREEN = (200, 10, 20), (30, 180, 40)


def png(picture, **options):
    file = io.BytesIO()
    picture.save(file, options.pop("format", "PNG"), **options)
    return {"path": None, "bytes": file.getvalue()}


def two(mode, *colours):
    """Two pixels."""
    picture = Image.new(mode, (2, 1))
    for x, colour in enumerate(colours):
        picture.putpixel((x, 0), colour)
    return picture


def palette():
    """A palette whose entries are not in the order of brightness."""
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *GREEN])
    picture.putpixel((1, 0), 1)
    return picture


@pytest.mark.parametrize(
    ("encoded", "mode", "expected"),
    [
        (png(two("1", 0, 1)), "L", [0, 255]),
        (png(two("L", 7, 250)), "L", [7, 250]),
        (png(two("LA", (7, 255), (250, 255))), "L", [7, 250]),
        (png(two("RGB", RED, GREEN)), "RGB", [RED, GREEN]),
        (png(two("RGBA", (*RED, 255), (*GREEN, 255))), "RGB", [RED, GREEN]),
        (png(palette()), "RGB", [RED, GREEN]),
        (png(palette(), transparency=7), "RGB", [RED, GREEN]),  # a colour that no pixel has
        (png(two("CMYK", (0, 255, 255, 0), (255, 0, 255, 0)), format="TIFF"), "RGB", [(255, 0, 0), (0, 255, 0)]),
    ],
    ids=["1", "L", "LA", "RGB", "RGBA", "P", "P with an unused transparent colour", "CMYK"],
)
def test_a_mode_that_fits_into_bytes_is_converted(encoded, mode, expected):
    picture = decoded(encoded, "x")
    assert picture.mode == mode
    assert np.array_equal(np.asarray(picture)[0], expected)


def frames():
    return png(two("L", 0, 1), format="TIFF", save_all=True, append_images=[two("L", 2, 3)])


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        (png(two("I;16", 5, 60000)), "x is of mode I;16, which does not fit into one byte"),
        (png(two("F", 0.5, 2.0), format="TIFF"), "x is of mode F, which does not fit into one byte"),
        (png(two("I", 5, 70000), format="TIFF"), "x is of mode I, which does not fit into one byte"),
        (png(two("RGBA", (*RED, 255), (*GREEN, 0))), "x .mode RGBA. is transparent in places"),
        (png(two("LA", (7, 128), (250, 255))), "x .mode LA. is transparent in places"),
        (png(palette(), transparency=1), "x .mode P. is transparent in places"),
        (png(two("RGB", RED, GREEN), transparency=RED), "x .mode RGB. is transparent in places"),
        (frames(), "x has 2 frames"),
        ({"path": None, "bytes": b""}, "cannot read the image x"),
        ({"path": None, "bytes": png(two("L", 0, 1))["bytes"][:40]}, "cannot read the image x"),
        ({"path": "/nowhere.png", "bytes": None}, "cannot read the image x"),
    ],
)
def test_a_mode_that_does_not_fit_is_refused_by_name(encoded, message):
    with pytest.raises(UserError, match=message) as e:
        decoded(encoded, "x")
    assert "\n" not in str(e.value)


def test_one_colour_picture_makes_all_colour_and_grey_ones_stay_grey(tmp_path):
    for part in ("train", "test"):
        for label, picture in (("a", two("L", 7, 250)), ("b", palette() if part == "test" else two("L", 1, 2))):
            folder = tmp_path / "toy" / part / label
            folder.mkdir(parents=True)
            picture.save(folder / "0.png")
    data = load(str(tmp_path / "toy"), device=torch.device("cpu"), cache_dir=tmp_path / "cache")
    assert data.train.pixels.shape == data.test.pixels.shape == (2, 3, 1, 2)
    assert data.train.pixels[0, :, 0].T.tolist() == [[7] * 3, [250] * 3]
    assert data.test.pixels[1, :, 0].T.tolist() == [[*RED], [*GREEN]]
