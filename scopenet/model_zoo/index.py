"""The index of a zoo: which files were published for which config."""

import builtins
import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ConfigError, refused

FORMAT = 1
CLASS_NAMES = "class_names.json"  # of an entry
# What paths in a zoo are made of: no ".." and nothing hidden, no drive and no address.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
Metrics = dict[str, dict[str, float | None]]  # data set -> "AP", ... of its boxes, in percent


def check_path(path: Any) -> str:
    """Return ``path``; a ConfigError says what is wrong with one that could leave the zoo."""
    if isinstance(path, str) and all(map(_NAME.fullmatch, path.split("/"))):
        return path
    raise ConfigError(
        f"{path!r} is no path in a model zoo: its parts are letters, digits and any of _.+=- and "
        "do not start with one of .+=-."
    )


def _need(is_there: Any, what: str) -> None:
    if not is_there:
        raise ConfigError(f"it lacks {what}.")


@dataclass(frozen=True)
class File:
    """What the content of a published file has to be."""

    sha256: str
    bytes: int

    def __post_init__(self):
        _need(_SHA256.fullmatch(self.sha256), "the sha256 of a file")
        _need(type(self.bytes) is int and self.bytes >= 0, "the size of a file")

    @classmethod
    def of(cls, content: builtins.bytes) -> "File":
        return cls(hashlib.sha256(content).hexdigest(), len(content))


@dataclass(frozen=True)
class Entry:
    """What was published for one config."""

    folder: str  # relative to the zoo, with slashes; "." for the zoo itself
    weights: str  # name of the files of weights, without suffix
    files: dict[str, File]  # by name
    facts: dict[str, str]  # what is known of the training, for people: label -> text
    metrics: Metrics  # empty without an evaluation

    def __post_init__(self):
        for path in (self.folder if self.folder != "." else "_", self.weights, *self.files):
            check_path(path)
        for name in (f"{self.weights}.safetensors", "config.yaml"):
            _need(name in self.files, name)
        _need(all(isinstance(x, str) for x in self.facts.values()), "facts in words")
        numbers = [x for values in self.metrics.values() for x in values.values()]
        _need(all(x is None or math.isfinite(x) for x in numbers), "numbers as metrics")

    @property
    def checkpoint(self) -> str:
        """The file that Detectron2's own checkpointer reads: a ``.pth``; a ``.pkl``, which it
        unpickles, in zoos of an earlier version; in the Hub there are only ``.safetensors``."""
        names = [f"{self.weights}.{x}" for x in ("pth", "pkl", "safetensors")]
        return next(x for x in names if x in self.files)


def parse_index(text: bytes, where: str) -> dict[str, Entry]:
    """Read the entries by the names of their configs; a ConfigError says why ``text``, which is of
    the file ``where``, is no index or names a path outside of the zoo."""
    with refused(f"{where} is not the index of a model zoo"):
        content = json.loads(text)
        _need(content["format"] == FORMAT, f"the format {FORMAT} that this version reads")
        models = content["models"]
        for entry in models.values():
            entry["files"] = {name: File(**x) for name, x in entry["files"].items()}
        return {check_path(name): Entry(**x) for name, x in models.items()}


def dump_index(entries: dict[str, Entry]) -> bytes:
    """Write what :func:`parse_index` reads; equal entries give equal bytes."""
    content = {"format": FORMAT, "models": {name: asdict(x) for name, x in entries.items()}}
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
