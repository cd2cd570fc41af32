"""``.safetensors``: eight bytes of length, a json of names, types, shapes and offsets, data."""

import copy
import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hostile import trees
from hostile.bytewise import LENGTHS, damaged
from hostile.case import Case
from hostile.weights import Weights
from scopenet.engine.reliability.safe_files import load_safetensors

TYPES = (
    *("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"),
    *("F8_E4M3", "F8_E5M2", "F4", "F6_E2M3", "C64", "f32", "F32 ", "", "STRING", "F8_E8M0", "I4"),
)


class Safetensors(Weights):
    parse = staticmethod(load_safetensors)
    suffix = ".safetensors"
    packages = frozenset({"torch", "numpy", "safetensors", "encodings", "iopath"})
    reads = ()

    def __init__(self, folder: Path):
        self.model = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 2)})
        rng = np.random.default_rng(0)
        weights = {
            "conv.weight": ("F32", rng.standard_normal((4, 3, 2, 2), np.float32)),
            "conv.bias": ("F32", rng.standard_normal(4, np.float32)),
            "steps": ("I64", np.arange(3)),
            "half": ("F16", np.ones((2, 2), np.float16)),
        }
        self.header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        self.data = b""
        for name, (dtype, x) in weights.items():
            span = [len(self.data), len(self.data) + x.nbytes]
            self.header[name] = {"dtype": dtype, "shape": [*x.shape], "data_offsets": span}
            self.data += x.tobytes()
        self.sound_file = folder / "sound.safetensors"
        self.sound_file.write_bytes(self._file(trees.to_json(self.header), self.data))

    def _file(self, header: bytes, data: bytes, length: int | None = None) -> bytes:
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    def make(self, rng: random.Random) -> Case:
        kind = rng.randrange(12)
        header = copy.deepcopy(self.header)
        if kind <= 3:
            what = [trees.mutate(rng, header)[0] for _ in range(rng.choice((1, 1, 2)))][0]
            return Case(f"header: {what}", self._file(trees.to_json(header), self.data))
        if kind <= 6:
            return Case(*self._tensor(rng, header))
        text = trees.to_json(header)
        if kind == 7:
            return Case("key repeated", self._file(trees.repeat_key(rng, text), self.data))
        if kind == 8:
            lengths = (*LENGTHS, len(text) - 1, len(text) + 1, len(text) + len(self.data))
            length = rng.choice((*lengths, 10**8, 10**8 + 1))
            return Case("length of the header", self._file(text, self.data, length))
        if kind == 9:
            odd = (
                b" " * 99 + text,
                text + b" " * 99,
                text + b"\0",
                text[:-1],
                b"\xef\xbb\xbf" + text,
            )
            odd += (b"[]", b"", b"{}", b"null", text.replace(b"conv", b"\xff\xfe"), b"[" * 10_000)
            odd += (text.decode().encode("utf-16"), b'{"__metadata__":' * 500)
            return Case("text of the header", self._file(rng.choice(odd), self.data))
        if kind == 10:
            data = rng.choice((b"", self.data[:-1], self.data + b"\0", self.data[8:], bytes(2**16)))
            return Case("length of the data", self._file(text, data))
        return Case(*damaged(rng, self._file(text, self.data)))

    def _tensor(self, rng: random.Random, header: dict) -> tuple[str, bytes]:
        """One or two fields of a tensor are such as they could be, but are not."""
        name = rng.choice([x for x in header if x != "__metadata__"])
        for _ in range(rng.choice((1, 1, 2))):
            field = rng.choice(("dtype", "shape", "data_offsets"))
            whole = len(self.data)
            spans = (
                [0, whole],
                [0, 0],
                [whole, whole],
                [8, 4],
                [-4, 0],
                [0, 2**63],
                [whole, whole + 8],
            )
            spans += ([2**64 - 8, 2**64], [4, 196], [0, 192], [192, 208], [2**64 - 1, 0], [1, 193])
            shapes = (
                [],
                [0],
                [48],
                [2**32, 2**32],
                [2**63, 2],
                [0, 2**63],
                [4, 3, 4],
                [1] * 70,
                [-1, -48],
            )
            shapes += ([2**62, 4], [6, 8], [24], [4294967296, 4294967296, 0], [96], [192])
            choices = {"dtype": TYPES, "shape": shapes, "data_offsets": spans}
            header[name][field] = rng.choice(choices[field])
        return "tensor", self._file(trees.to_json(header), self.data)

    def check(self, case: Case, path: Path, value: tuple[dict, dict]) -> None:
        loaded, state = value
        self.check_model(state)
        content = path.read_bytes()
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
        header.pop("__metadata__", None)
        assert loaded["model"].keys() == header.keys()
        for name, x in loaded["model"].items():
            start, end = header[name]["data_offsets"]
            shape = header[name]["shape"]
            if header[name]["dtype"] == "F4":  # of which PyTorch holds two in a byte
                shape = [*shape[:-1], shape[-1] // 2]
            assert [*x.shape] == shape, name
            bits = x.contiguous().view(-1).view(torch.uint8) if x.numel() else torch.empty(0)
            assert bits.numpy().tobytes() == data[start:end], name
            assert str(x.dtype)[6:].startswith(NAMES[header[name]["dtype"]]), (name, x.dtype)


NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16",
    "U8": "uint8", "BOOL": "bool", "F8_E4M3": "float8_e4m3", "F8_E5M2": "float8_e5m2",
    "C64": "complex64", "F4": "float4", "F8_E8M0": "float8_e8m0",
}  # fmt: skip
