"""Pictures as files hold them, made grey or RGB with a byte a channel; what cannot be is refused by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from adai.errors import UserError

# Modes of which Pillow makes RGB without losing anything but a colour space. Others (I;16, I, F, LAB) hold more than a
# byte a channel, or numbers that are no brightness: which range of them matters only their owner knows.
_GREY = ("1", "L", "LA")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")


def decoded(encoded: Mapping[str, Any], name: str) -> Image:
    """The picture, in mode ``L`` or ``RGB``.

    Black and white becomes grey, a palette its colours, CMYK RGB. An alpha channel that is opaque everywhere goes.

    Args:
        encoded: ``path`` and ``bytes`` as a column of the `datasets` library holds them, either may be None.
        name: of the picture, for what is said of it.

    Raises:
        UserError: it cannot be read, has several frames, is transparent somewhere, or holds more than a byte a channel.
    """
    from datasets import Image as Column

    try:
        # Turns it upright, too, where the file says how it was held.
        picture: Image = Column().decode_example({"path": encoded["path"], "bytes": encoded["bytes"]}, {})
    except Exception as error:  # whatever a damaged file makes Pillow raise
        what = " ".join(str(error).split())[:120]
        raise UserError(
            f"cannot read the image {name} ({type(error).__name__}: {what}); mend it or take it out"
        ) from error
    # The second picture of an MPO file, which cameras write as .jpg, is a preview or the other eye's.
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":
        raise UserError(f"the image {name} has {frames} frames; make each an image of its own")
    return _in_bytes(picture, name)


def _in_bytes(picture: Image, name: str) -> Image:
    if picture.mode not in _GREY + _COLOUR:
        raise UserError(
            f"the image {name} is of mode {picture.mode}, which does not fit into a byte a channel; convert it to 8 "
            "bits with the range that matters"
        )
    if picture.has_transparency_data:
        whole = picture.convert("RGBA")
        if np.asarray(whole.getchannel("A")).min() < 255:
            raise UserError(
                f"the image {name} (mode {picture.mode}) is transparent in places; put it on a background first"
            )
        # Through RGBA: straight from a mode with a transparent colour Pillow may mark that colour.
        return whole.convert("L" if picture.mode in _GREY else "RGB")
    return picture.convert("L" if picture.mode in _GREY else "RGB")


def name_of(encoded: Mapping[str, Any], number: int) -> str:
    """A picture's file where it has one, else its number."""
    path = encoded["path"]
    # A file within a parquet file has a name, but nothing lies there.
    return str(path) if path and Path(path).is_file() else f"number {number}" + (f" ({path})" if path else "")
