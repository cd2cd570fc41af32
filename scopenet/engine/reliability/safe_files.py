"""Reading files of weights without running any code that they may hold."""

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from ...errors import ConfigError
from .plain import check_operations, check_plain, check_torch_file


class _PlainType:
    """Stands in for ``numpy.dtype``, which a file could make take its bytes for pointers."""

    def __init__(self, text: str, *flags: Any):
        self.dtype = np.dtype(str(text))
        if self.dtype.kind not in "biufSU" or self.dtype.fields or self.dtype.subdtype:
            raise pickle.UnpicklingError(f"refused: it holds values of the type {text}")

    def __setstate__(self, state: tuple) -> None:
        _, byte_order, subtype, names, fields, *_ = state
        if subtype or names or fields:
            raise pickle.UnpicklingError("refused: it holds values with fields")
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array(np.ndarray):
    """Takes its type from a :class:`_PlainType`."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, plain, is_fortran, data = state
        data = _as_bytes(data)
        if math.prod(shape) * plain.dtype.itemsize != len(data):  # numpy would compute in 64 bits
            raise pickle.UnpicklingError(
                f"refused: {len(data)} bytes are no array of shape {shape}"
            )
        super().__setstate__((1, shape, plain.dtype, is_fortran, data))


def _as_bytes(data: bytes | str) -> bytes:
    """Return the bytes that Python 2 wrote as text, too."""
    return data.encode("latin1") if isinstance(data, str) else data


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"refused: it asks for the encoding {encoding}")
    return text.encode("latin1")


# What a pickled dict of numpy arrays and plain types is made of, under numpy 1 and 2 and in all of
# pickle's protocols, by stand-ins.
_STAND_INS = {
    ("__builtin__", "bytes"): lambda: b"",
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "dtype"): _PlainType,
    ("numpy", "ndarray"): None,  # named only, as what is to be reconstructed
}
for _core in ("numpy.core", "numpy._core"):
    _STAND_INS |= {
        (f"{_core}.multiarray", "_reconstruct"): lambda *_: _Array(0, np.uint8),
        (f"{_core}.multiarray", "scalar"): lambda plain, data: np.frombuffer(
            _as_bytes(data), plain.dtype
        )[0],
        (f"{_core}.numeric", "_frombuffer"): lambda data, plain, shape, order: np.frombuffer(
            data, plain.dtype
        ).reshape(shape, order=order),
    }


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain types; anything else is refused before it runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}")
        return _STAND_INS[module, name]


def load_pickled_arrays(path: str) -> dict[str, Any]:
    """Read a ``.pkl`` of Detectron2's model zoo; raise a ConfigError if it is not a pickled dict of
    arrays and plain types."""
    return _parse(path, partial(_unpickle, Path(path).read_bytes()))


def _unpickle(content: bytes) -> Any:
    check_operations(content)
    return ArrayUnpickler(BytesIO(content), encoding="latin1").load()


def load_tensors(path: str) -> dict[str, Any]:
    """Read a file of ``torch.save`` onto the CPU; raise a ConfigError if it is not a dict of
    tensors and plain types."""
    return _parse(path, partial(_load_tensors, path))


def _load_tensors(path: str) -> Any:
    check_torch_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _parse(path: str, load: Callable[[], Any]) -> dict[str, Any]:
    try:
        loaded = load()
        check_plain(loaded)
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        # PyTorch's advice, to load it unsafely, comes first; what it says of the file comes last.
        text = str(error).rpartition("WeightsUnpickler error:")[2].strip() or type(error).__name__
        reason = text.splitlines()[0].rstrip(".!")
        raise ConfigError(f"{path} is not a file of tensors and plain types: {reason}.") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds a {type(loaded).__name__} instead of a dict of weights.")
    return loaded


def load_safetensors(path: str) -> dict[str, Any]:
    """Read the weights of a ``.safetensors`` file as a checkpoint without anything else."""
    return {"model": _parse(path, partial(load_file, path))}
