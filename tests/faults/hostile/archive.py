"""The zip of ``torch.save``, written and read without PyTorch."""

import io
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hostile.said import Said, read

STORAGES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?", "ComplexFloatStorage": "c8",
}  # fmt: skip


def zipped(entries: list[tuple[str, bytes]], bomb: bool = False) -> bytes:
    buffer = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if bomb else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", kind) as f:
        for name, content in entries:
            content = content + bytes(2**26) if bomb and name == "x/data/0" else content
            f.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def as_arrays(x: Any) -> Any:
    """With arrays in place of tensors; of a huge one that repeats a few values, these."""
    if isinstance(x, dict):
        return {k: as_arrays(v) for k, v in x.items()}
    if isinstance(x, list | tuple) and type(x) in (list, tuple):
        return type(x)(map(as_arrays, x))
    if isinstance(x, set | torch.Size):
        return tuple(x)
    if isinstance(x, torch.dtype | torch.device):
        return str(x)
    if not isinstance(x, torch.Tensor):
        return x
    assert x.layout == torch.strided and x.device.type == "cpu" and not x.is_quantized
    strides = x.stride()
    x = x.detach().resolve_conj().resolve_neg()
    return tuple(x.shape), x.as_strided(*few(x.shape, strides), x.storage_offset()).numpy()


def few(shape: Any, strides: Any) -> tuple[list[int], list[int]]:
    """Size and strides without dimensions of size 1, of which numpy has fewer than PyTorch, and of
    a huge array, that repeats a few values, two by two."""
    most = 2 if np.prod([*map(int, shape)], dtype=object) > 10**6 else 10**6
    kept = [(min(n, most), s) for n, s in zip(shape, strides, strict=True) if n != 1]
    return [n for n, _ in kept], [s for _, s in kept]


@dataclass(frozen=True)
class Storage:
    dtype: np.dtype
    order: str
    content: bytes

    def values(self) -> np.ndarray:
        whole = self.content[: len(self.content) // self.dtype.itemsize * self.dtype.itemsize]
        return np.frombuffer(whole, self.dtype.newbyteorder(self.order)).astype(self.dtype)


class Archive:
    """The zip read by Python, and the pickle in it by :mod:`hostile.said`."""

    def __init__(self, content: bytes):
        with zipfile.ZipFile(io.BytesIO(content)) as f:
            self.entries = {x.filename.partition("/")[2]: f.read(x) for x in f.infolist()}
        self.order = {b"big": ">"}.get(self.entries.get("byteorder", b""), "<")

    def value(self) -> Any:
        return self._value_of(read(self.entries["data.pkl"], self._storage))

    def _storage(self, said: tuple) -> "Storage":
        _, kind, key, *_ = said
        if isinstance(kind, Said):  # a tensor, which has a type, too
            kind = kind.arguments[0]
        dtype = kind.dtype if isinstance(kind, Storage) else np.dtype(STORAGES[kind.what[1]])
        return Storage(dtype, self.order, self.entries[f"data/{key}"])

    def _value_of(self, said: Any) -> Any:
        if isinstance(said, dict):
            return {self._value_of(k): self._value_of(v) for k, v in said.items()}
        if isinstance(said, list | tuple):
            return type(said)(map(self._value_of, said))
        if isinstance(said, type) and issubclass(said, Said):
            return ".".join(said.what)
        if not isinstance(said, Said):
            return said
        name, arguments = said.what[1], said.arguments
        if name in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            flat, offset, shape, stride, *_ = arguments
            flat = flat.values()
            if not stride:  # contiguous
                stride = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
            strides = [x * flat.itemsize for x in stride]
            last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
            assert offset >= 0 and (0 in shape or last < len(flat)), (offset, shape, stride, flat)
            sizes = few(shape, strides)
            return tuple(shape), np.lib.stride_tricks.as_strided(flat[offset:], *sizes)
        if name == "_rebuild_parameter":
            return self._value_of(arguments[0])
        if name == "device":
            return arguments[0]
        if name == "Size":
            return tuple(arguments[0])
        raise AssertionError(f"{said.what} {arguments} is among the values")
