"""Real images for calibration and verification: of a registered data set or a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image

from ..data.image_file import check_png
from ..engine.checks import check_datasets
from ..errors import ConfigError

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def is_labelled(source: str) -> bool:
    """Whether ``source`` is a registered data set with annotations in COCO's format."""
    return source in DatasetCatalog.list() and bool(MetadataCatalog.get(source).get("json_file"))


def find_images(source: str, count: int) -> list[dict[str, Any]]:
    """Images, evenly spread, as Detectron2's dataset dicts; of a folder with "file_name" only.

    Args:
        source: a registered data set, or a folder.
        count: at most so many; 0 for all.

    Raises:
        ConfigError: there are no images.
    """
    if source in DatasetCatalog.list():
        check_datasets((source,))
        found = DatasetCatalog.get(source)
    elif Path(source).is_dir():
        paths = sorted(x for x in Path(source).iterdir() if x.suffix.lower() in _SUFFIXES)
        found = [{"file_name": str(x)} for x in paths]
    else:
        raise ConfigError(f"{source} is neither a registered data set nor a folder of images.")
    if not found:
        raise ConfigError(f"{source} has no images.")
    return spread(found, count or len(found))


def spread(items: Sequence, count: int) -> list:
    """At most ``count`` of the items, evenly spaced, the first among them."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def read_bgr(record: dict[str, Any]) -> np.ndarray:
    """
    Raises:
        ConfigError: the file is no image.
    """
    try:
        check_png(record["file_name"])
        return np.ascontiguousarray(read_image(record["file_name"], "BGR"))
    except Exception as error:  # Pillow's decoders raise nearly anything
        raise ConfigError(f"{record['file_name']} cannot be read as an image.") from error
