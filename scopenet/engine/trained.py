"""A trained detector as a predictor: Detectron2's ``DefaultPredictor``, but it runs no code of the
checkpoint, also takes LazyConfigs and knows its classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetCatalog, DatasetMapper, Metadata, MetadataCatalog
from detectron2.data.transforms import AugInput, AugmentationList
from omegaconf import DictConfig
from torch import nn

from ..config_file import ConfigError, load_config
from ..model_zoo.models import build
from ..modeling import ScopeNetWithTTA
from .checkpoint import StrictCheckpointer
from .checks import check_test_time_augmentation
from .lazy import load_lazy_config, run_settings


class TooThinError(ValueError):
    """An image of which nothing would be left after the resizing."""


@dataclass(frozen=True)
class TrainedDetector:
    """
    Attributes:
        model: in evaluation mode, on its device.
        mapper: of testing; its resizing and channel order are used.
        class_names: by class.
        category_ids: of the data set, by class; from 1 where it is not known.
        config: that it was loaded with.
        train_datasets, test_datasets: of the config.
    """

    model: nn.Module
    mapper: DatasetMapper
    class_names: list[str]
    category_ids: list[int]
    config: CfgNode | DictConfig
    train_datasets: tuple[str, ...]
    test_datasets: tuple[str, ...]

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """The model's output for an image (H, W, 3), uint8 BGR, in px of the image.

        Raises:
            TooThinError: nothing would be left of the image's shorter side.
        """
        resized = AugInput(image)
        try:
            self.mapper.augmentations(resized)
        except ValueError as error:
            height, width = image.shape[:2]
            raise TooThinError(f"its {width} x {height} px are too thin") from error
        return self.detect(resized.image, image.shape[:2])

    @torch.no_grad()
    def detect(self, image: np.ndarray, output_size: tuple[int, int]) -> dict[str, Any]:
        """The model's output for an image as it is, in px of an image of ``output_size``, its
        height and width."""
        ordered = image if self.mapper.image_format == "BGR" else image[:, :, ::-1]
        pixels = torch.from_numpy(ordered.astype("float32").transpose(2, 0, 1))
        return self.model([{"image": pixels, "height": output_size[0], "width": output_size[1]}])[0]


def load_trained(config_file: str, weights: str, overrides: list[str]) -> TrainedDetector:
    """
    Args:
        config_file: YAML or LazyConfig, here or below the project's configs.
        weights: a file, or an address Detectron2 knows how to fetch; "" for those of the config.
        overrides: KEY VALUE, of a LazyConfig path.key=value. With ``TEST.AUG.ENABLED`` the detector
            uses test-time augmentation.

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
        raise ConfigError(f"{config_file} names no weights; give a checkpoint.")
    if "://" not in weights and not Path(weights).is_file():
        raise ConfigError(f"The weights {weights} do not exist.")
    model = build(config, settings.MODEL.DEVICE).eval()
    recorded = StrictCheckpointer(model).load(weights).get("class_names")
    train, test = tuple(settings.DATASETS.TRAIN), tuple(settings.DATASETS.TEST)
    class_names, category_ids = _classes(recorded, test + train, getattr(model, "num_classes", 0))
    check_test_time_augmentation(settings)
    if settings.TEST.AUG.ENABLED:
        model = ScopeNetWithTTA(settings, model)
        mapper.augmentations = AugmentationList([])  # views are made of the image itself
    return TrainedDetector(model, mapper, class_names, category_ids, config, train, test)


def _classes(recorded: Any, datasets: tuple[str, ...], count: int) -> tuple[list[str], list[int]]:
    """Names and ids of the classes: the names that the checkpoint has recorded, or those of the
    first data set that has as many classes as the model, or else numbers."""
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
