"""The index of a model zoo, and the files that it names."""

import copy
import hashlib
import json
import random
from pathlib import Path
from typing import Any

from hostile import trees
from hostile.bytewise import damaged
from hostile.case import Case
from scopenet.model_zoo.index import Entry
from scopenet.model_zoo.zoo import Zoo

PATHS = (
    *(
        "..",
        "../secret",
        "a/../../secret",
        "/etc/passwd",
        "//x",
        "a//b",
        ".",
        "./a",
        ".hidden",
        "-x",
        "",
    ),
    *(
        "~",
        "~/x",
        "C:\\x",
        "a\\b",
        "a b",
        "\0",
        "a\0b",
        "é",
        "a\n",
        "%2e%2e/x",
        "..%2fsecret",
        "a/..",
    ),
    *(
        "http://127.0.0.1:9/x",
        "https://x",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "$HOME",
        "{x}",
    ),
    *(
        "a" * 5000,
        "a/" * 500 + "a",
        "/dev/zero",
        "/dev/stdin",
        "read",
        "index.json",
        "…",
        "．．/secret",
    ),
)
WHO = "ScopeNet_R_50_FPN_1x.yaml"


def file_of(content: bytes) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


class ZooIndex:
    suffix = "/index.json"
    packages = frozenset({"encodings"})
    reads = ()

    def __init__(self, folder: Path):
        self.files = {name: name.encode() * 9 for name in ("x.pkl", "x.safetensors", "config.yaml")}
        entry = {
            "folder": "a/b",
            "weights": "x",
            "files": {name: file_of(x) for name, x in self.files.items()},
            "facts": {"AP": "none"},
            "metrics": {"coco": {"AP": 38.0, "APs": None}},
        }
        other = copy.deepcopy(entry) | {"folder": "c"}
        self.index = {"format": 1, "models": {WHO: entry, "other.yaml": other}}
        (folder / "file").mkdir(exist_ok=True)
        self.sound_file = folder / "file" / "index.json"
        self.sound_file.write_text(json.dumps(self.index))
        for place in ("a/b", "c"):
            (folder / "file" / place).mkdir(parents=True, exist_ok=True)
            for name, content in self.files.items():
                (folder / "file" / place / name).write_bytes(content)

    def make(self, rng: random.Random) -> Case:
        index, kind = copy.deepcopy(self.index), rng.randrange(10)
        beside = {f"file/{p}/{k}": v for p in ("a/b", "c") for k, v in self.files.items()}
        beside["secret"] = b"secret"
        if kind <= 3:
            mutations = [trees.mutate(rng, index) for _ in range(rng.choice((1, 1, 2)))]
            paths = [path for _, path in mutations]
            return Case(f"node: {mutations[0][0]}", trees.to_json(index), "", beside, paths)
        if kind <= 6:
            return Case("path", self._other_path(rng, index), "", beside)
        if kind == 7:
            return Case("key repeated", trees.repeat_key(rng, trees.to_json(index)), "", beside)
        if kind == 8:
            name = rng.choice([x for x in beside if x != "secret"])
            beside[name] = damaged(rng, beside[name])[1]
            return Case("a file that the index names", trees.to_json(index), "", beside)
        what, content = damaged(rng, trees.to_json(index))
        return Case(what, content, "", beside)

    def _other_path(self, rng: random.Random, index: dict) -> bytes:
        """Some name is a path that leaves the zoo, with everything else as it has to be for it."""
        path, entry = rng.choice(PATHS), index["models"][WHO]
        secret = rng.choice((file_of(b"secret"), {"sha256": "0" * 64, "bytes": 2**62}))
        kind = rng.randrange(4)
        if kind == 0:
            index["models"][path] = index["models"].pop(WHO)
        elif kind == 1:
            entry["folder"] = path
        elif kind == 2:
            entry["files"][path] = secret
        else:
            entry["weights"] = path
            entry["files"] |= {f"{path}.pkl": secret, f"{path}.safetensors": secret}
        return trees.to_json(index)

    def load(self, path: Path) -> dict[str, tuple[Entry, dict[str, bytes]]]:
        zoo = Zoo(path.parent)
        return {
            name: (entry, {x: zoo.fetch(entry, x).read_bytes() for x in entry.files})
            for name, entry in zoo.entries().items()
        }

    def check(
        self, case: Case, path: Path, found: dict[str, tuple[Entry, dict[str, bytes]]]
    ) -> None:
        for entry, files in found.values():
            for name, content in files.items():
                assert content == self.files[name] and file_of(content)["sha256"] == (
                    entry.files[name].sha256
                )
        if case.expected is not None:
            touched = {x[:2] for x in case.expected}
            for name, sound in self.index["models"].items():
                if not {(), ("models",), ("models", name)} & touched:
                    entry = found[name][0]
                    assert (entry.folder, entry.metrics) == (sound["folder"], sound["metrics"])
