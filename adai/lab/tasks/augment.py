"""Random crops and flips of a whole batch of small images, on any device."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

PADDING = 4  # pixels on each side, as is usual for CIFAR


class Crops(NamedTuple):
    """The position of the crop in each of N padded images, and whether to mirror it; three tensors (N,)."""

    top: Tensor
    left: Tensor
    mirrored: Tensor

    def of(self, where: Tensor) -> "Crops":
        """The crops of the images at these places."""
        return Crops(self.top[where], self.left[where], self.mirrored[where])

    def to(self, device: torch.device) -> "Crops":
        """The same on the device."""
        return Crops(*(t.to(device) for t in self))


def draw_crops(count: int, generator: Generator) -> Crops:
    """A random crop and flip for each of ``count`` images, uniform and independent, on the generator's device."""
    device = generator.device
    top, left = torch.randint(2 * PADDING + 1, (2, count), generator=generator, device=device)
    return Crops(top, left, torch.randint(2, (count,), generator=generator, device=device) == 1)


def cropped(pixels: Tensor, crops: Crops) -> Tensor:
    """Pixels (N, C, H, W) of any dtype, each image padded with 0, cropped at its own position, and mirrored or not.

    Bytes stay bytes, which moves a quarter of the memory that floats would. Use it before normalisation, so that the
    padding is black.
    """
    n, channels, height, width = pixels.shape
    device = pixels.device
    padded = pad(pixels, (PADDING,) * 4)
    along = torch.arange(width, device=device)
    columns = torch.where(crops.mirrored[:, None], along.flip(0), along) + crops.left[:, None]  # (N, W)
    rows = torch.arange(height, device=device) + crops.top[:, None]  # (N, H)
    image = torch.arange(n, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
