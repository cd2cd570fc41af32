"""A cleaned copy of a json: what training would leave out or skip is not in it."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from ...errors import ConfigError
from ..coco_json import clean, read_coco_json
from .annotations import is_complete
from .findings import Finding

# Findings on an image file because of which the image is left out.
_UNUSABLE = {
    "missing file",
    "empty file",
    "truncated file",
    "unreadable file",
    "other size",
    "too narrow image",
}


def check_target(target: Path, source: Path) -> None:
    """
    Raises:
        ConfigError: the copy would take the place of its source.
    """
    if os.path.realpath(target) == os.path.realpath(source) or (
        target.exists() and target.samefile(source)
    ):
        raise ConfigError(f"--fix {target} is the file to check; name another one.")


def fixed(content: dict[str, Any], findings: list[Finding]) -> tuple[dict[str, Any], Counter[str]]:
    """
    Args:
        content: of :func:`~scopenet.data.coco_json.parse_json`; not changed.
        findings: of all its images.

    Returns:
        the cleaned copy, and how many entries were left out for which reason.
    """
    unusable = {x.id: x.kind for x in findings if x.part == "images" and x.kind in _UNUSABLE}
    complete = {
        part: [x for x in content[part] if is_complete(x, part)]
        for part in ("images", "annotations", "categories")
    }
    dropped: Counter[str] = Counter()
    for part, kept in complete.items():
        dropped["missing field"] += len(content[part]) - len(kept)
    dropped.update(unusable[x["id"]] for x in complete["images"] if x["id"] in unusable)
    complete["images"] = [x for x in complete["images"] if x["id"] not in unusable]
    of_unusable = [x for x in complete["annotations"] if x["image_id"] in unusable]
    dropped["box of an image that is left out"] += len(of_unusable)
    complete["annotations"] = [x for x in complete["annotations"] if x["image_id"] not in unusable]
    cleaned, more = clean(content | complete)
    return cleaned, +dropped + more


def write_fixed(content: dict[str, Any], path: Path) -> None:
    """Write it in one step.

    Raises:
        ConfigError: what is left still cannot be trained on; nothing is written then.
    """
    if all(x["iscrowd"] for x in content["annotations"]):
        raise ConfigError(f"No usable boxes are left, or of crowds only: {path} is not written.")
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    unfinished.write_text(json.dumps(content), encoding="utf-8")
    try:
        read_coco_json(unfinished)
    except ConfigError as error:
        unfinished.unlink()
        message = str(error).replace(str(unfinished), "The cleaned copy")
        raise ConfigError(f"{message} This has to be mended by hand.") from error
    os.replace(unfinished, path)
