"""One callable, whatever the detector was loaded from: a checkpoint or an exported model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import Instances

from ..errors import ConfigError
from ..engine.trained import TooThinError, load_trained
from ..runtime import Predictor
from .images import ImageError

EXPORTED_SUFFIXES = (".onnx", ".xml")


@dataclass(frozen=True)
class Detector:
    """
    Attributes:
        predictor: from a BGR uint8 image (H, W, 3) to ``{"instances": Instances}`` in px of it.
        class_names: by class.
        category_ids: of the data set, by class; from 1 where it is not known.
    """

    predictor: Callable[[np.ndarray], dict[str, Any]]
    class_names: list[str]
    category_ids: list[int]

    def __call__(self, image: np.ndarray) -> Instances:
        """
        Raises:
            ImageError: nothing would be left of the image's shorter side in the network's input.
        """
        try:
            return self.predictor(image)["instances"].to("cpu")
        except TooThinError as error:
            raise ImageError(f"{error}.") from error


def load_checkpoint(config_file: str, weights: str, overrides: list[str]) -> Detector:
    """See :func:`~scopenet.engine.trained.load_trained`."""
    trained = load_trained(config_file, weights, overrides)
    return Detector(trained, trained.class_names, trained.category_ids)


def load_exported(path: Path) -> Detector:
    """
    Args:
        path: a model of the exporter, or the folder of one.

    Raises:
        ConfigError: there is none, or it cannot be loaded.
    """
    predictor = Predictor(_exported_file(path))
    names = predictor.class_names
    return Detector(predictor, names, list(range(1, len(names) + 1)))


def _exported_file(path: Path) -> Path:
    if path.is_dir():
        found = sorted(x for x in path.iterdir() if x.suffix in EXPORTED_SUFFIXES)
        if len(found) != 1:
            has = ", ".join(x.name for x in found) or "none"
            raise ConfigError(f"{path} should hold one .onnx or .xml file, but has {has}.")
        return found[0]
    if path.suffix not in EXPORTED_SUFFIXES:
        raise ConfigError(f"{path} is neither an .onnx nor an .xml file of an exported model.")
    if not path.is_file():
        raise ConfigError(f"The exported model {path} does not exist.")
    return path
