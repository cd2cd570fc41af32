"""What an exported file says of itself, and what it returns."""

import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from ..errors import ConfigError, refused

KEY = "scopenet"  # under which the file holds it, as JSON
FORMAT = 1
PRECISIONS = ("float32", "bfloat16", "int8")


class Outputs(NamedTuple):
    """K detections of one image, best first, as every exported file returns them."""

    boxes: np.ndarray  # (K, 4) float32 XYXY px
    scores: np.ndarray  # (K,) float32, p_box, or p_cls where the guided score is off
    classes: np.ndarray  # (K,) int64
    cls_scores: np.ndarray  # (K,) float32, p_cls
    loc_scores: np.ndarray  # (K,) float32, p_loc
    border_scores: np.ndarray  # (K, 4) float32, of the left, top, right and bottom borders
    border_stds: np.ndarray | None = None  # (K, 4) float32 px, where the model has learned errors

    def take(self, kept: np.ndarray) -> "Outputs":
        """Return the detections that ``kept``, (K,) bool, names."""
        return Outputs._make(None if x is None else x[kept] for x in self)


@dataclass(frozen=True)
class Metadata:
    """What is needed to use an exported file, and where it is from.

    Images are resized as by Detectron2's ``ResizeShortestEdge(min_size, max_size)``, px; a
    ``min_size`` of 0 leaves them as they are.
    """

    version: str  # of the package that exported the file
    class_names: list[str]  # by class
    min_size: int
    max_size: int
    precision: str  # to run in, one of PRECISIONS
    thresholds: dict[str, float]  # which are fixed in the file, for people
    config: str  # the full config, as YAML

    def to_json(self) -> str:
        """Write it as the file holds it."""
        return json.dumps({"format": FORMAT} | asdict(self), ensure_ascii=False)


def parse_metadata(text: str | bytes, path: str) -> Metadata:
    """Read what ``Metadata.to_json`` has written; a ConfigError says what is wrong with ``text``,
    which is empty if the file ``path`` has none."""
    if not text:
        raise ConfigError(f"{path} was not written by `scopenet export`, or lost its metadata.")
    with refused(f"The metadata in {path} are damaged"):
        content = json.loads(text)
        found = content.pop("format")
        if found == FORMAT:
            return _checked(Metadata(**content))
    raise ConfigError(f"{path} has metadata of format {found}, not {FORMAT}.")


def _checked(metadata: Metadata) -> Metadata:
    sizes = metadata.min_size, metadata.max_size
    if not all(type(x) is int and x >= 0 for x in sizes):
        raise ValueError(f"sizes {sizes}")
    if metadata.precision not in PRECISIONS:
        raise ValueError(f"precision {metadata.precision}")
    if not all(isinstance(x, str) for x in metadata.class_names):
        raise ValueError(f"class names {metadata.class_names}")
    return metadata
