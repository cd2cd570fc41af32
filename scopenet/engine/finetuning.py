"""Starting from weights of other classes: the layer that names the classes starts anew."""

import logging
from typing import Any

from ..errors import ConfigError

LAYER = "cls_score"  # of ScopeNet's head, and of those of Detectron2's one-stage detectors


def forget_other_classes(checkpoint: dict[str, Any], class_names: list[str]) -> None:
    """Take the classifier out of a checkpoint that is of other classes, and say so in the log.

    Args:
        checkpoint: what the file holds; changed.
        class_names: those of the training; nothing is done where either side names none.
    """
    theirs = checkpoint.get("class_names")
    if not theirs or not class_names or theirs == class_names:
        return
    weights = checkpoint["model"]
    for key in [k for k in weights if LAYER in k.split(".")]:
        del weights[key]
    logging.getLogger(__name__).warning(
        f"The weights are for other classes ({_listed(theirs)}) than the data "
        f"({_listed(class_names)}): {LAYER} starts anew, everything else is taken over."
    )


def report_forgotten(incompatible: Any) -> None:
    """Say the same in the log where only the shapes tell that the classes are others.

    Args:
        incompatible: what fvcore's checkpointer returns from loading.
    """
    reshaped = [name for name, *_ in incompatible.incorrect_shapes]
    if any(LAYER in name.split(".") for name in reshaped):
        others = [name for name in reshaped if LAYER not in name.split(".")]
        rest = f", and so do {', '.join(others)}" if others else ", everything else is taken over"
        logging.getLogger(__name__).warning(
            f"The weights are for another number of classes: {LAYER} starts anew{rest}."
        )


def check_same_classes(checkpoint: dict[str, Any], class_names: list[str]) -> None:
    """Compare the classes of a checkpoint with those of the data.

    Raises:
        ConfigError: neither resuming nor evaluation makes sense with other classes than those of
            the checkpoint.
    """
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
