"""Checkpoints of tensors and plain types, read without running any code they may hold."""

import logging
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from safetensors.torch import load_file

from ..config_file import ConfigError
from .finetuning import check_same_classes, forget_other_classes, report_forgotten
from .sound import list_checkpoints, newest_sound, write_checkpoint

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
    """A ``.pkl`` of Detectron2's model zoo.

    Raises:
        ConfigError: the file is not a pickled dict of arrays and plain types.
    """
    with open(path, "rb") as f:
        return _parse(path, ArrayUnpickler(f, encoding="latin1").load)


def load_tensors(path: str) -> dict[str, Any]:
    """A file of ``torch.save``, such as the checkpoints of a training, onto the CPU.

    Raises:
        ConfigError: the file is not a dict of tensors and plain types.
    """
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


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with loading that executes nothing.

    Besides the model and the checkpointables each file holds ``extra`` (config and class names).
    Files are written as in :mod:`scopenet.engine.sound`.
    """

    def __init__(self, model, save_dir: str = "", *, extra: dict | None = None, **checkpointables):
        super().__init__(model, save_dir, **checkpointables)
        self.extra = extra or {}
        self._is_resumed = False

    def save(self, name: str, **kwargs: Any) -> None:
        """See :func:`~scopenet.engine.sound.write_checkpoint`."""
        if not self.save_dir or not self.save_to_disk:
            return
        objects = {"model": self.model, **self.checkpointables}
        data = {key: x.state_dict() for key, x in objects.items()} | self.extra | kwargs
        path = Path(self.save_dir) / f"{name}.pth"
        self.logger.info(f"Saving checkpoint to {path}")
        write_checkpoint(path, data)

    def has_checkpoint(self) -> bool:
        return bool(self.save_dir) and bool(list_checkpoints(Path(self.save_dir)))

    def get_checkpoint_file(self) -> str:
        """The newest sound checkpoint; says so if that is not the newest.

        Raises:
            ConfigError: there are checkpoints, but none is sound.
        """
        path, damaged = newest_sound(Path(self.save_dir))
        for x in damaged:
            # Not of Detectron2's loggers, which are set up in training programs only.
            logging.getLogger(__name__).warning(
                f"{x} is damaged or missing; going on from {path.name}."
            )
        return str(path)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".pyth"):  # Detectron2 would load it in a way that runs code
            raise ConfigError(f"{filename} is a file of pycls, which is not read; save it as .pth.")
        if filename.endswith(".safetensors"):
            return {"model": _parse(filename, partial(load_file, filename))}
        if not filename.endswith(".pkl"):
            return super()._load_file(filename)
        loaded = load_pickled_arrays(filename)
        if "model" in loaded:
            return loaded
        # Caffe2's format, as Detectron2 treats it: blobs, with the solver's momenta among them.
        blobs = loaded.get("blobs", loaded)
        model = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """See fvcore's ``Checkpointer.load``: without ``checkpointables`` a run is resumed.

        Raises:
            ConfigError: it would be resumed with other classes.
        """
        self._is_resumed = checkpointables is None
        return super().load(path, checkpointables)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        class_names = self.extra.get("class_names", [])
        if self._is_resumed:
            check_same_classes(checkpoint, class_names)
        forget_other_classes(checkpoint, class_names)
        incompatible = super()._load_model(checkpoint)
        report_forgotten(incompatible)
        return incompatible

    def _torch_load(self, filename: str) -> dict[str, Any]:
        return load_tensors(filename)


class StrictCheckpointer(SafeCheckpointer):
    """Refuses, with a ConfigError, weights that leave a part of the model as it was."""

    def _load_model(self, checkpoint):
        incompatible = super()._load_model(checkpoint)
        reshaped = [x[0] for x in incompatible.incorrect_shapes]
        unset = [*dict.fromkeys(incompatible.missing_keys + reshaped)]  # many are in both
        if unset:
            raise ConfigError(
                f"The weights do not fit the config: {len(unset)} of the model's tensors are "
                f"missing in them or have another shape, the first is {unset[0]}."
            )
        return incompatible


def rng_states() -> dict[str, Any]:
    """States of the global random generators of this process, as tensors and plain types."""
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    version, words, next_gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss],
        "python": [version, list(words), next_gauss],
    }


def restore_rng_states(states: dict[str, Any]) -> None:
    """The inverse of :func:`rng_states`; CUDA states only where the devices are as many."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    version, words, next_gauss = states["python"]
    random.setstate((version, tuple(words), next_gauss))


@contextmanager
def kept_rng_states() -> Iterator[None]:
    """For evaluations: a training that goes on from the checkpoint of the same iteration, which is
    written before them, does not have them again, nor the random numbers that they take."""
    states = rng_states()
    yield
    restore_rng_states(states)
