"""Crops and flips: the batch at once equals one image after the other, and they do not depend on how it is cut."""

import pytest
import torch

from adai.lab.tasks.augment import PADDING, cropped, draw_crops
from adai.lab.tasks.sources import Tensors

RNG = torch.Generator().manual_seed(0)
PIXELS = torch.randint(1, 256, (40, 3, 6, 5), dtype=torch.uint8, generator=RNG)


def one(image, top, left, mirrored):
    """One image (C, H, W), pixel by pixel."""
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for y in range(height):
        for x in range(width):
            from_y = y + top - PADDING
            from_x = (width - 1 - x if mirrored else x) + left - PADDING
            if 0 <= from_y < height and 0 <= from_x < width:
                result[:, y, x] = image[:, from_y, from_x]
    return result


def test_the_batch_at_once_equals_one_image_after_the_other():
    crops = draw_crops(len(PIXELS), torch.Generator().manual_seed(1))
    got = cropped(PIXELS, crops)
    assert got.dtype == torch.uint8
    for image, result, *crop in zip(PIXELS, got, *(t.tolist() for t in crops), strict=True):
        assert torch.equal(result, one(image, *crop))


def test_places_and_coins_are_uniform_and_a_seed_draws_them_again():
    crops = draw_crops(90_000, torch.Generator().manual_seed(2))
    for place in (crops.top, crops.left):
        counts = place.bincount()
        assert len(counts) == 2 * PADDING + 1
        assert counts.double() == pytest.approx([10_000] * 9, rel=0.05)
    assert crops.mirrored.double().mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.corrcoef(torch.stack([crops.top, crops.left, crops.mirrored]).double()).triu(1).abs().max() < 0.02
    again = draw_crops(90_000, torch.Generator().manual_seed(2))
    assert all(map(torch.equal, crops, again))


def test_an_image_has_its_own_crop_however_the_epoch_is_cut_into_batches():
    source = Tensors(PIXELS, torch.arange(40), augment=True)
    order = torch.randperm(40, generator=RNG)

    def epoch(size, seed):
        pairs = list(source.batches(order.split(size), torch.Generator().manual_seed(seed)))
        assert torch.equal(torch.cat([targets for _, targets in pairs]), order)
        return torch.cat([inputs for inputs, _ in pairs])

    assert torch.equal(epoch(7, 3), epoch(40, 3))
    assert not torch.equal(epoch(7, 3), epoch(7, 4))
    plain = Tensors(PIXELS, torch.arange(40))
    assert torch.equal(next(plain.batches([order], RNG))[0], PIXELS[order])
