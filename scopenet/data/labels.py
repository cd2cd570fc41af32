"""The usable part of a COCO json, read once and kept for whoever asks next.

It is asked for when data are registered, when training loads them and at every evaluation. What is
kept is packed: a tenth of the memory of its objects, and of the time to make them anew. Other
processes of the machine get it from the one that has read it: those that it starts as an argument,
and those of torchrun by :mod:`.shared_labels`.
"""

import gc
import marshal
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from detectron2.utils.file_io import PathManager

from .coco_json import REQUIRED, Json, classes_of, clean_complete, read_coco_json

# What is kept of each part; what else an annotation has, such as its mask, nobody here looks at.
FIELDS = REQUIRED | {"annotations": (*REQUIRED["annotations"], "bbox", "area", "iscrowd")}


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep Python from looking for circles of objects, of which a json has none but millions of
    others: it would take as long as what is done with them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Kept(NamedTuple):
    """What is kept of a file."""

    state: tuple[int, int] | None  # its time and size; None if there is none
    classes: dict[Any, str]  # see `classes_of`
    num_images: int
    packed: bytes


KEPT: dict[str, Kept] = {}  # by path


@uncollected()
def usable_labels(path: str) -> tuple[Json, Counter[str]]:
    """Return what can be used of a COCO json, ``FIELDS`` of each part, as objects of the caller's
    own, and count what is left out; see :func:`~.coco_json.read_coco_json`, also for errors, and
    :func:`~.coco_json.clean`."""
    content, dropped = marshal.loads(keep_labels(path).packed)
    return content, Counter(dropped)


@uncollected()
def keep_labels(path: str) -> Kept:
    """Read and clean a COCO json, unless that was done and the file is the same, see
    :func:`usable_labels`."""
    if not is_kept(path):
        state = _state(path)
        content, dropped = clean_complete(read_coco_json(path))
        for part, fields in FIELDS.items():
            content[part] = [{k: x[k] for k in fields} for x in content[part]]
        content = {part: content[part] for part in FIELDS}
        packed = marshal.dumps((content, dict(dropped)))
        KEPT[path] = Kept(state, classes_of(content), len(content["images"]), packed)
    return KEPT[path]


def is_kept(path: str) -> bool:
    """Tell whether this process has no need to read a json, see :func:`keep_labels`."""
    return path in KEPT and KEPT[path].state == _state(path)


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(PathManager.get_local_path(path))
    except (OSError, ValueError):  # it is missing, or no path
        return None
    return status.st_mtime_ns, status.st_size
