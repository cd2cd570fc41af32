"""Reading files of weights without running any code that they may hold."""

import pickle
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file

from ...errors import ConfigError

# What a pickled dict of numpy arrays and plain types is made of, under numpy 1 and 2 and in all of
# pickle's protocols.
_ALLOWED_GLOBALS = {
    ("__builtin__", "bytes"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays and plain types; anything else is refused before it runs."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"refused: it asks for {module}.{name}")
        with warnings.catch_warnings():  # numpy 2 deprecates numpy 1's names
            warnings.simplefilter("ignore", DeprecationWarning)
            return super().find_class(module, name)


def load_pickled_arrays(path: str) -> dict[str, Any]:
    """Read a ``.pkl`` of Detectron2's model zoo; raise a ConfigError if it is not a pickled dict of
    arrays and plain types."""
    with open(path, "rb") as f:
        return _parse(path, ArrayUnpickler(f, encoding="latin1").load)


def load_tensors(path: str) -> dict[str, Any]:
    """Read a file of ``torch.save`` onto the CPU; raise a ConfigError if it is not a dict of
    tensors and plain types."""
    return _parse(path, partial(torch.load, path, map_location="cpu", weights_only=True))


def _parse(path: str, load: Callable[[], Any]) -> dict[str, Any]:
    try:
        loaded = load()
    except Exception as error:  # a damaged file makes the parsers raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        reason = reason.rstrip(".")
        raise ConfigError(f"{path} is not a file of tensors and plain types: {reason}.") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} holds a {type(loaded).__name__} instead of a dict of weights.")
    return loaded


def load_safetensors(path: str) -> dict[str, Any]:
    """Read the weights of a ``.safetensors`` file as a checkpoint without anything else."""
    return {"model": _parse(path, partial(load_file, path))}
