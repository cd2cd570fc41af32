"""Detectron2's checkpointer, with loading that executes nothing and files that survive."""

import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
from detectron2.checkpoint import DetectionCheckpointer

from ..errors import ConfigError, refused
from ..modeling.bins import bin_edges
from ..modeling.timm_backbone import SCHEME, pretrained_weights
from ..safe_yaml import read_yaml
from .reliability.checkpoint_file import list_checkpoints, newest_sound, write_checkpoint
from .reliability.plain import check_weights
from .reliability.safe_files import load_pickled_arrays, load_safetensors, load_tensors
from .taken_over import drop_other_tower, report_taken_over

# The layer that names the classes, which starts anew where these are others.
LAYER = "cls_score"  # of ScopeNet's head, and of those of Detectron2's one-stage detectors


def forget_other_classes(checkpoint: dict[str, Any], class_names: list[str]) -> None:
    """Take the classifier out of a checkpoint that is of other classes, and say so in the log;
    nothing is done where either side names no classes."""
    theirs = checkpoint.get("class_names")
    if not theirs or not class_names or theirs == class_names:
        return
    weights = checkpoint["model"]
    for key in [k for k in weights if LAYER in k.split(".")]:
        del weights[key]
    logging.getLogger(__name__).warning(
        f"The weights are for other classes ({_listed(theirs)}) than the data "
        f"({_listed(class_names)}): {LAYER} starts anew."
    )


def report_forgotten(incompatible: Any) -> None:
    """Say the same in the log where only the shapes tell that the classes are others, by what
    fvcore's checkpointer returns from loading."""
    reshaped = [name for name, *_ in incompatible.incorrect_shapes]
    if any(LAYER in name.split(".") for name in reshaped):
        others = [name for name in reshaped if LAYER not in name.split(".")]
        rest = f", and so do {', '.join(others)}" if others else ""
        logging.getLogger(__name__).warning(
            f"The weights are for another number of classes: {LAYER} starts anew{rest}."
        )


def report_other_bins(checkpoint: dict[str, Any], model: Any) -> None:
    """Say in the log that the bins of a ScopeNet lie elsewhere than those that the checkpoint's
    config had, which nothing in the shapes of the weights tells."""
    try:
        node = read_yaml(checkpoint["config"])["MODEL"]["SCOPENET"]
        sizes = node["NUM_BINS"], node["BIN_SIZE"]
        theirs = bin_edges(node["LEVEL_BOUNDARIES"], model.strides, *sizes)
    except Exception:  # no config, or of another model
        return
    if theirs.shape == model.bin_edges.shape and not torch.equal(theirs, model.bin_edges.cpu()):
        logging.getLogger(__name__).warning(
            f"The weights were trained with MODEL.SCOPENET.BIN_SIZE {node['BIN_SIZE']} and "
            f"LEVEL_BOUNDARIES {node['LEVEL_BOUNDARIES']}, not with those of this config: its "
            "borders are off until it is trained again."
        )


def check_same_classes(checkpoint: dict[str, Any], class_names: list[str]) -> None:
    """Raise a ConfigError if the classes of checkpoint and data differ: neither resuming nor
    evaluation makes sense then."""
    theirs = checkpoint.get("class_names")
    if theirs and class_names and theirs != class_names:
        raise ConfigError(
            f"The checkpoint is of other classes ({_listed(theirs)}) than the data "
            f"({_listed(class_names)}); only a new training can start from it, without --resume "
            "and with its file in MODEL.WEIGHTS."
        )


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


class SafeCheckpointer(DetectionCheckpointer):
    """Saves and loads as Detectron2's checkpointer, but executes nothing of a file.

    Besides the model and the checkpointables each file holds ``extra`` (config and class names).
    Files are written as in :mod:`scopenet.engine.reliability.checkpoint_file`.
    """

    def __init__(self, model, save_dir: str = "", *, extra: dict | None = None, **checkpointables):
        super().__init__(model, save_dir, **checkpointables)
        self.extra = extra or {}
        self._path, self._is_resumed, self._matches_names = "", False, False

    def save(self, name: str, **kwargs: Any) -> None:
        """See :func:`~scopenet.engine.reliability.checkpoint_file.write_checkpoint`."""
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
        """Choose the newest sound checkpoint, and log which newer ones are damaged; raise a
        ConfigError if none is sound."""
        path, damaged = newest_sound(Path(self.save_dir))
        for x in damaged:
            # Not of Detectron2's loggers, which are set up in training programs only.
            logging.getLogger(__name__).warning(
                f"{x} is damaged or missing; going on from {path.name}."
            )
        return str(path)

    # What fvcore's `Checkpointer.load` calls, and leaves to its subclasses.
    def _load_file(self, filename: str) -> dict[str, Any]:
        loaded = self._read(filename)
        check_weights(filename, loaded)
        return loaded

    def _read(self, filename: str) -> dict[str, Any]:
        if filename.endswith(".safetensors"):
            return load_safetensors(filename)
        if not filename.endswith(".pkl"):
            loaded = load_tensors(filename)
            if filename.endswith(".pyth"):  # of pycls, as Detectron2 treats it
                weights = loaded.get("model_state", loaded)
                return {"model": weights, "matching_heuristics": True}
            loaded = loaded if "model" in loaded else {"model": loaded}
            return loaded | {"matching_heuristics": True} if self._matches_names else loaded
        loaded = load_pickled_arrays(filename)
        if "model" in loaded:
            return loaded
        # Caffe2's format, as Detectron2 treats it: blobs, with the solver's momenta among them.
        blobs = loaded.get("blobs", loaded)
        if isinstance(blobs, dict):
            blobs = {k: v for k, v in blobs.items() if not str(k).endswith("_momentum")}
        return {"model": blobs, "__author__": "Caffe2", "matching_heuristics": True}

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """See fvcore's ``Checkpointer.load``: without ``checkpointables`` a run is resumed. As in
        Detectron2, ``?matching_heuristics=True`` behind a file's name matches names that differ."""
        self._path, self._is_resumed = path, checkpointables is None
        self._matches_names = "matching_heuristics=True" in urlparse(path).query
        if path.startswith(SCHEME):
            self._log_incompatible_keys(self._load_model({"model": pretrained_weights(path)}))
            return {}
        return super().load(path, checkpointables)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        class_names = self.extra.get("class_names", [])
        if self._is_resumed:
            check_same_classes(checkpoint, class_names)
        forget_other_classes(checkpoint, class_names)
        names = [*self.model.state_dict()]
        with refused(f"The weights of {self._path} cannot be given to the model"):
            drop_other_tower(checkpoint["model"], names)
            incompatible = super()._load_model(checkpoint)
        report_forgotten(incompatible)
        reshaped = [name for name, *_ in incompatible.incorrect_shapes]
        report_taken_over(names, [*incompatible.missing_keys, *reshaped])
        report_other_bins(checkpoint, getattr(self.model, "module", self.model))
        return incompatible


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
