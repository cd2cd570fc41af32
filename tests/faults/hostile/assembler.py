"""Pickles put together from a tree, so that every part of it can be replaced by anything."""

import copy
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hostile.trees import NUMBERS, TEXTS


@dataclass
class Global:
    """A class or function by its name."""

    module: str
    name: str


@dataclass
class Op:
    """Operations of the pickle machine as they are."""

    code: bytes


@dataclass
class Node:
    """
    Attributes:
        kind: "dict" (keys and values in turn), "list", "tuple", "call" (function, arguments and, if
            there is one, the state), "new" (class, arguments), or "persistent" (an id).
    """

    kind: str
    children: list[Any] = field(default_factory=list)


def tuple_of(*values: Any) -> Node:
    return Node("tuple", [*values])


def dict_of(items: dict[str, Any]) -> Node:
    return Node("dict", [x for item in items.items() for x in item])


def call(module: str, name: str, *arguments: Any, state: Any = None) -> Node:
    more = [] if state is None else [state]
    return Node("call", [Global(module, name), tuple_of(*arguments), *more])


def assemble(tree: Any, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + _code(tree) + b"."


def _code(x: Any) -> bytes:
    if isinstance(x, Node):
        return _code_of_node(x)
    if isinstance(x, Op):
        return x.code
    if isinstance(x, Global):
        return b"c%s\n%s\n" % (x.module.encode(), x.name.encode())
    if x is None or isinstance(x, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[x]
    if isinstance(x, int):
        data = x.to_bytes(x.bit_length() // 8 + 1, "little", signed=True)
        return (
            b"\x8a%c" % len(data) if len(data) < 256 else b"\x8b" + struct.pack("<i", len(data))
        ) + data
    if isinstance(x, float):
        return b"G" + struct.pack(">d", x)
    if isinstance(x, str):
        data = x.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(data)) + data
    return b"B" + struct.pack("<I", len(x)) + x  # bytes, of protocol 3


def _code_of_node(x: Node) -> bytes:
    parts = [_code(child) for child in x.children]
    if x.kind == "persistent":
        return b"".join(parts) + b"Q"
    if x.kind in ("call", "new"):
        code = b"".join(parts[:2]) + (b"R" if x.kind == "call" else b"\x81")
        return code + b"".join(part + b"b" for part in parts[2:])
    start, end = {"dict": (b"}(", b"u"), "list": (b"](", b"e"), "tuple": (b"(", b"t")}[x.kind]
    return start + b"".join(parts) + end


# Everything that a file should not reach, and what it may name but not use so.
DANGEROUS = [
    *(Global("os", "system"), Global("posix", "system"), Global("subprocess", "Popen")),
    *(Global("builtins", "eval"), Global("__builtin__", "exec"), Global("builtins", "getattr")),
    *(Global("builtins", "open"), Global("io", "open"), Global("pathlib", "Path.write_text")),
    *(Global("hostile_marker", "run"), Global("importlib", "import_module"), Global("sys", "exit")),
    *(Global("socket", "create_connection"), Global("urllib.request", "urlopen")),
    *(Global("numpy", "load"), Global("numpy", "fromfile"), Global("numpy", "memmap")),
    *(Global("numpy.core.multiarray", "_reconstruct"), Global("numpy", "dtype")),
    *(Global("numpy", "ndarray"), Global("numpy.core.multiarray", "scalar")),
    *(Global("numpy._core.numeric", "_frombuffer"), Global("_codecs", "encode")),
    *(Global("collections", "OrderedDict"), Global("collections", "Counter")),
    *(Global("", ""), Global("os", "path.join"), Global("__main__", "serve"), Global("é", "x")),
    *(Global("numpy.testing._private.utils", "runstring"), Global("builtins", "bytearray")),
    *(Global("torch", "load"), Global("torch.hub", "load"), Global("torch", "Tensor")),
    *(
        Global("copyreg", "_reconstructor"),
        Global("builtins", "object"),
        Global("operator", "call"),
    ),
]
OPS = [
    *(
        b"",
        b"0",
        b"1",
        b"2",
        b"(",
        b"t",
        b"R",
        b"b",
        b"\x81",
        b"\x92",
        b"a",
        b"e",
        b"s",
        b"u",
        b"}",
    ),
    *(b"]", b")", b"\x8f", b"\x90", b"\x91", b"h\x00", b"h\xff", b"j\xff\xff\xff\x7f", b"q\x00"),
    *(b"r\xff\xff\xff\x7f", b"r\xff\xff\xff\xff", b"\x94", b"P0\n", b"Q", b"\x82\x01", b"\x97"),
    *(b"\x98", b"\x95" + b"\xff" * 8, b"\x8e" + b"\xff" * 8, b"\x8e" + b"\xff" * 4 + bytes(4)),
    *(b"\x8d" + b"\xff" * 7 + b"\x7f", b"\x96" + b"\xff" * 4 + bytes(4), b"B\xff\xff\xff\x7f"),
    *(b"X\xff\xff\xff\xff", b"T\xff\xff\xff\xff", b"T\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f"),
    *(b"\x8b\xff\xff\xff\xff", b"L9999999999L\n", b"L" + b"9" * 5000 + b"L\n", b"I1e9\n"),
    *(b"Fnan\n", b"S'x'\n", b"Vx\\ud800\n", b"ios\nsystem\n", b"(S'true'\nios\nsystem\n", b"."),
    *(b"(" * 5000, b"]" * 5000 + b"a" * 4999, b")" * 3000 + b"\x85" * 3000, b"cos\nsystem\n"),
    *(b"\x80\xff", b"\x8c\xff", b"N" * 100, b"(lp0\nh\x00a", b"}q\x00h\x00h\x00s"),
]


def spots(tree: Any) -> Iterator[tuple[Node, int]]:
    """Every place below the root of a tree, as a node and the number of its child."""
    if isinstance(tree, Node):
        for i, child in enumerate(tree.children):
            yield tree, i
            yield from spots(child)


def odd_part(rng: random.Random, tree: Any, parts: list[Any]) -> Any:
    """Something to stand in a pickle; ``parts`` are what the format has besides plain values."""
    kind = rng.randrange(9)
    if kind == 0:
        return rng.choice(NUMBERS)
    if kind == 1:
        return rng.choice(TEXTS)
    if kind == 2:
        return rng.choice((None, True, b"", b"\xff" * 8, rng.randbytes(40), bytes(200)))
    if kind == 3:
        return rng.choice(DANGEROUS)
    if kind == 4:
        return Node("call", [rng.choice(DANGEROUS), tuple_of(rng.choice(TEXTS))])
    if kind == 5:
        return Op(rng.choice(OPS))
    if kind == 6:
        empty = (tuple_of(), Node("dict"), Node("list"), tuple_of(-1, 2), tuple_of(2**40, 2**40))
        return copy.deepcopy(rng.choice(empty))
    if kind == 7:
        parent, i = rng.choice([*spots(tree)] or [(tree, slice(None))])
        return copy.deepcopy(parent.children[i])
    return copy.deepcopy(rng.choice(parts))


def mutate(rng: random.Random, tree: Node, parts: list[Any]) -> str:
    """Change one place of a tree; the name of the mutation."""
    parent, i = rng.choice([*spots(tree)] or [(Node("list", [None]), 0)])
    odd = odd_part(rng, tree, parts)
    kind = rng.randrange(9)
    if kind <= 4:
        parent.children[i] = odd
        return "part replaced"
    if kind == 5:
        del parent.children[i]
        return "part removed"
    if kind == 6:
        parent.children.insert(i, odd)
        return "part added"
    if kind == 7:
        parent.kind = rng.choice(("dict", "list", "tuple", "call", "new", "persistent"))
        return "part of another kind"
    parent.children[i] = Node("call", [parent.children[i], tuple_of(), odd])
    return "part called"
