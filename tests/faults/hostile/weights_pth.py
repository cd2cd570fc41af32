"""``.pth``: what ``torch.save`` writes, as a zip archive and in the form before that."""

import contextlib
import copy
import io
import pickletools
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hostile import opcodes
from hostile.archive import STORAGES, Archive, as_arrays, zipped
from hostile.assembler import Global, Node, Op, assemble, call, dict_of, mutate, tuple_of
from hostile.bytewise import LENGTHS, damaged
from hostile.case import Case
from hostile.said import assert_equal
from hostile.weights import Weights
from scopenet.engine.reliability.safe_files import load_tensors

KEYS = ("0", "1", "2", "9", "", "../0", "/etc/passwd", "../data.pkl", "0/../1", "\0", "a" * 300, 0)
PLACES = (
    "cpu",
    "cuda:0",
    "cuda",
    "meta",
    "mps",
    "xla",
    "hpu",
    "privateuseone",
    "x",
    "",
    "cpu:9",
    1,
)
REBUILDS = [
    *("_rebuild_tensor", "_rebuild_tensor_v3", "_rebuild_parameter", "_rebuild_qtensor"),
    *("_rebuild_sparse_tensor", "_rebuild_meta_tensor_no_storage", "_rebuild_nested_tensor"),
    *(
        "_rebuild_wrapper_subclass",
        "_rebuild_device_tensor_from_numpy",
        "_rebuild_sparse_csr_tensor",
    ),
    *("_rebuild_device_tensor_from_cpu_tensor", "_rebuild_parameter_with_state"),
]


def storage(key: Any = "0", size: Any = 48, name: str = "FloatStorage", place: Any = "cpu") -> Node:
    persistent = tuple_of("storage", Global("torch", name), key, place, size)
    return Node("persistent", [persistent])


def tensor(shape: tuple, stride: tuple, offset: Any = 0, of: Any = None) -> Node:
    ordered = call("collections", "OrderedDict")
    arguments = (of or storage(), offset, tuple_of(*shape), tuple_of(*stride), False, ordered)
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def parts() -> list[Any]:
    """What the format is made of, in odd forms."""
    sizes = (0, 1, 47, 49, 2**20, 2**31, 2**40, 2**62, -1)
    indices = tensor((1, 2), (2, 1), of=storage("1", 4, "LongStorage"))
    values = tensor((2,), (1,))
    sparse = Global("torch", "sparse_coo")
    ordered = call("collections", "OrderedDict")
    return [
        *(storage(size=x) for x in sizes),
        *(storage(key=x) for x in KEYS),
        *(storage(place=x) for x in PLACES),
        *(storage(name=x) for x in (*STORAGES, "UntypedStorage", "QInt8Storage", "Tensor", "load")),
        *(tensor((x,), (1,)) for x in (2**40, 2**62, 2**63, -1, 48, 49, True, 1.5)),
        *(tensor((4,), (x,)) for x in (0, 2**40, 2**62, -1, 15, 16, 2**61)),
        *(tensor((4,), (1,), x) for x in (44, 45, 2**40, 2**62, -1, 2**63 - 1)),
        *(tensor((2**40,), (0,)), tensor((2**30, 2**30), (0, 0)), tensor((0, 2**62), (1, 1))),
        *(tensor((2, 2), (1,)), tensor((), ()), tensor((1,) * 70, (1,) * 70)),
        tensor((4, 4), (1, 1)),
        *(Global("torch", x) for x in ("float32", "qint8", "Size", "device", "sparse_coo")),
        *(tuple_of(2**40, 2), tuple_of(-1), tuple_of(*[2] * 65), tuple_of()),
        call("torch._utils", "_rebuild_sparse_tensor", sparse,
             tuple_of(indices, values, tuple_of(9))),
        call("torch._utils", "_rebuild_sparse_tensor", sparse,
             tuple_of(indices, values, tuple_of(1), True)),
        call("torch._utils", "_rebuild_meta_tensor_no_storage", Global("torch", "float32"),
             tuple_of(2**40), tuple_of(1), False),
        call("torch._utils", "_rebuild_parameter", values, False, ordered),
        call("torch._utils", "_rebuild_qtensor", storage("2", 6, "ByteStorage"), 0, tuple_of(6),
             tuple_of(1), tuple_of(Global("torch", "per_tensor_affine"), 0.0, 0), False, ordered),
        *(call("torch._utils", x, values, 0, tuple_of(2), tuple_of(1), False) for x in REBUILDS),
        *(call("torch._utils", x, values) for x in REBUILDS),
        call("torch", "Size", Node("list", [2**40, 1])),
        call("torch", "device", "cuda:99"),
        call("collections", "OrderedDict", state=Node("dict", ["__class__", 1, "clear", 2])),
        Node("call", [Global("torch", "Tensor"), tuple_of(2**33)]),
        Node("new", [Global("torch", "Tensor"), tuple_of(2**33)]),
        Node("call", [Global("torch", "FloatStorage"), tuple_of(2**33)]),
        Node("call", [Global("builtins", "bytearray"), tuple_of(2**40)]),
        Node("call", [Global("__builtin__", "bytearray"), tuple_of(2**33)]),
        Node("call", [Global("builtins", "set"), tuple_of(Node("list", [1, 2]))]),
        Node("call", [Global("builtins", "complex"), tuple_of(1.0, 2.0)]),
        Node("call", [Global("collections", "Counter"), tuple_of("abc")]),
        call("_codecs", "encode", "x", "hostile_marker"),
        Op(b"\x97"),
    ]  # fmt: skip


