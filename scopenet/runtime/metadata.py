"""What an exported file says of itself."""

import json
from dataclasses import asdict, dataclass

from ..errors import ConfigError

KEY = "scopenet"  # under which the file holds it, as JSON
FORMAT = 1
PRECISIONS = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Metadata:
    """What is needed to use an exported file, and where it is from.

    Attributes:
        version: of the package that exported the file.
        class_names: by class index.
        min_size, max_size: the shorter side that an image is resized to, and what the longer may
            become at most, px, as in Detectron2's ``ResizeShortestEdge``; a ``min_size`` of 0
            leaves images as they are.
        precision: to run in, one of ``PRECISIONS``.
        thresholds: options of the detections that are fixed in the file, for people.
        config: the full config, as YAML.
    """

    version: str
    class_names: list[str]
    min_size: int
    max_size: int
    precision: str
    thresholds: dict[str, float]
    config: str

    def to_json(self) -> str:
        """Write it as the file holds it."""
        return json.dumps({"format": FORMAT} | asdict(self), ensure_ascii=False)


def parse_metadata(text: str, path: str) -> Metadata:
    """Read what ``Metadata.to_json`` has written.

    Args:
        text: empty if the file has none.
        path: of the file, for messages.

    Raises:
        ConfigError: the text is not what :class:`Metadata` describes.
    """
    if not text:
        raise ConfigError(f"{path} was not written by `scopenet export`, or lost its metadata.")
    try:
        content = json.loads(text)
        found = content.pop("format")
        if found != FORMAT:
            raise ConfigError(f"{path} has metadata of format {found}, not {FORMAT}.")
        metadata = Metadata(**content)
        _check_values(metadata)
        return metadata
    except ConfigError:
        raise
    except Exception as error:  # JSON of any other shape
        raise ConfigError(f"The metadata in {path} are damaged: {error!r}.") from error


def _check_values(metadata: Metadata) -> None:
    """Raise a ValueError that names a value which cannot be."""
    sizes = metadata.min_size, metadata.max_size
    if not all(type(x) is int and x >= 0 for x in sizes):
        raise ValueError(f"sizes {sizes}")
    if metadata.precision not in PRECISIONS:
        raise ValueError(f"precision {metadata.precision}")
    if not all(isinstance(x, str) for x in metadata.class_names):
        raise ValueError(f"class names {metadata.class_names}")
