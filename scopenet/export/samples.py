"""The images that an export is calibrated and verified with: of a data set or a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..engine.checks import check_datasets
from ..errors import ConfigError
from ..images import images_in


def is_labelled(source: str) -> bool:
    """Tell whether ``source`` is a registered data set with annotations in COCO's format."""
    return source in DatasetCatalog.list() and bool(MetadataCatalog.get(source).get("json_file"))


def find_samples(source: str, count: int) -> list[dict[str, Any]]:
    """List images, evenly spread, as Detectron2's dataset dicts; of a folder only "file_name".

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
        found = [{"file_name": str(x)} for x in images_in(Path(source))]
    else:
        raise ConfigError(f"{source} is neither a registered data set nor a folder of images.")
    if not found:
        raise ConfigError(f"{source} has no images.")
    return spread(found, count or len(found))


def spread(items: Sequence, count: int) -> list:
    """Take at most ``count`` of the items, evenly spaced, the first among them."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]
