"""Data sets: images as bytes in memory on the training device, from scikit-learn, the Hugging Face hub or a folder.

Images are decoded once and kept in a cache folder. `adai.lab.tasks.imagenet` is for images that do not fit in memory.
"""

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.tasks.hub import Rows, folder_in, read, some, sought

logger = logging.getLogger(__name__)

_CHUNK = 1000  # images decoded, or measured, at a time
_SHARED = 0.01  # if more than this share of the test images are training images too, the user is warned
_VERSION = 2  # of the cache's content: 2 has colours for palettes, and numbers classes as the training part does


class Images(NamedTuple):
    """Images (N, C, H, W), uint8, with their labels (N,), int64."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Images":
        """The same on the device."""
        return Images(self.pixels.to(device), self.labels.to(device))

    def few(self, limit: int | None) -> "Images":
        """At most ``limit`` of the images; None keeps all."""
        chosen = some(len(self.labels), limit)
        return Images(self.pixels[chosen], self.labels[chosen]) if chosen else self


class Dataset(NamedTuple):
    """A training and a test set, and the numbers that normalise both.

    ``mean`` and ``std`` are those of the training pixels, per channel, (C, 1, 1), in byte values from 0 to 255.
    """

    name: str
    classes: int
    train: Images
    test: Images
    mean: Tensor
    std: Tensor

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels (N, C, H, W) as float32 with mean 0 and variance 1 per channel over the training set."""
        return (pixels.float() - self.mean) / self.std


def load(
    name: str,
    *,
    device: torch.device,
    data_dir: Path | str | None = None,
    cache_dir: Path | str | None = None,
    limit: int | None = None,
) -> Dataset:
    """The data set of that name, on the device.

    Args:
        name: ``digits``, ``mnist``, ``cifar10``, ``cifar100``, a folder of parquet files or of images in class folders
            (with parts ``train`` and ``test`` or ``validation``), or the name of a data set on the Hugging Face hub.
        device: the device that stores the bytes.
        data_dir: a folder that contains data sets by name; default the environment's ``ADAI_DATA_DIR``.
        cache_dir: the folder for decoded images; default the environment's ``ADAI_CACHE_DIR``, or ``~/.cache/adai``.
        limit: the largest number of training images and of test images, which are the same at every call. Only these
            are decoded, and they are not kept in the cache.

    Raises:
        UserError: there is no such data set, it cannot be reached, it does not consist of labelled images of one size,
            an image cannot be read or converted to grey or RGB in bytes, or the classes of the parts differ.
    """
    if name == "digits":
        train, test = (part.few(limit) for part in _digits())
        classes = 10
    else:
        cache = Path(cache_dir) if cache_dir else folder_in("ADAI_CACHE_DIR") or Path.home() / ".cache" / "adai"
        with sought(name, data_dir) as source:
            train, test, classes = _cached(source, cache, limit)
    _see_that_parts_are_apart(name, train, test)
    mean, std = _moments(train.pixels)
    return Dataset(name, classes, train.to(device), test.to(device), mean.to(device), std.to(device))


def _see_that_parts_are_apart(name: str, train: Images, test: Images) -> None:
    """Warn if too many test images are training images too, byte for byte."""
    seen = {image.tobytes() for image in train.pixels.numpy()}
    shared = sum(image.tobytes() in seen for image in test.pixels.numpy())
    if shared > _SHARED * len(test.labels):
        logger.warning(
            "%s: %d of %d test images are training images too; so a low test error does not show that the net learned",
            name, shared, len(test.labels),
        )  # fmt: skip


