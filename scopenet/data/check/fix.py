"""A cleaned copy of a json: what training would leave out or skip is not in it."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

from ...atomic import write_json
from ...errors import ConfigError
from ..coco_json import REQUIRED, check_entries, clean
from .annotations import complete_entries
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
    """Look whether the copy would take the place of its source.

    Raises:
        ConfigError: it would.
    """
    if os.path.realpath(target) == os.path.realpath(source) or (
        target.exists() and target.samefile(source)
    ):
        raise ConfigError(f"--fix {target} is the file to check; name another one.")


def fixed(content: dict[str, Any], findings: list[Finding]) -> tuple[dict[str, Any], Counter[str]]:
    """Copy what training can use.

    Args:
        content: of :func:`~scopenet.data.coco_json.parse_json`; not changed.
        findings: of all its images.

    Returns:
        the cleaned copy, and how many entries were left out for which reason.
    """
    unusable = {x.id: x.kind for x in findings if x.part == "images" and x.kind in _UNUSABLE}
    kept = {part: complete_entries(content, part) for part in REQUIRED}
    dropped = Counter({"missing field": sum(len(content[x]) - len(kept[x]) for x in kept)})
    dropped.update(unusable[x["id"]] for x in kept["images"] if x["id"] in unusable)
    dropped["box of an image that is left out"] = sum(
        x["image_id"] in unusable for x in kept["annotations"]
    )
    for part, field in (("images", "id"), ("annotations", "image_id")):
        kept[part] = [x for x in kept[part] if x[field] not in unusable]
    cleaned, more = clean(content | kept)
    return cleaned, dropped + more


def write_fixed(content: dict[str, Any], path: Path) -> None:
    """Write the copy, if it can be used.

    Raises:
        ConfigError: what is left still cannot be trained on; nothing is written then.
    """
    if all(x["iscrowd"] for x in content["annotations"]):
        raise ConfigError(f"No usable boxes are left, or of crowds only: {path} is not written.")
    try:
        check_entries(content, "The cleaned copy")
    except ConfigError as error:
        raise ConfigError(f"{error} This has to be mended by hand.") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
