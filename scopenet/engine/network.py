"""A model with its weights, its classes and the resizing of its config: what ``Detector`` runs on
PyTorch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, DatasetMapper, Metadata, MetadataCatalog
from detectron2.data.transforms import AugInput, AugmentationList
from torch import nn

from ..config_file import Config, settings_of
from ..data.custom import register_available
from ..errors import ConfigError, ImageError, refused
from ..modeling import ScopeNetWithTTA
from .checkpoint import StrictCheckpointer
from .checks import check_test_time_augmentation, check_weights
from .lazy import trainer_for
from .trainer import Trainer


@dataclass(frozen=True)
class Network:
    """Detects objects in PyTorch.

    Attributes:
        model: in evaluation mode, on its device.
        mapper: of testing; its resizing and channel order are used.
        class_names: by class.
        category_ids: of the data set, by class; from 1 where it is not known.
        config: that it was loaded with.
        weights: file or address.
    """

    model: Any  # a ScopeNet or another detector
    mapper: DatasetMapper
    class_names: list[str]
    category_ids: list[int]
    config: Config
    weights: str

    @property
    def settings(self) -> CfgNode:
        """The config's keys, see :func:`~scopenet.config_file.settings_of`."""
        return settings_of(self.config)

    @property
    def trainer(self) -> type[Trainer]:
        """The trainer of the config, which knows how its data are read."""
        return trainer_for(self.config)

    def __call__(self, image: np.ndarray) -> dict[str, Any]:
        """Return the model's output for an image (H, W, 3), uint8 BGR, in px of it; raise an
        ImageError if resizing leaves nothing of its shorter side."""
        return self.detect([self.prepare(image)])[0]

    def prepare(self, image: np.ndarray) -> dict[str, Any]:
        """Resize an image and make it an input of the model; see :meth:`__call__`."""
        resized = AugInput(image)
        try:
            self.mapper.augmentations(resized)
        except ValueError as error:
            height, width = image.shape[:2]
            raise ImageError(f"An image of {width} x {height} px is too thin.") from error
        return self.as_input(resized.image, image.shape[:2])

    def as_input(self, image: np.ndarray, output_size: tuple[int, int]) -> dict[str, Any]:
        """Make an image as it is an input of the model, whose detections will be in px of an image
        of ``output_size``, its height and width."""
        ordered = image if self.mapper.image_format == "BGR" else image[:, :, ::-1]
        pixels = torch.from_numpy(ordered.astype("float32").transpose(2, 0, 1))
        return {"image": pixels, "height": output_size[0], "width": output_size[1]}

    @torch.no_grad()
    def detect(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the model's output for each of a batch of inputs."""
        return self.model(inputs)


def load_model(config: Config, weights: str, device: str | None = None) -> tuple[nn.Module, dict]:
    """Build the model of a config and load weights that leave no part of it as it was; raise a
    ConfigError if there is no model or they do not fit. Return with it what else the checkpoint
    holds."""
    with refused("The config makes no model"):  # a config of others may ask for anything
        settings = settings_of(config).clone()
        settings.defrost()
        settings.MODEL.DEVICE = device or settings.MODEL.DEVICE
        model = trainer_for(config).make_model(settings)
        if not isinstance(model, nn.Module):
            raise ConfigError(f"it makes a {type(model).__name__}")
    return model, StrictCheckpointer(model).load(weights)


def load_network(
    config: Config,
    weights: str = "",
    device: str | None = None,
    class_names: list[str] | None = None,
) -> Network:
    """Load a trained detector; raise a ConfigError if the config is wrong, or no weights fit it.

    Args:
        config: with ``TEST.AUG.ENABLED`` the detector uses test-time augmentation.
        weights: a file, or an address Detectron2 knows how to fetch; "" for those of the config.
        device: by default the config's.
        class_names: used where the checkpoint records none.
    """
    settings = settings_of(config)
    if isinstance(config, CfgNode):
        register_available(config)
    weights = weights or settings.MODEL.WEIGHTS
    if not weights:
        raise ConfigError("The config names no weights; give a checkpoint by --weights.")
    check_weights(weights)
    check_test_time_augmentation(settings)
    model, checkpoint = load_model(config, weights, device)
    model.eval()
    datasets = (*settings.DATASETS.TEST, *settings.DATASETS.TRAIN)
    recorded, count = checkpoint.get("class_names", class_names), getattr(model, "num_classes", 0)
    class_names, category_ids = _classes(recorded, datasets, count)
    mapper = trainer_for(config).test_mapper(settings)
    if settings.TEST.AUG.ENABLED:
        model = ScopeNetWithTTA(settings, model)
        mapper.augmentations = AugmentationList([])  # views are made of the image itself
    return Network(model, mapper, class_names, category_ids, config, weights)


def _classes(recorded: Any, datasets: tuple[str, ...], count: int) -> tuple[list[str], list[int]]:
    """Find names and ids of the classes: the names that the checkpoint has recorded, or those of
    the first data set that has as many classes as the model, or else numbers."""
    is_recorded = isinstance(recorded, list) and len(recorded) == count
    ids = list(range(1, count + 1))
    for metadata in map(_metadata, datasets):
        names = list(metadata.get("thing_classes", []))
        if len(names) == count and not (is_recorded and names != recorded):
            to_class = metadata.get("thing_dataset_id_to_contiguous_id", {})
            return names, sorted(to_class, key=to_class.get) or ids
    return [str(x) for x in (recorded if is_recorded else range(count))], ids


def _metadata(dataset: str) -> Metadata:
    """Return what is known of a data set, of which nothing need be there."""
    if dataset not in DatasetCatalog.list():
        return Metadata()
    metadata = MetadataCatalog.get(dataset)
    if "thing_classes" not in metadata.as_dict() and Path(metadata.get("json_file", "")).is_file():
        DatasetCatalog.get(dataset)  # fills in the class names of the json
    return metadata
