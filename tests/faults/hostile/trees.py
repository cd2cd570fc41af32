"""Mutations of what a json or a YAML holds: dicts, lists and leaves.

A mutated tree may hold :class:`Raw`, a text that stands in the file as it is.
"""

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]  # from the root to a node


@dataclass
class Raw:
    text: str


NUMBERS = (
    *(0, 1, -1, 2, 0.5, -0.0, 1e-320, 255, 256, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, -(2**63)),
    *(2**64, 10**30, 10**309, 1e9, 1e15, 1e308, -1e308, float("nan"), float("inf"), -float("inf")),
)
TEXTS = (
    *(
        "",
        " ",
        "x",
        "0",
        "1",
        "-1",
        "nan",
        "None",
        "null",
        "true",
        "é",
        "日本",
        "\n",
        "a\nb.c",
        "\0",
    ),
    *("\ud800", "\udfff x", "\x1b[31m", "\u2028", "\u202e", "%s%n", "{}", "{0.__class__}", "${x}"),
    *(
        "../x",
        "/etc/passwd",
        "/dev/zero",
        "~",
        "a" * 3000,
        "x." * 500,
        "http://127.0.0.1:9/x",
        "\\",
    ),
    *(
        "()",
        "[1]",
        "(1,)",
        "{1: 2}",
        "1 + 1",
        "__import__('os').system('true')",
        "1e999",
        "9" * 5000,
    ),
)
OTHERS = (None, True, False, [], {}, [[]], [None], {"": None}, [1, 2], {"id": 1}, [0] * 2000)
RAWS = (
    *("NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-" + "9" * 4000, "0" * 10 + "1", "'x'"),
    *("[" * 200 + "]" * 200, "[" * 5000 + "]" * 5000, '{"a":' * 3000 + "1" + "}" * 3000, "[1,]"),
    *('{"a": 1, "a": 2}', '"\\ud800"', '"\\u0000"', '"\\x"', "", ",", "[" * 100_000, "tru", "0x10"),
)


def nodes_of(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Every node's path, the root's first."""
    yield path
    if isinstance(tree, dict | list):
        for key, child in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from nodes_of(child, (*path, key))


def at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def odd_value(rng: random.Random, tree: Any, value: Any) -> Any:
    """Something else in place of ``value``, a node of ``tree``."""
    kind = rng.randrange(10)
    if kind <= 2:
        return rng.choice(NUMBERS)
    if kind <= 4:
        return rng.choice(TEXTS)
    if kind == 5:
        return copy.deepcopy(rng.choice(OTHERS))
    if kind == 6:
        return Raw(rng.choice(RAWS))
    if kind == 7:  # another node
        return copy.deepcopy(at(tree, rng.choice([*nodes_of(tree)])))
    if kind == 8:
        return rng.choice(([value], {"x": value}, str(value), [value, value]))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return rng.choice(NUMBERS)
    return rng.choice((-value, value + 1, value * 2, value / 2, value * 10**6, float(value)))


def mutate(rng: random.Random, tree: Any) -> tuple[str, Path]:
    """Change one node below the root in place; the name of the mutation, and the node's path."""
    path = rng.choice([*nodes_of(tree)][1:])
    parent, key = at(tree, path[:-1]), path[-1]
    kind = rng.randrange(8)
    if kind <= 3:
        parent[key] = odd_value(rng, tree, parent[key])
        return "value", path
    if kind == 4:
        del parent[key]
        return "removed", path
    if kind == 5:
        _add(rng, parent, odd_value(rng, tree, parent[key]))
        return "added", path[:-1]
    if kind == 6 and isinstance(parent, dict):
        _add(rng, parent, parent.pop(key))
        return "renamed", path[:-1]
    if isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
        return "repeated", path[:-1]
    other = rng.choice([*parent])
    parent[key], parent[other] = parent[other], parent[key]
    return "exchanged", path[:-1]


def _add(rng: random.Random, parent: dict | list, value: Any) -> None:
    if isinstance(parent, list):
        parent.insert(rng.randrange(len(parent) + 1), value)
    else:
        parent[rng.choice(TEXTS)] = value


def to_json(tree: Any) -> bytes:
    """As ``json.dumps``, with :class:`Raw` as it is."""
    raws: list[str] = []

    def raw(x: Raw) -> str:
        raws.append(x.text)
        return f"@raw{len(raws) - 1}@"

    text = json.dumps(tree, default=raw)
    for i, x in enumerate(raws):
        text = text.replace(f'"@raw{i}@"', x)
    return text.encode()


def repeat_key(rng: random.Random, text: bytes) -> bytes:
    """A json in which the first or some other key of an object comes twice."""
    colons = [i for i, x in enumerate(text) if x == ord(":")]
    end = rng.choice(colons)
    start = max(text.rfind(b"{", 0, end), text.rfind(b",", 0, end)) + 1
    return text[:start] + text[start:end] + b": 0, " + text[start:]
