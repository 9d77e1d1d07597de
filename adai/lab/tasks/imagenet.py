"""Images that do not fit in memory or differ in size: worker processes read, crop and resize them."""

from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from adai.lab.tasks.hub import Rows

# Of the ImageNet training set, per channel, in byte values from 0 to 255.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class Box(NamedTuple):
    """A crop of a picture, in pixels."""

    left: float
    top: float
    right: float
    bottom: float


def random_box(width: int, height: int) -> Box:
    """A random box: 8 to 100 % of the area, aspect ratio 3:4 to 4:3; drawn from torch's global generator.

    If ten draws do not fit, it is the largest centred box whose aspect ratio is in that range. Source: C. Szegedy et
    al., Going Deeper with Convolutions, arXiv 1409.4842, section 6.
    """
    for _ in range(10):
        area, shape, x, y = torch.rand(4).tolist()
        area = width * height * (0.08 + 0.92 * area)
        ratio = (4 / 3) ** (2 * shape - 1)  # width to height, log-uniform
        w, h = (area * ratio) ** 0.5, (area / ratio) ** 0.5
        if w <= width and h <= height:
            left, top = x * (width - w), y * (height - h)
            return Box(left, top, left + w, top + h)
    return _middle(min(width, height * 4 / 3), min(height, width * 4 / 3), width, height)


def middle_box(width: int, height: int) -> Box:
    """The centred square whose side is 224/256 of the shorter side of the picture; for evaluation."""
    side = min(width, height) * 224 / 256
    return _middle(side, side, width, height)


def _middle(w: float, h: float, width: int, height: int) -> Box:
    left, top = (width - w) / 2, (height - h) / 2
    return Box(left, top, left + w, top + h)


class Pictures(Dataset[tuple[Tensor, int]]):
    """Rows of a data set as (bytes (3, size, size), label), decoded on access.

    Args:
        rows: the rows to read.
        train: whether to crop and mirror at random; otherwise the centre is used.
        size: of the result, in pixels.
    """

    def __init__(self, rows: Rows, *, size: int, train: bool) -> None:
        self.rows = rows
        self.train = train
        self.size = size

    def __len__(self) -> int:
        """The number of pictures."""
        return len(self.rows.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """A picture and its label."""
        picture = self.rows.picture(index).convert("RGB")
        box = random_box(*picture.size) if self.train else middle_box(*picture.size)
        picture = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        if self.train and torch.rand(()) < 0.5:
            pixels = pixels.flip(2)
        return pixels.contiguous(), self.rows.class_of(index)


def normalised(pixels: Tensor) -> Tensor:
    """Pixels (N, 3, H, W) as float32 with mean 0 and variance 1 per channel, approximately."""
    mean, std = (torch.tensor(values, device=pixels.device).view(-1, 1, 1) for values in (MEAN, STD))
    return (pixels.float() - mean) / std
