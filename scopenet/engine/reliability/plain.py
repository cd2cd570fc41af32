"""Looking at files of weights before they are unpickled, and at what comes of them.

PyTorch and Python make room for what a file says of its lengths, and PyTorch lets it call a few
functions that do the same: a file of some hundred bytes could take all memory.
"""

import pickle
import pickletools
import re
import zipfile
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
import torch

from ...errors import ConfigError

# What a file of `torch.save` may name: what tensors, optimizers and schedules are made of.
_TORCH_NAMES = re.compile(
    r"collections (OrderedDict|Counter)|torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
    r"|torch (\w+Storage|Size|device|bool|b?float\w+|u?int\w+|complex\w+)|_codecs encode"
    r"|(__builtin__|builtins) (set|complex)"
)
_ZIP, _MAGIC = b"PK\3\4", b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # how the two forms begin
_PICKLES = 5  # in a file of the older form: magic number, version, system, content, storages
_NUMPY_AND_TORCH = (np.ndarray, np.generic, torch.dtype, torch.device)
_PLAIN = (str, int, float, complex, bytes, type(None), *_NUMPY_AND_TORCH)
_KEYS = (str, int, float, bytes, type(None), np.generic)


def check_operations(f: BinaryIO | bytes, names: re.Pattern | None = None) -> None:
    """Look through a pickle; raise nearly anything if a length or a number of the memo is beyond
    what there is, or if it asks for something else than the ``names``, where these are given."""
    operations: Any = pickletools.genops(f)
    for i, (operation, argument, _) in enumerate(operations):
        if operation.name.endswith("PUT") and argument > i:
            raise pickle.UnpicklingError(f"refused: it has no object number {argument}")
        if names and operation.name == "GLOBAL" and not names.fullmatch(argument):
            raise pickle.UnpicklingError(f"refused: it asks for {argument.replace(' ', '.')}")


def check_torch_file(path: str) -> None:
    """Look through a file of ``torch.save``; raise nearly anything if it is none."""
    with open(path, "rb") as f:
        start = f.read(64)
        size = f.seek(0, 2)
        f.seek(0)
        if not start.startswith(_ZIP):
            if _MAGIC not in start:  # also the oldest form, which torch unpacks into a folder
                raise ValueError("refused: it does not begin as one")
            content = BytesIO(f.read())  # a length that it does not have needs no room there
            for _ in range(_PICKLES):
                check_operations(content, _TORCH_NAMES)
            return
        with zipfile.ZipFile(f) as archive:
            entries = archive.infolist()
            is_stored = all(x.compress_type == zipfile.ZIP_STORED for x in entries)
            names = {x.filename for x in entries}
            whole = sum(x.file_size for x in entries)
            if not is_stored or whole > size or len(names) < len(entries):
                raise ValueError("refused: its parts are compressed, overlap, or share a name")
            for entry in entries:
                if entry.filename.lower().endswith(".pkl"):
                    check_operations(archive.read(entry), _TORCH_NAMES)


def check_plain(value: Any, met: dict[int, bool] | None = None) -> None:
    """Raise a ValueError if ``value`` holds something else than arrays, plain types and containers
    of them, or holds itself; ``met`` tells of each container whether it was looked through."""
    met = {} if met is None else met
    if isinstance(value, dict | list | tuple | set):
        if not met.get(id(value), True):
            raise ValueError("it holds itself")
        if id(value) not in met:
            met[id(value)] = False
            for key in value if isinstance(value, dict) else ():
                if not isinstance(key, _KEYS):
                    raise ValueError(f"it names something by a {type(key).__name__}")
            for child in value.values() if isinstance(value, dict) else value:
                check_plain(child, met)
            met[id(value)] = True
    elif not (isinstance(value, _PLAIN) or _is_dense(value)):
        raise ValueError(f"it holds a {type(value).__name__}")


def _is_dense(value: Any) -> bool:
    is_tensor = isinstance(value, torch.Tensor) and not (value.is_quantized or value.is_nested)
    return is_tensor and value.layout == torch.strided and value.device.type == "cpu"


def check_weights(path: str, checkpoint: dict[str, Any]) -> None:
    """Raise a ConfigError if "model" of a checkpoint is no dict of arrays of numbers by their
    names, or "class_names", where there are any, no list of text."""
    weights, names = checkpoint["model"], checkpoint.get("class_names")
    if not isinstance(weights, dict):
        raise ConfigError(f"{path} holds a {type(weights).__name__} instead of a dict of weights.")
    for key, value in weights.items():
        if not isinstance(key, str) or not _is_of_numbers(value):
            raise ConfigError(
                f"{path} is not of weights only: {key!r:.100} is no array of numbers."
            )
    is_list = isinstance(names, list) and all(isinstance(x, str) for x in names)
    if not (names is None or is_list):
        raise ConfigError(f"{path} does not name its classes by a list of text.")


def _is_of_numbers(value: Any) -> bool:
    """Tell whether a model's weights can be set to ``value``."""
    if not isinstance(value, np.ndarray):
        return _is_dense(value)
    kind = value.dtype
    return kind.kind in "biuf" and kind.isnative and kind.itemsize <= 8
