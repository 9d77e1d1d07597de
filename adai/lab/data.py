"""Data sets: images as bytes in memory on the training device, from scikit-learn, the Hugging Face hub or a folder.

Images are decoded once and kept in a cache folder. `adai.lab.imagenet` is for those that memory does not hold.
"""

import hashlib
import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adai.errors import UserError
from adai.files import write_whole
from adai.lab.hub import Rows, find, folder_in, read, some

logger = logging.getLogger(__name__)

_CHUNK = 1000  # images decoded, or measured, at a time


class Images(NamedTuple):
    """Images (N, C, H, W), uint8, with their labels (N,), int64."""

    pixels: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Images":
        """The same on the device."""
        return Images(self.pixels.to(device), self.labels.to(device))

    def few(self, limit: int | None) -> "Images":
        """So many of them at most."""
        chosen = some(len(self.labels), limit)
        return Images(self.pixels[chosen], self.labels[chosen]) if chosen else self


class Dataset(NamedTuple):
    """A training and a test set, and what normalises both.

    ``mean`` and ``std`` are those of the training pixels, per channel, (C, 1, 1), in units of a byte.
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
    data_dir: Path | None = None,
    cache_dir: Path | None = None,
    limit: int | None = None,
) -> Dataset:
    """The data set of that name, on the device.

    Args:
        name: ``digits``, ``mnist``, ``cifar10``, ``cifar100``, a folder of parquet files or of images in class folders
            (with parts ``train`` and ``test`` or ``validation``), or the name of a data set on the Hugging Face hub.
        device: where the bytes go.
        data_dir: a folder with data sets by name; default the environment's ``ADAI_DATA_DIR``.
        cache_dir: where decoded images are kept; default the environment's ``ADAI_CACHE_DIR``, or ``~/.cache/adai``.
        limit: take so many training and test images at most, the same at every call. Only these are decoded, and then
            they are not kept.

    Raises:
        UserError: there is no such data set, it cannot be reached, or it is not one of labelled images of one size.
    """
    if name == "digits":
        train, test = (part.few(limit) for part in _digits())
    else:
        source = find(name, data_dir)
        cache_dir = cache_dir or folder_in("ADAI_CACHE_DIR") or Path.home() / ".cache" / "adai"
        train, test = _cached(source, cache_dir, limit)
    mean, std = _moments(train.pixels)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return Dataset(name, classes, train.to(device), test.to(device), mean.to(device), std.to(device))


def _digits() -> tuple[Images, Images]:
    """The 1,797 handwritten digits, 8x8, that ship with scikit-learn: no download.

    They come in the order in which people wrote them, so the last third, 599 images, is by writers whom the first two
    thirds do not show: test error on it is a good deal higher, and tells more, than on a random split.

    Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    pixels = torch.tensor(bunch.images, dtype=torch.uint8).unsqueeze(1)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    split = len(labels) * 2 // 3
    return Images(pixels[:split], labels[:split]), Images(pixels[split:], labels[split:])


def _cached(source: str, cache_dir: Path, limit: int | None) -> tuple[Images, Images]:
    file = cache_dir / f"{source.strip('/').replace('/', '--')}-{_fingerprint(source)}.pt"
    if file.exists():
        try:
            parts = torch.load(file, weights_only=True)
            return Images(*parts["train"]).few(limit), Images(*parts["test"]).few(limit)
        except Exception as error:  # whatever a damaged file makes torch raise
            logger.warning("%s is damaged (%s) and is made anew", file, type(error).__name__)
    train, test = (_decoded(rows) for rows in read(source, limit))
    if limit is not None:
        return train, test
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        write_whole(file, lambda part: torch.save({"train": tuple(train), "test": tuple(test)}, part))
    except OSError as error:
        logger.warning("cannot keep decoded images in %s (%s)", cache_dir, error.strerror)
    return train, test


def _fingerprint(source: str) -> str:
    """What a folder holds, so that other files in it are decoded anew; the same for every name on the hub."""
    files = [path for path in sorted(Path(source).rglob("*")) if path.is_file()]
    listing = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(listing).encode()).hexdigest()[:12]


def _decoded(rows: Rows) -> Images:
    arrays: list[NDArray[np.uint8]] = []
    for start in range(0, len(rows.rows), _CHUNK):
        decoded = [np.asarray(picture) for picture in rows.rows[start : start + _CHUNK][rows.image]]
        if len({array.shape for array in decoded}) > 1 or (arrays and decoded[0].shape != arrays[0].shape[1:]):
            raise UserError("the images differ in size or channels; give --image-size to cut them all to one size")
        arrays.append(np.stack(decoded))
    pixels = torch.from_numpy(np.concatenate(arrays))
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return Images(pixels, torch.tensor(rows.rows[rows.label][:], dtype=torch.int64))


def _moments(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, in float64 a chunk at a time."""
    sums = torch.zeros(2, pixels.shape[1], dtype=torch.float64)
    for chunk in pixels.split(_CHUNK):
        values = chunk.double()
        sums += torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))])
    mean, square = sums / (pixels.numel() / pixels.shape[1])
    std = (square - mean**2).sqrt().clamp_min(1e-6)  # a channel may be the same everywhere
    return mean.float().view(-1, 1, 1), std.float().view(-1, 1, 1)
