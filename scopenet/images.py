"""Finding and reading image files, in the way in which training reads them; needs no PyTorch."""

import glob
import os
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from .errors import ConfigError, ImageError
from .storage import is_uri, read_file

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm")
# What turns an image upright, by its orientation.
_TURNS = dict(
    zip(
        range(2, 9),
        (
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ),
        strict=True,
    )
)
_PNG = b"\x89PNG\r\n\x1a\n"
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")  # text, and with a preview before it


def listed(suffixes: Sequence[str]) -> str:
    """Join suffixes for a sentence."""
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"


def images_in(folder: Path, *, recursive: bool = False) -> list[Path]:
    """List the image files of a folder, and of those below it if ``recursive``, in the order of
    their names; raise a ConfigError if there are none."""
    if not folder.is_dir():
        raise ConfigError(f"The folder {folder} does not exist.")
    files = folder.rglob("*") if recursive else folder.iterdir()
    found = sorted(x for x in files if x.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise ConfigError(f"The folder {folder} holds no {listed(IMAGE_SUFFIXES)} files.")
    return found


def find_images(inputs: Sequence[str]) -> list[Path]:
    """List the files that are named by files, folders (without the folders in them) and patterns;
    raise a ConfigError if one of them gives none, or a file that is no image by its suffix."""
    files = [x for one in inputs for x in _matches(one)]
    for x in files:
        if x.suffix.lower() in VIDEO_SUFFIXES:
            raise ConfigError(f"{x} is a video; give it with --video-input.")
        if x.suffix.lower() not in IMAGE_SUFFIXES:
            raise ConfigError(f"{x} is no image by its suffix, none of {listed(IMAGE_SUFFIXES)}.")
    return list(dict.fromkeys(files))


def _matches(one: str) -> list[Path]:
    path = Path(one)
    if path.is_dir():
        return images_in(path)
    if path.exists():
        return [path]
    found = [Path(x) for x in sorted(glob.glob(one, recursive=True)) if Path(x).is_file()]
    if not found:
        raise ConfigError(f"The input {one} does not exist, and matches nothing as a pattern.")
    return found


def read_image(source: str | os.PathLike | bytes) -> np.ndarray:
    """Read an image file, by its path or an address such as ``s3://``, or what one holds, as BGR
    uint8 (H, W, 3), turned as its EXIF orientation says.

    Greyscale, palette and CMYK become colours, transparency is dropped: what Detectron2's
    ``read_image`` gives. Damaged files and those of more than 8 bits raise an ImageError.
    """
    name = "The content" if isinstance(source, bytes) else source
    try:
        if isinstance(source, str) and is_uri(source):
            source = read_file(source)
        with BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as f:
            check_image_file(f)
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            if image.mode[0] in "IF":  # Pillow would clip their values instead of scaling them
                raise ImageError(
                    f"{name} has more than 8 bits per channel; convert it to 8 bits first."
                )
            turn = _TURNS.get(orientation_of(image))
            upright = image if turn is None else image.transpose(turn)
            # To convert is to copy, which large images have no memory for.
            pixels = np.asarray(upright if upright.mode == "RGB" else upright.convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        raise ImageError(f"{name} cannot be read ({reason_of(error)}).") from error
    return np.ascontiguousarray(pixels[:, :, ::-1])


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 for upright; above 4 width and height are exchanged."""
    try:
        return image.getexif().get(0x0112, 1)
    except Exception:  # damaged EXIF data say nothing about the pixels
        return 1


def reason_of(error: Exception) -> str:
    """Say in a few words, without a full stop, why a file could not be read."""
    if isinstance(error, UnidentifiedImageError):  # its own message names an object in memory
        return "no known image format"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(reason.split()).rstrip(".")


def check_image_file(file: BinaryIO) -> None:
    """Raise a ValueError for PostScript, and what PIL says of an open PNG that cannot be decoded to
    its end.

    PIL would hand the one to Ghostscript, as a program to be run, whatever the file's suffix.
    Detectron2 ignores the other while it looks for EXIF data, for which a PNG is decoded: of a
    damaged one it would take what was decoded until then for the image.
    """
    start = file.read(len(_PNG))
    if start.startswith(_POSTSCRIPT):
        raise ValueError("PostScript, which is a program")
    if start != _PNG:
        return
    content = _PNG + file.read()
    try:
        Image.open(BytesIO(content)).verify()  # checksums only, which takes next to no time
    except Exception:
        Image.open(BytesIO(content)).load()
