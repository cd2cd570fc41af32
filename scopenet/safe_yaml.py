"""Reading YAML of others: aliases can make a few lines larger than any memory, what is nested a
hundredfold takes Detectron2 seconds, and a config can name any address or device as its base."""

import os
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError

MAX_NODES = 100_000  # with every alias written out; Detectron2's whole config has about 500
MAX_DEPTH = 40
MAX_FILES = 100  # that one config is based on, each counted as often as it is read


def read_yaml(text: str | bytes, loader: type = yaml.SafeLoader) -> Any:
    """Read YAML by a safe loader; raise a ValueError if aliases make it larger than ``MAX_NODES``
    or it is nested deeper than ``MAX_DEPTH``, and nearly anything if it is malformed."""
    marks = text if isinstance(text, str) else text.decode(errors="replace")
    if "&" in marks and "*" in marks and _size(yaml.compose(text, loader), {}) > MAX_NODES:
        raise ValueError("its aliases stand for too much")
    content = yaml.load(text, loader)
    _check_depth([content] if isinstance(content, dict | list) else [], MAX_DEPTH)
    return content


def _check_depth(node: Any, left: int) -> None:
    if left < 0:
        raise ValueError(f"it is nested more than {MAX_DEPTH} times")
    for child in node.values() if isinstance(node, dict) else node:
        if isinstance(child, dict | list | tuple):
            _check_depth(child, left - 1)


def _size(node: yaml.Node | None, sizes: dict[int, int]) -> int:
    """Count a node and all below it; one that is not yet counted then holds itself."""
    if id(node) not in sizes:
        sizes[id(node)] = MAX_NODES + 1
        children: Any = node.value if isinstance(node, yaml.CollectionNode) else ()
        if isinstance(node, yaml.MappingNode):
            children = [x for pair in children for x in pair]
        sizes[id(node)] = 1 + sum(_size(x, sizes) for x in children)
    return sizes[id(node)]


def check_config_file(
    path: str, above: tuple[str, ...] = (), read: list[str] | None = None
) -> None:
    """Look at a YAML config and those that it is based on, which are to be files on this machine;
    raise nearly anything if they are malformed, a ConfigError if they are no such files."""
    read = [path] if read is None else read
    content = read_yaml(Path(path).read_text())
    yaml.safe_dump(content)  # as every run does with its config: not all that can be read can be
    bases = content.get("_BASE_", []) if isinstance(content, dict) else []
    for base in bases if isinstance(bases, list) else [bases]:
        found = os.path.join(os.path.dirname(path), os.path.expanduser(str(base)))
        # Those of a device have no size.
        if "://" in found or not os.path.isfile(found) or not os.path.getsize(found):
            raise ConfigError(f"{path} is based on {base}, which is no file with a config here.")
        if found in above:
            raise ConfigError(f"{path} is based on {base}, which is based on it.")
        read.append(found)
        if len(read) > MAX_FILES:
            raise ConfigError(f"{read[0]} is based on more than {MAX_FILES} files.")
        check_config_file(found, (*above, path), read)
