"""Decodes image files to grey or RGB with one byte per channel. Files that cannot be converted are refused by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from adai.errors import UserError

# Modes that Pillow converts to RGB without losing anything but a colour space. Others (I;16, I, F, LAB) have more than
# one byte per channel, or numbers that are not brightness: only their owner knows which range matters.
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


def decoded(encoded: Mapping[str, Any], name: str) -> Image:
    """The picture, in mode ``L`` or ``RGB``.

    Black and white becomes grey; palettes and CMYK become RGB. An alpha channel that is opaque everywhere is removed.

    Args:
        encoded: ``path`` and ``bytes`` as in a column of the `datasets` library; either may be None.
        name: of the picture, for messages.

    Raises:
        UserError: the picture cannot be read, has several frames or transparent pixels, or has more than one byte per
            channel.
    """
    from datasets import Image as Column

    try:
        # This also rotates the picture as the orientation in the file says.
        picture: Image = Column().decode_example({"path": encoded["path"], "bytes": encoded["bytes"]}, {})
    except Exception as error:  # on a damaged file, Pillow may raise anything
        what = " ".join(str(error).split())[:120]
        raise UserError(
            f"cannot read the image {name} ({type(error).__name__}: {what}); repair or remove it"
        ) from error
    # The second picture of an MPO file, which cameras write as .jpg, is a preview or the other eye's.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise UserError(f"the image {name} has {frames} frames; make each an image of its own")
    return _in_bytes(picture, name)


def _in_bytes(picture: Image, name: str) -> Image:
    if picture.mode not in _GREY + _COLOUR:
        raise UserError(
            f"the image {name} is of mode {picture.mode}, which does not fit into one byte per channel; convert it to "
            "8 bits with the range that matters"
        )
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        if np.asarray(whole.getchannel("A")).min() < 255:
            raise UserError(
                f"the image {name} (mode {picture.mode}) is transparent in places; put it on a background first"
            )
        # Convert through RGBA: in a direct conversion from a mode with a transparent colour, Pillow may keep that mark.
        return whole.convert("L" if picture.mode in _GREY else "RGB")
    return picture.convert("L" if picture.mode in _GREY else "RGB")


def name_of(encoded: Mapping[str, Any], number: int) -> str:
    """The file of a picture if there is one, else its number."""
    path = encoded["path"]
    # A picture inside a parquet file has a name, but no file of that name exists.
    return str(path) if path and Path(path).is_file() else f"number {number}" + (f" ({path})" if path else "")
