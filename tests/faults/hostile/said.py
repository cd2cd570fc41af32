"""What the bytes of a pickle say, read by another machine than the one under test: Python's own in
Python, in which nothing is called and arrays are made only in the end."""

import io
import pickle
from collections import OrderedDict
from typing import Any

import numpy as np


class Said:
    """What a file wants to be called, with what, and the state that it sets then."""

    what = ("", "")

    def __new__(cls, *arguments: Any):
        self = super().__new__(cls)
        self.arguments, self.state = _now(arguments), None
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = _now(state)


def _now(x: Any) -> Any:
    """Types as they are when an array is made of them: a file may change them afterwards."""
    return tuple(map(_copied, x)) if isinstance(x, tuple | list) else x


def _copied(x: Any) -> Any:
    if not isinstance(x, Said):
        return x
    now = object.__new__(type(x))
    now.arguments, now.state = x.arguments, x.state
    return now


class Reader(pickle._Unpickler):
    """Reads what is named as :class:`Said`, whatever the version that it says it is of."""

    dispatch = pickle._Unpickler.dispatch | {pickle.PROTO[0]: lambda self: self.read(1)}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("_codecs", "encode"):
            return lambda text, encoding="utf-8": text.encode(encoding)
        if (module, name) == ("__builtin__", "bytes"):
            return bytes
        return type("Said", (Said,), {"what": (module, name)})


def read(content: bytes, persistent: Any = None) -> Any:
    """The tree of a pickle."""
    reader = Reader(io.BytesIO(content), encoding="latin1")
    if persistent:
        reader.persistent_load = persistent
    return reader.load()


def value_of(said: Any) -> Any:
    """With numpy's arrays and numbers in place of what says them."""
    if isinstance(said, dict):
        return {value_of(k): value_of(v) for k, v in said.items()}
    if isinstance(said, list | tuple):
        return type(said)(map(value_of, said))
    if not isinstance(said, Said):
        return said
    name = said.what[1]
    if name == "_reconstruct":
        _, shape, plain, is_fortran, data = said.state
        swapped = _array(data, plain, shape, "F" if is_fortran else "C")
        return swapped.astype(swapped.dtype.newbyteorder("="))  # as numpy does here alone
    if name == "_frombuffer":
        data, plain, shape, order = said.arguments
        return _array(data, plain, shape, order)
    if name == "scalar":
        plain, data = said.arguments
        return _array(data, plain, (), "C")[()]
    raise AssertionError(f"{said.what} is among the values")


def _array(data: Any, plain: Said, shape: Any, order: str) -> np.ndarray:
    dtype = np.dtype(plain.arguments[0])
    assert dtype.kind in "biufSU" and not dtype.hasobject, dtype
    if plain.state:
        dtype = dtype.newbyteorder(plain.state[1])
    data = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if order == "C" and shape != () and -1 in np.atleast_1d(shape):
        return np.frombuffer(data, dtype).reshape(shape)  # numpy finds out how many
    size = int(np.prod([*map(int, np.atleast_1d(shape))], dtype=object)) * dtype.itemsize
    assert size == len(data), (shape, dtype, len(data))
    return np.ndarray(shape, dtype, data, order=order)


def assert_equal(found: Any, expected: Any, where: str = "") -> None:
    """Types, shapes and bits."""
    if isinstance(expected, dict):
        assert isinstance(found, dict) and [*map(repr, found)] == [*map(repr, expected)], where
        for (key, x), y in zip(found.items(), expected.values(), strict=True):
            assert_equal(x, y, f"{where}[{key!r:.50}]")
    elif isinstance(expected, list | tuple):
        assert type(found) is type(expected) and len(found) == len(expected), where
        for i, (x, y) in enumerate(zip(found, expected, strict=True)):
            assert_equal(x, y, f"{where}[{i}]")
    elif isinstance(expected, np.ndarray | np.generic):
        assert isinstance(found, np.ndarray | np.generic), where
        kinds = (found.shape, found.dtype), (expected.shape, expected.dtype)
        assert kinds[0] == kinds[1], (where, *kinds)
        assert found.tobytes() == expected.tobytes(), where
    else:
        assert type(found) is type(expected), where
        assert found == expected or found != found, (where, found, expected)
