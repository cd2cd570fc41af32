"""The detector to be looked at: its config, its weights and how it wants its images."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from detectron2.config import instantiate
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import build_augmentation
from omegaconf import DictConfig
from torch import nn

from ..config_file import ConfigError, find_config
from ..engine.checkpoint import StrictCheckpointer
from ..engine.main import read_job


@dataclass(frozen=True)
class Detector:
    """A model with its weights, on its device and in evaluation mode.

    Attributes:
        name: short, for legends.
        config_file, weights: as the user gave them.
        architecture: Detectron2's name of the meta architecture.
        dataset_name: what it is to be run on.
        mapper: from a dataset dict to the model's input with ``instances``, resized as in testing.
        num_workers: loader processes.
    """

    name: str
    config_file: str
    weights: str
    architecture: str
    dataset_name: str
    model: nn.Module
    mapper: DatasetMapper
    num_workers: int


def _job_arguments(
    config_file: str, weights: str, dataset_name: str, overrides: list[str]
) -> argparse.Namespace:
    """The arguments with which train_net.py would evaluate these weights."""
    if config_file.endswith(".py"):
        more = [f"train.init_checkpoint='{weights}'"]
        more += [f"dataloader.test.dataset.names={dataset_name}"] * bool(dataset_name)
    else:
        more = ["MODEL.WEIGHTS", weights]
        more += ["DATASETS.TEST", f"('{dataset_name}',)"] if dataset_name else []
    return argparse.Namespace(
        config_file=find_config(config_file), opts=overrides + more, eval_only=True, resume=False
    )


def _labelled_mapper(source: DictConfig | object) -> tuple[DatasetMapper, int]:
    """The test mapper of a config, but with annotations, and the number of loader processes."""
    if isinstance(source, DictConfig):
        mapper = source.dataloader.test.mapper.copy()
        mapper.is_train = True
        return instantiate(mapper), source.dataloader.test.num_workers
    augmentations = build_augmentation(source, is_train=False)
    mapper = DatasetMapper(
        source, is_train=True, augmentations=augmentations, use_instance_mask=False
    )
    return mapper, source.DATALOADER.NUM_WORKERS


def load_detector(
    config_file: str,
    weights: str,
    *,
    name: str = "",
    dataset_name: str = "",
    overrides: list[str] | None = None,
) -> Detector:
    """
    Args:
        config_file: YAML or LazyConfig, here or below the project's configs.
        weights: a file, or an address Detectron2 knows how to fetch.
        name: short, for legends; by default that of the config file.
        dataset_name: by default the config's test set.
        overrides: as train_net.py takes them: KEY VALUE, of a LazyConfig path.key=value.

    Raises:
        ConfigError: the config is wrong, or the weights do not fit it, or the data set is not one.
    """
    if "://" not in weights and not Path(weights).is_file():
        raise ConfigError(f"The weights {weights} do not exist.")
    args = _job_arguments(config_file, weights, dataset_name, list(overrides or []))
    trainer_class, cfg = read_job(args)
    if len(cfg.DATASETS.TEST) != 1:
        raise ConfigError(
            f"{config_file} has {len(cfg.DATASETS.TEST)} test sets; choose one with --dataset."
        )
    model = trainer_class.build_model(cfg).eval()
    StrictCheckpointer(model).load(weights)
    mapper, num_workers = _labelled_mapper(trainer_class.source_config(cfg))
    return Detector(
        name=name or Path(config_file).stem,
        config_file=config_file,
        weights=weights,
        architecture=type(model).__name__,
        dataset_name=cfg.DATASETS.TEST[0],
        model=model,
        mapper=mapper,
        num_workers=num_workers,
    )
