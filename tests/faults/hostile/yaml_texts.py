"""YAML that is malformed, of other types, or larger than it looks."""

import copy
import random
import re
from typing import Any

import yaml

from hostile import trees
from hostile.bytewise import damaged

RAWS = (
    *(
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!!python/tuple [1, 2]",
    ),
    *(
        "!!python/module:hostile_marker",
        "!!python/object/new:os.system ['true']",
        "!x y",
        "!!map [1]",
    ),
    *(
        "!<tag:yaml.org,2002:python/name:os.system> x",
        "!!binary aGk=",
        "!!binary '*'",
        "2001-01-01",
    ),
    *(
        "!!timestamp x",
        "2001-99-99",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
        "!!float x",
    ),
    *("!!int '" + "9" * 5000 + "'", "!!bool maybe", "!!null x", "!!str 1", "!!seq {}", "&a [*a]"),
    *(
        "&a {x: *a}",
        "*undefined",
        "0x" + "f" * 9000,
        "0b" + "1" * 20000,
        ":".join("1" * 3000),
        "9" * 5000,
    ),
    *(
        ".nan",
        ".inf",
        "-.inf",
        "1e400",
        "~",
        "? [a, b]",
        '"\\ud800"',
        '"\\0"',
        '"\\x"',
        "'",
        "[",
        "{",
    ),
    *(
        "[" * 300 + "]" * 300,
        "[" * 3000 + "]" * 3000,
        "{a: " * 300 + "1" + "}" * 300,
        "- " * 3000,
        "|\n x",
    ),
    *(
        "{[a]: 1}",
        "{{a: 1}: 1}",
        "{1: 2}",
        "{null: 1}",
        "{true: 1}",
        "{2001-01-01: 1}",
        "{a: 1, a: 2}",
    ),
    *(
        "&a [1, 2, *a, *a]",
        "{<<: {a: 1}}",
        "{<<: [1]}",
        "{<<: x}",
        "{<<: &a {<<: *a}}",
        "%",
        "@",
        "`",
    ),
    *(
        "${oc.env:HOME}",
        "${oc.create:{_target_: os.system}}",
        "{_target_: os.system, command: 'true'}",
    ),
    *(
        "!!python/object:detectron2.layers.shape_spec.ShapeSpec {channels: 3}",
        "'{}'",
        "'(1,) * 10**9'",
    ),
    *(
        "'" + "(" * 150 + "'",
        "'" + "-" * 5000 + "1'",
        "'" + "[" * 3000 + "'",
        "'9**9**9'",
        "'\"\\\\ud800\"'",
    ),
)
BASES = (
    *(
        "file.yaml",
        "absent.yaml",
        "/dev/zero",
        "/dev/stdin",
        "/dev/tty",
        ".",
        "/",
        "",
        "~",
        "~/x.yaml",
    ),
    *(
        "http://127.0.0.1:9/x.yaml",
        "https://127.0.0.1:9/x.yaml",
        "file:///etc/passwd",
        "beside.yaml",
    ),
    *(
        "detectron2://x.yaml",
        "/proc/self/environ",
        "/proc/self/mem",
        "/proc/kmsg",
        "\0",
        "a" * 5000,
    ),
    *(
        ["beside.yaml", "beside.yaml"],
        [],
        {},
        1,
        None,
        True,
        ["http://127.0.0.1:9/x"],
        [["beside.yaml"]],
    ),
)


def laughs(width: int, depth: int, form: str) -> str:
    """A text in which every level names the one below ``width`` times."""
    start = "&a0 {x: 1}" if form in ("<<", "{}") else "&a0 [x]"
    lines = [f"a0: {start}"]
    for i in range(1, depth):
        names = [f"*a{i - 1}"] * width
        if form == "<<":
            body = f"{{<<: [{', '.join(names)}], y{i}: 1}}"
        elif form == "{}":
            body = "{" + ", ".join(f"k{k}: {x}" for k, x in enumerate(names)) + "}"
        else:
            body = f"[{', '.join(names)}]"
        lines.append(f"a{i}: &a{i} {body}")
    return "\n".join(lines) + "\n"


def to_yaml(tree: Any) -> str:
    """As ``yaml.safe_dump``, with :class:`hostile.trees.Raw` as it is."""
    raws: list[str] = []

    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        if isinstance(x, list):
            return [plain(v) for v in x]
        if isinstance(x, trees.Raw):
            raws.append(x.text)
            return f"@raw{len(raws) - 1}@"
        return x

    text = yaml.safe_dump(plain(tree), sort_keys=False)
    for i, x in enumerate(raws):
        text = text.replace(f"'@raw{i}@'", x)
    return text


def spoilt(rng: random.Random, tree: dict) -> tuple[str, str]:
    """The name of a mutation, and the YAML of ``tree`` with it."""
    tree, kind = copy.deepcopy(tree), rng.randrange(10)
    if kind <= 3:
        names = [trees.mutate(rng, tree)[0] for _ in range(rng.choice((1, 1, 2)))]
        return f"node: {names[0]}", to_yaml(tree)
    if kind <= 6:
        path = rng.choice([*trees.nodes_of(tree)][1:])
        trees.at(tree, path[:-1])[path[-1]] = trees.Raw(rng.choice(RAWS))
        return "YAML of another type", to_yaml(tree)
    text = to_yaml(tree)
    if kind == 7:
        form = rng.choice(("[]", "{}", "<<"))
        more = laughs(rng.choice((2, 3, 9)), rng.choice((3, 9, 20, 40)), form)
        if rng.random() < 0.3:
            more = re.sub(r"^a(\d+):", r"OUTPUT_DIR:", more.splitlines()[-1])
            return "aliases", laughs(9, 12, form) + more + "\n" + text
        return "aliases", more + text
    if kind == 8:
        odd = (
            f"{text}---\n{text}",
            f"\ufeff{text}",
            text.replace("  ", "\t"),
            f"%YAML 9.9\n---\n{text}",
        )
        odd += (
            text + text,
            "[]",
            "",
            "x",
            "1",
            "null",
            "- a",
            text + "\0",
            text.replace(":", " :", 1),
        )
        odd += (
            text + "\x85\u2028",
            "#" * 99999,
            " " * 9999,
            text + "? " * 2000,
            text + "  x: y\n z: 1",
        )
        return "text", rng.choice(odd)
    what, content = damaged(rng, text.encode())
    return what, content.decode("latin1")
