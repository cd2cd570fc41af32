"""YAML: configs of one's own, and those that are published with a model."""

import functools
import json
import random
from ast import literal_eval
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from omegaconf import DictConfig, OmegaConf

from hostile import trees
from hostile.case import Case
from hostile.yaml_texts import BASES, spoilt, to_yaml
from scopenet.config_file import config_dir, find_config, leaves, load_config
from scopenet.model_zoo import published_config
from scopenet.model_zoo.published_config import read_published, read_source


class Yaml:
    suffix = ".yaml"
    packages = frozenset({"encodings", "iopath"})

    def __init__(self, folder: Path):
        names = (
            "ScopeNet_R_50_FPN_1x.yaml",
            "OwnData-ScopeNet_R_50_FPN_GN.yaml",
            "Base-ScopeNet.yaml",
        )
        self.trees = [yaml.safe_load(Path(find_config(x)).read_text()) for x in names]
        for tree in self.trees:
            if "_BASE_" in tree:
                tree["_BASE_"] = str(config_dir() / tree["_BASE_"])
        self.trees.append(yaml.safe_load(load_config(names[0]).dump()))
        self.reads = (str(config_dir()),)
        self.default = load_config()
        self.sound_file = folder / "sound.yaml"
        self.sound_file.write_text(yaml.safe_dump(self.trees[0]))

    def make(self, rng: random.Random) -> Case:
        tree = rng.choices(self.trees, (3, 3, 3, 1))[0]
        beside = {"beside.yaml": b"SEED: 3\n"}
        if rng.random() < 0.15:
            text = to_yaml(tree | {"_BASE_": rng.choice(BASES)})
            if rng.random() < 0.3:
                beside["beside.yaml"] = f"_BASE_: {rng.choice(BASES)!r}".encode()
            return Case("_BASE_", text.encode(), beside=beside)
        what, text = spoilt(rng, tree)
        encoding = rng.choice(("utf-8",) * 9 + ("utf-16", "latin1"))
        return Case(what, text.encode(encoding, "replace"), beside=beside)

    def load(self, path: Path) -> CfgNode:
        cfg = load_config(str(path))
        cfg.dump().encode()  # as every run does
        return cfg

    def check(self, case: Case, path: Path, cfg: CfgNode) -> None:
        """What is in the file is as there, everything else is as it was."""
        said, found, default = said_by(path), dict(leaves(cfg)), dict(leaves(self.default))
        for key, value in found.items():
            expected = said.get(key, default[key])
            assert same(value, expected), (key, value, expected)


def same(a: Any, b: Any) -> bool:
    """Equal, where lists and tuples are the same."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and (a == b or a != a and b != b)


def said_by(path: Path) -> dict[str, Any]:
    """The leaves of a file and those that it is based on."""
    tree = yaml.safe_load(path.read_text())
    said: dict[str, Any] = {}
    bases = tree.pop("_BASE_", [])
    for base in bases if isinstance(bases, list) else [bases]:
        said |= said_by(path.parent / base)
    return said | {k: value_of(v) for k, v in leaves(tree)}


def value_of(text: Any) -> Any:
    """What yacs takes a text for."""
    try:
        return literal_eval(text) if isinstance(text, str) else text
    except (ValueError, SyntaxError):
        return text


class Published:
    """Of both kinds, under the names of the configs that they were trained with."""

    suffix = ".yaml"
    # What a published config calls, which is what the trusted one does.
    packages = frozenset({"encodings", "scopenet", "detectron2", "fvcore", "torch"})

    def __init__(self, folder: Path):
        # The trusted config of the project is read anew for each file, by a program.
        published_config.read_source = functools.cache(read_source)
        self.names = ("ScopeNet_R_50_FPN_1x.yaml", "ScopeNet_R_50_FPN_1x.py")
        self.sources = [find_config(x) for x in self.names]
        self.trees = [read_source(x) for x in self.sources]
        self.reads = (str(config_dir()),)
        for i, tree in enumerate(self.trees):
            (folder / f"sound{i}.yaml").write_text(to_yaml(tree))
        self.sound_file = folder / "sound1.yaml"

    def make(self, rng: random.Random) -> Case:
        i = rng.randrange(2)
        if rng.random() < 0.1:
            text = to_yaml(self.trees[i] | {"_BASE_": rng.choice(BASES)})
            return Case("_BASE_", text.encode(), suffix=f"{i}.yaml")
        what, text = spoilt(rng, self.trees[i])
        return Case(what, text.encode("utf-8", "replace"), suffix=f"{i}.yaml")

    def load(self, path: Path) -> CfgNode | DictConfig:
        return read_published(path.read_bytes(), str(path), self.sources["1.yaml" in path.name])

    def check(self, case: Case, path: Path, config: CfgNode | DictConfig) -> None:
        tree = yaml.safe_load(path.read_bytes())
        if isinstance(config, CfgNode):
            found = dict(leaves(config))
            for key, value in leaves(tree):
                assert same(found[key], value_of(value)), key
        else:
            found = OmegaConf.to_container(config)
            assert calls(found) <= calls(self.trees[1])
            assert same(found, json.loads(json.dumps(tree)))


def calls(tree: Any) -> set[tuple]:
    paths = [x for x in trees.nodes_of(tree) if x and x[-1] == "_target_"]
    return {(*x, trees.at(tree, x)) for x in paths}
