"""A zoo with one small model, and ways to spoil it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import write_checkpoint
from detectron2.modeling import build_model
from miniature import TINY

from scopenet import ConfigError, load_config
from scopenet.model_zoo.publishing import publish

CONFIG = "ScopeNet_R_50_FPN_1x.yaml"


def publish_small(folder: Path) -> Path:
    """Makes a checkpoint `x.pth` of :data:`CONFIG`, and `zoo`, where it is published."""
    cfg = load_config(CONFIG, [*TINY, "MODEL.SCOPENET.NUM_CLASSES", "3"])
    write_checkpoint(folder / "x.pth", build_model(cfg), cfg.dump())
    publish(folder / "x.pth", CONFIG, folder / "zoo")
    return folder


def refusal(call: Callable, *arguments, **options) -> str:
    """The message of the ConfigError, checked to be one sentence."""
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message[-1] in ".?" and message[-2] not in ".?"
    return message


def change_index(zoo: Path, change: Callable[[dict], None], name: str = CONFIG) -> None:
    """``change`` gets the only entry, which is under ``name`` then."""
    index = json.loads((zoo / "index.json").read_text())
    (entry,) = index["models"].values()
    change(entry)
    index["models"] = {name: entry}
    (zoo / "index.json").write_text(json.dumps(index))


def replace(zoo: Path, suffix: str, content: bytes, name: str = CONFIG) -> Path:
    """Put something else in place of a file, with its right sha256 in the index."""
    (path,) = zoo.rglob(f"*{suffix}")
    path.write_bytes(content)
    file = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change_index(zoo, lambda entry: entry["files"].update({path.name: file}), name)
    return path
