"""The index of a zoo: which files were published for which config."""

import json
import math
import re
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import ConfigError

INDEX = "index.json"
FORMAT = 1
# What paths in a zoo are made of: no ".." and nothing hidden, no drive and no address.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
Metrics = dict[str, dict[str, float | None]]  # data set -> "AP", ... of its boxes, in percent


@dataclass(frozen=True)
class File:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Entry:
    """What was published for one config.

    Attributes:
        folder: where its files are, relative to the zoo, with slashes.
        weights: name of the files of weights, without suffix.
        files: by name.
        facts: what is known of the training, for people; label -> text.
        metrics: of the evaluations; none is an empty dict.
    """

    folder: str
    weights: str
    files: dict[str, File]
    facts: dict[str, str]
    metrics: Metrics


def check_path(path: Any) -> str:
    """``path``, if it is one that stays in the zoo.

    Raises:
        ConfigError: it could lead elsewhere, or it has characters that addresses must not have.
    """
    if isinstance(path, str) and all(map(_NAME.fullmatch, path.split("/"))):
        return path
    raise ConfigError(
        f"{path!r} is no path in a model zoo: its parts are letters, digits and any of _.+=- and "
        "do not start with one of .+=-."
    )


def _need(is_right: bool, what: str) -> None:
    if not is_right:
        raise ConfigError(f"it lacks {what}.")


def _read_file(name: str, content: dict) -> File:
    _need("/" not in check_path(name), "plain file names")
    sha256, size = content["sha256"], content["bytes"]
    _need(isinstance(sha256, str) and bool(_SHA256.fullmatch(sha256)), f"the sha256 of {name}")
    _need(type(size) is int and size >= 0, f"the size of {name}")
    return File(sha256, size)


def _read_metrics(content: dict) -> Metrics:
    values = [x for metrics in content.values() for x in metrics.values()]
    _need(all(x is None or math.isfinite(x) for x in values), "numbers as metrics")
    return content


def _read_entry(content: dict) -> Entry:
    files = {name: _read_file(name, x) for name, x in content["files"].items()}
    weights = check_path(content["weights"])
    for name in (f"{weights}.pkl", f"{weights}.safetensors", "config.yaml"):
        _need(name in files, name)
    facts = content["facts"]
    _need(all(isinstance(x, str) for x in facts.values()), "facts in words")
    metrics = _read_metrics(content["metrics"])
    return Entry(check_path(content["folder"]), weights, files, facts, metrics)


def parse_index(text: bytes, where: str) -> dict[str, Entry]:
    """The entries by the names of their configs.

    Raises:
        ConfigError: the text is not an index, or names a path outside the zoo.
    """
    try:
        content = json.loads(text)
        _need(content["format"] == FORMAT, f"the format {FORMAT} that this version reads")
        return {check_path(name): _read_entry(x) for name, x in content["models"].items()}
    except Exception as error:  # JSON of any other shape raises nearly anything above
        is_known = isinstance(error, ConfigError)
        reason = str(error) if is_known else f"{type(error).__name__}, {error}."
        raise ConfigError(f"{where} is not the index of a model zoo: {reason}") from error


def dump_index(entries: dict[str, Entry]) -> bytes:
    """The inverse of :func:`parse_index`; equal entries give equal bytes."""
    content = {"format": FORMAT, "models": {name: asdict(x) for name, x in entries.items()}}
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