class Pth(Weights):
    parse = staticmethod(load_tensors)
    suffix = ".pth"
    packages = frozenset({"torch", "numpy", "encodings", "iopath"})
    reads = ()

    def __init__(self, folder: Path):
        rng = np.random.default_rng(0)
        self.data = {
            "0": rng.standard_normal(48, np.float32).tobytes(),
            "1": np.arange(4).tobytes(),
            "2": bytes(range(6)),
        }
        self.model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 2)})
        self.archive = self._zip(assemble(self._tree()), self.data)
        self.whole = {"model": self.model.state_dict(), "iteration": 3, "class_names": ["a"]}
        buffers = []
        for new in (True, False):
            buffers.append(io.BytesIO())
            torch.save(self.whole, buffers[-1], _use_new_zipfile_serialization=new)
        self.written = [x.getvalue() for x in buffers]
        self.parts = parts()
        self.sound_file = folder / "sound.pth"
        self.sound_file.write_bytes(self.archive)

    def _tree(self) -> Node:
        weights = {
            "conv.weight": tensor((4, 3, 2, 2), (12, 4, 2, 1)),
            "conv.bias": tensor((4,), (2,), 3),
            "steps": tensor((2, 2), (2, 1), of=storage("1", 4, "LongStorage")),
            "bytes": tensor((6,), (1,), of=storage("2", 6, "ByteStorage")),
        }
        names = Node("list", ["a", "b"])
        return dict_of({"model": dict_of(weights), "iteration": 3, "class_names": names, "x": 0.5})

    def _zip(self, code: bytes, data: dict[str, bytes], order: bytes = b"little") -> bytes:
        entries = {"x/data.pkl": code, "x/byteorder": order, "x/version": b"3\n"}
        return zipped([*entries.items(), *((f"x/data/{k}", v) for k, v in data.items())])

    def make(self, rng: random.Random) -> Case:
        kind = rng.randrange(12)
        if kind <= 5:
            tree = self._tree()
            what = [mutate(rng, tree, self.parts) for _ in range(rng.choice((1, 1, 2, 3)))]
            return Case(what[0], self._zip(assemble(copy.deepcopy(tree)), self.data))
        if kind <= 7:
            return Case(*self._spoilt_archive(rng))
        if kind == 8:
            what, code = opcodes.mutate(rng, assemble(self._tree()))
            return Case(what, self._zip(code, self.data))
        if kind == 9:  # its first pickles are a number, a version and the sizes of integers
            return self._spoilt_old_form(rng)
        what, content = damaged(rng, rng.choice((self.archive, *self.written)))
        return Case(what, content)

    def _spoilt_archive(self, rng: random.Random) -> tuple[str, bytes]:
        entries = [("x/data.pkl", assemble(self._tree())), ("x/byteorder", b"little")]
        entries += [("x/version", b"3\n"), *((f"x/data/{k}", v) for k, v in self.data.items())]
        i, k = rng.randrange(len(entries)), rng.randrange(len(entries))
        name, content = entries[i]
        kind = rng.randrange(8)
        if kind == 0:
            del entries[i]
        elif kind == 1:
            entries.append((name, rng.choice((content, b"", rng.randbytes(99)))))
        elif kind == 2:
            names = (
                "y/data.pkl",
                "../x/data.pkl",
                "/data.pkl",
                "x/constants.pkl",
                "",
                "x/data",
                "\xff",
            )
            entries[i] = (rng.choice((*names, entries[k][0], "x/.data/serialization_id")), content)
        elif kind == 3:
            odd = (
                b"",
                content[:-1],
                content + b"\0",
                bytes(2**20),
                rng.randbytes(64),
                b"big",
                b"x",
            )
            entries[i] = (name, rng.choice(odd))
        elif kind == 4:
            return "archive deflated", zipped(entries, bomb=rng.random() < 0.3)
        elif kind == 5:
            entries[i], entries[k] = entries[k], entries[i]
        elif kind == 6:
            version = rng.choice((b"0", b"99", b"-1", b"", b"x", b"9" * 5000, b"\xff"))
            entries[2] = ("x/version", version)
        else:
            return "archive's numbers", self._other_numbers(rng)
        return "archive's entries", zipped(entries)

    def _other_numbers(self, rng: random.Random) -> bytes:
        """A field of an entry's header, of the table of contents, or of its end is another."""
        content = bytearray(self.archive)
        marks = (b"PK\1\2", b"PK\3\4", b"PK\5\6")
        fields = {b"PK\1\2": (8, 10, 16, 20, 24, 28, 30, 32, 42), b"PK\5\6": (8, 10, 12, 16, 20)}
        mark = rng.choice(marks)
        starts = [i for i in range(len(content)) if content[i : i + 4] == mark]
        at = rng.choice(starts) + rng.choice(fields.get(mark, (6, 8, 14, 18, 22, 26, 28)))
        value = rng.choice((*LENGTHS, len(content), len(content) - 10)) % 2**32
        size = rng.choice((2, 4))
        content[at : at + size] = value.to_bytes(4, "little")[:size]
        return bytes(content)

    def _spoilt_old_form(self, rng: random.Random) -> Case:
        content = self.written[1]
        ends, start = [], 0
        for _ in range(5):
            f = io.BytesIO(content)
            f.seek(start)
            for _ in pickletools.genops(f):
                pass
            start = f.tell()
            ends.append(start)
        i = rng.randrange(5)
        first = ends[i - 1] if i else 0
        what, code = opcodes.mutate(rng, content[first : ends[i]])
        return Case(f"old form, {what}", content[:first] + code + content[ends[i] :])

    def check(self, case: Case, path: Path, value: tuple[dict, dict]) -> None:
        loaded, state = value
        self.check_model(state)
        content = path.read_bytes()
        found = as_arrays(loaded)
        # PyTorch looks at no checksum, nor at all of the headers.
        with contextlib.suppress(zipfile.BadZipFile, UnicodeDecodeError):
            if content[:4] == b"PK\3\4" and case.what != "archive's numbers":
                assert_equal(found, Archive(content).value())
