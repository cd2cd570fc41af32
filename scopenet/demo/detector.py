"""One callable, whatever the detector was loaded from: a checkpoint or an exported model."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, DatasetMapper, Metadata, MetadataCatalog
from detectron2.data.transforms import AugInput
from detectron2.structures import Instances
from torch import nn

from ..config_file import ConfigError, load_config
from ..engine.checkpoint import StrictCheckpointer
from ..engine.lazy import load_lazy_config, run_settings
from ..model_zoo.models import build
from .images import ImageError

EXPORTED_SUFFIXES = (".onnx", ".xml")


class CheckpointPredictor:
    """As Detectron2's ``DefaultPredictor``, of a model that is loaded already.

    Args:
        model: in evaluation mode.
        mapper: of testing; its resizing and channel order are used.
    """

    def __init__(self, model: nn.Module, mapper: DatasetMapper):
        self.model = model
        self.mapper = mapper

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """The model's output for one BGR uint8 image (H, W, 3), in px of the image.

        Raises:
            ImageError: nothing would be left of the image's shorter side.
        """
        height, width = image.shape[:2]
        augmented = AugInput(image if self.mapper.image_format == "BGR" else image[:, :, ::-1])
        try:
            self.mapper.augmentations(augmented)
        except ValueError as error:
            raise ImageError(f"its {width} x {height} px are too thin.") from error
        pixels = torch.from_numpy(augmented.image.astype("float32").transpose(2, 0, 1))
        return self.model([{"image": pixels, "height": height, "width": width}])[0]


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
        return self.predictor(image)["instances"].to("cpu")


def load_checkpoint(config_file: str, weights: str, overrides: list[str]) -> Detector:
    """
    Args:
        config_file: YAML or LazyConfig, here or below the project's configs.
        weights: a file, or an address Detectron2 knows how to fetch; "" for those of the config.
        overrides: KEY VALUE, of a LazyConfig path.key=value.

    Raises:
        ConfigError: the config is wrong, or there are no weights that fit it.
    """
    if config_file.endswith(".py"):
        config = load_lazy_config(config_file, overrides)
        settings, mapper = run_settings(config), instantiate(config.dataloader.test.mapper)
    else:
        config = settings = load_config(config_file, overrides)
        mapper = DatasetMapper(config, is_train=False)
    weights = weights or settings.MODEL.WEIGHTS
    if not weights:
        raise ConfigError(f"{config_file} names no weights; give --weights with a checkpoint.")
    if "://" not in weights and not Path(weights).is_file():
        raise ConfigError(f"The weights {weights} do not exist.")
    model = build(config, settings.MODEL.DEVICE).eval()
    rest = StrictCheckpointer(model).load(weights)
    names = (*settings.DATASETS.TEST, *settings.DATASETS.TRAIN)
    class_names, category_ids = _classes(
        rest.get("class_names"), names, getattr(model, "num_classes", 0)
    )
    return Detector(CheckpointPredictor(model, mapper), class_names, category_ids)


def _classes(recorded: Any, datasets: tuple[str, ...], count: int) -> tuple[list[str], list[int]]:
    """Names and ids of the classes: the names that the checkpoint has recorded, or those of the
    first data set that has as many classes as the model, or else numbers.
    """
    is_recorded = isinstance(recorded, list) and len(recorded) == count
    ids = list(range(1, count + 1))
    for metadata in map(_metadata, datasets):
        names = list(metadata.get("thing_classes", []))
        if len(names) == count and not (is_recorded and names != recorded):
            to_class = metadata.get("thing_dataset_id_to_contiguous_id", {})
            return names, sorted(to_class, key=to_class.get) or ids
    return [str(x) for x in (recorded if is_recorded else range(count))], ids


def _metadata(dataset: str) -> Metadata:
    """Of a data set, of which nothing need be there."""
    if dataset not in DatasetCatalog.list():
        return Metadata()
    metadata = MetadataCatalog.get(dataset)
    if "thing_classes" not in metadata.as_dict() and Path(metadata.get("json_file", "")).is_file():
        DatasetCatalog.get(dataset)  # fills in the class names of the json
    return metadata


def load_exported(path: Path) -> Detector:
    """
    Args:
        path: a model of the exporter, or the folder of one.

    Raises:
        ConfigError: there is none, or it cannot be loaded.
    """
    path = _exported_file(path)
    try:
        from ..runtime import Predictor

        predictor = Predictor(str(path))
    except ConfigError:
        raise
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"The exported model {path} cannot be loaded: {reason}.") from error
    names = [str(x) for x in predictor.class_names]
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