def _digits() -> tuple[Images, Images]:
    """The 1,797 handwritten digits, 8x8, that ship with scikit-learn: no download.

    They are ordered by writer, so the last third, 599 images, is by writers who are not in the first two thirds. The
    test error on it is much higher than on a random split, and more informative.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.tensor(bunch.images, dtype=torch.uint8).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    split = len(labels) * 2 // 3
    return Images(pixels[:split], labels[:split]), Images(pixels[split:], labels[split:])


def _cached(source: str, cache_dir: Path, limit: int | None) -> tuple[Images, Images, int]:
    """The two parts, and the number of classes."""
    file = cache_dir / f"{source.strip('/').replace('/', '--')}-{_fingerprint(source)}.pt"
    if file.exists():
        try:
            parts = torch.load(file, weights_only=True)
            return Images(*parts["train"]).few(limit), Images(*parts["test"]).few(limit), int(parts["classes"])
        except Exception as error:  # on a damaged file, torch may raise anything
            logger.warning("%s is damaged (%s) and is created again", file, type(error).__name__)
    rows = read(source, limit)
    classes = rows[0].classes
    train, test = _alike(*(_decoded(part) for part in rows))
    if limit is not None:
        return train, test, classes
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        kept = {"train": tuple(train), "test": tuple(test), "classes": classes}
        write_whole(file, lambda part: torch.save(kept, part))
    except OSError as error:
        logger.warning("cannot keep decoded images in %s (%s)", cache_dir, error.strerror)
    return train, test, classes


def _fingerprint(source: str) -> str:
    """A hash of a folder's file list, so that changed files are decoded again; the same for every name on the hub."""
    files = [path for path in sorted(Path(source).rglob("*")) if path.is_file()]
    listing = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr((_VERSION, listing)).encode()).hexdigest()[:12]


def _decoded(rows: Rows) -> Images:
    """All images decoded. If one has colour, grey images get three equal channels."""
    chunks: list[Tensor] = []
    chunk: list[Image] = []
    for number, picture in enumerate(rows.pictures(), start=1):
        chunk.append(picture)
        if len(chunk) == _CHUNK or number == len(rows.rows):
            chunks.append(_stacked(chunk))
            chunk = []
    sizes = {tuple(pixels.shape[2:]) for pixels in chunks}
    if len(sizes) > 1:
        raise _differ(*sizes)
    channels = max(pixels.shape[1] for pixels in chunks)
    pixels = torch.cat([pixels.expand(-1, channels, -1, -1) for pixels in chunks])
    return Images(pixels, torch.tensor(rows.labels(), dtype=torch.int64))


def _stacked(pictures: Sequence[Image]) -> Tensor:
    """The pictures as a tensor (N, C, H, W)."""
    sizes = {picture.size[::-1] for picture in pictures}
    if len(sizes) > 1:
        raise _differ(*sizes)
    mode = "RGB" if any(picture.mode == "RGB" for picture in pictures) else "L"
    pixels = torch.from_numpy(np.stack([np.asarray(picture.convert(mode)) for picture in pictures]))
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()


def _differ(*sizes: tuple[int, ...]) -> UserError:
    found = " and ".join(f"{width} x {height}" for height, width in sorted(sizes)[:2])
    return UserError(f"the images differ in size ({found}); give `image_size` to cut them all to one size")


def _alike(train: Images, test: Images) -> tuple[Images, Images]:
    """Both parts with the same number of channels: in colour if one of them has colour."""
    sizes = {tuple(part.pixels.shape[2:]) for part in (train, test)}
    if len(sizes) > 1:
        raise _differ(*sizes)
    channels = max(train.pixels.shape[1], test.pixels.shape[1])
    a, b = (Images(p.pixels.expand(-1, channels, -1, -1).contiguous(), p.labels) for p in (train, test))
    return a, b


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, computed in float64, one chunk at a time."""
    sums = torch.zeros(2, pixels.shape[1], dtype=torch.float64)
    for chunk in pixels.split(_CHUNK):
        values = chunk.double()
        sums += torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
    mean, square = sums / (pixels.numel() / pixels.shape[1])
    std = (square - mean**2).sqrt().clamp_min(1e-6)  # a channel may be the same everywhere
    return mean.float().view(-1, 1, 1), std.float().view(-1, 1, 1)
