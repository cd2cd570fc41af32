"""Images as Detectron2's ``DatasetMapper`` reads them."""

import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..data.image_file import check_png


class ImageError(ValueError):
    """An image that cannot be looked at; the message continues "<name> is left out: "."""


def read_photo(path: str) -> np.ndarray:
    """An image file as BGR uint8 (H, W, 3), turned as its EXIF orientation says. Greyscale, palette
    and CMYK become colours, transparency is dropped.

    Raises:
        ImageError: the file is none, is damaged, or has more than 8 bits per channel.
    """
    try:
        check_png(path)
        with Image.open(path) as image:
            mode = image.mode
        if mode[0] not in "IF":  # Pillow would clip their values instead of scaling them
            return np.ascontiguousarray(read_image(path, format="BGR"))
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        raise ImageError(f"it cannot be read ({_reason(error)}).") from error
    raise ImageError("it has more than 8 bits per channel; convert it to 8 bits first.")


def _reason(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "no known image format"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split()).rstrip(".")
