"""``.pkl``: weights in Detectron2's format, and in Caffe2's."""

import copy
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hostile import opcodes
from hostile.assembler import Node, Op, assemble, call, dict_of, mutate, tuple_of
from hostile.bytewise import damaged
from hostile.case import Case
from hostile.said import assert_equal, read, value_of
from hostile.weights import Weights
from scopenet.engine.reliability.safe_files import load_pickled_arrays

TYPES = (
    *(
        "f4",
        "<f8",
        ">f4",
        "f2",
        "i1",
        "u1",
        "b1",
        "i8",
        "u8",
        "S3",
        "U2",
        "S0",
        "U0",
        "c8",
        "g",
        "e",
    ),
    *(
        "O",
        "V8",
        "V0",
        "M8",
        "M8[ns]",
        "m8[s]",
        "f4,f4",
        "(2,3)f4",
        "O,i4",
        "|O8",
        "object",
        "void",
    ),
    *(
        "U99999999999",
        "S2147483647",
        "S-1",
        "f3",
        "",
        "x",
        "i4,",
        "3O",
        "=f4",
        "datetime64[999999D]",
    ),
    *(
        "{'names': ['a'], 'formats': ['O']}",
        "complex128",
        "a5",
        "str",
        "float",
        "\0",
        "bool8",
        "f4\n",
    ),
)


def plain(text: str = "f4", order: str = "<", *state: Any) -> Node:
    """A numpy dtype as a pickle says it."""
    fields = state or (None, None, None, -1, -1, 0)
    return call("numpy", "dtype", text, False, True, state=tuple_of(3, order, *fields))


def array(values: np.ndarray, text: str = "f4") -> Node:
    """An array as a pickle says it."""
    state = tuple_of(1, tuple_of(*values.shape), plain(text), False, values.tobytes())
    arguments = (call("numpy", "ndarray").children[0], tuple_of(0), b"b")
    return call("numpy.core.multiarray", "_reconstruct", *arguments, state=state)


def number(text: str, data: bytes) -> Node:
    return call("numpy.core.multiarray", "scalar", plain(text), data)


def parts() -> list[Any]:
    """What the format is made of, in odd forms."""
    fields = Node("dict", ["x", tuple_of(plain("O"), 0)])
    return [
        *(plain(x) for x in TYPES),
        *(plain("f4", x) for x in (">", "|", "=", "", "x", "<<", None, 1)),
        *(plain("V8", "|", None, tuple_of("x"), fields, 8, 1, 27), plain("O", "|")),
        *(
            plain("f4", "<", None, None, None, 2**31 - 1, 1, 63),
            plain("U1", "<", *(None,) * 3, 8, 4, 8),
        ),
        *(
            plain("f4", "<", tuple_of(plain("O"), tuple_of(2)), None, None, 8, 1, 0),
            plain("V8", "|"),
        ),
        *(array(np.ones(2, np.float32), x) for x in ("O", "V8", "f8", "S4", "U1", "M8", "f4,f4")),
        *(number(x, b"\x41" * 8) for x in ("O", "V8", "f8", "f4", "S8", "U2", "M8[s]", "c8")),
        *(
            tuple_of(2**62),
            tuple_of(2**31, 2**31, 2**31),
            tuple_of(-1),
            tuple_of(0, 2**62),
            tuple_of(),
        ),
        *(tuple_of(*[1] * 33), tuple_of(*[1] * 65), tuple_of(1.5), tuple_of("3"), tuple_of(True)),
        call("numpy._core.numeric", "_frombuffer", bytes(16), plain("O"), tuple_of(2), "C"),
        call("numpy._core.numeric", "_frombuffer", bytes(16), plain("f4"), tuple_of(2, -1), "C"),
        call("_codecs", "encode", "\xff" * 8, "latin1"),
        call("_codecs", "encode", "aGk=", "base64"),
        call("_codecs", "encode", "x", "hostile_marker"),
        call("__builtin__", "bytes"),
        call("collections", "OrderedDict", Node("list", [tuple_of("x", 1)])),
        call("collections", "OrderedDict", state=Node("dict", ["__class__", 1, "clear", 2])),
        Op(b"\x97"),
    ]


class Pkl(Weights):
    parse = staticmethod(load_pickled_arrays)
    suffix = ".pkl"
    packages = frozenset({"numpy", "encodings", "iopath"})
    reads = ()

    def __init__(self, folder: Path):
        rng = np.random.default_rng(0)
        self.weights = {
            "stem.conv1.weight": rng.standard_normal((4, 3, 2, 2), np.float32),
            "stem.conv1.bias": rng.standard_normal(4, np.float32),
            "other": rng.integers(0, 9, (2, 3)),
            "mask": np.array([True, False]),
        }
        meta = {"__author__": "x", "matching_heuristics": True, "names": np.array(["ab", "c"])}
        self.sound = [{"model": self.weights} | meta, self.weights, {"blobs": self.weights}]
        self.sound.append({"model": self.weights, "scale": np.float32(2), "iteration": 3} | meta)
        self.pickles = [pickle.dumps(x, p) for x in self.sound for p in (0, 2, 4, 5)]
        self.pickles += [
            pickle.dumps(x, 2).replace(b"numpy._core", b"numpy.core") for x in self.sound
        ]
        self.model = nn.ModuleDict({"stem": nn.ModuleDict({"conv1": nn.Conv2d(3, 4, 2)})})
        self.parts = parts()
        self.sound_file = folder / "sound.pkl"
        self.sound_file.write_bytes(self.pickles[0])

    def make(self, rng: random.Random) -> Case:
        kind = rng.randrange(10)
        if kind <= 5:
            return self._assembled(rng)
        content = rng.choice(self.pickles)
        return Case(*(opcodes.mutate if kind <= 7 else damaged)(rng, content))

    def _assembled(self, rng: random.Random) -> Case:
        weights = dict_of({k: array(v) for k, v in [*self.weights.items()][:2]})
        weights.children += [
            "momentum_momentum",
            number("f4", bytes(4)),
            "n",
            number("i8", bytes(8)),
        ]
        items = {"model": weights} if rng.random() < 0.7 else {"blobs": weights}
        tree = Node(
            "list", [dict_of(items | {"__author__": "x", "class_names": Node("list", ["a"])})]
        )
        what = [mutate(rng, tree, self.parts) for _ in range(rng.choice((1, 1, 2, 3)))]
        code = assemble(copy.deepcopy(tree))
        # Without the list around it, which is there so that all of it can be replaced, too.
        return Case(what[0], code[:2] + code[4:-2] + b"." if tree.kind == "list" else code)

    def check(self, case: Case, path: Path, value: tuple[dict, dict]) -> None:
        loaded, state = value
        expected = value_of(read(path.read_bytes()))
        assert_equal(loaded, expected)
        self.check_model(state)
