"""The trainer whose parts come from a LazyConfig.

The file has Detectron2's layout: ``model``, ``optimizer``, ``lr_multiplier``, ``dataloader`` and
``train``. Detectron2's own files work too.
"""

from detectron2.config import CfgNode, instantiate
from detectron2.data import build_detection_test_loader
from detectron2.evaluation import COCOEvaluator
from detectron2.solver import LRMultiplier
from detectron2.solver.build import maybe_add_gradient_clipping
from omegaconf import DictConfig

from ..config_file import Config, target_of
from .evaluator import CocoEvaluator
from .trainer import Trainer


def trainer_for(config: Config) -> type[Trainer]:
    """Return the trainer of a config of either kind; what it is given are the config's settings,
    see :func:`~scopenet.config_file.settings_of`."""
    if isinstance(config, CfgNode):
        return Trainer
    return type("LazyTrainer", (LazyTrainer,), {"lazy": config})


class LazyTrainer(Trainer):
    """A :class:`Trainer` that instantiates its parts instead of building them from YAML keys."""

    lazy: DictConfig

    @classmethod
    def source_config(cls, cfg):
        return cls.lazy

    @classmethod
    def make_model(cls, cfg):
        return instantiate(cls.lazy.model).to(cfg.MODEL.DEVICE)

    @classmethod
    def build_optimizer(cls, cfg, model):
        optimizer = cls.lazy.optimizer.copy()
        optimizer.params.model = model
        return maybe_add_gradient_clipping(cfg, instantiate(optimizer))

    @classmethod
    def build_lr_scheduler(cls, cfg, optimizer):
        return LRMultiplier(optimizer, instantiate(cls.lazy.lr_multiplier), cfg.SOLVER.MAX_ITER)

    @classmethod
    def train_data(cls, cfg):
        train = cls.lazy.dataloader.train
        return {
            "dataset": instantiate(train.dataset),
            "mapper": instantiate(train.mapper),
            "num_workers": train.num_workers,
        }

    @classmethod
    def test_mapper(cls, cfg, *, labelled=False):
        mapper = cls.lazy.dataloader.test.mapper.copy()
        if labelled:
            mapper.is_train = True  # keeps the boxes
        if cfg.INPUT.MIN_SIZE_TEST == 0:  # test-time augmentation resizes itself
            mapper.augmentations = []
        return instantiate(mapper)

    @classmethod
    def test_data(cls, cfg, dataset_name, *, labelled=False):
        test = cls.lazy.dataloader.test
        return {
            "dataset": instantiate(test.dataset),
            "mapper": cls.test_mapper(cfg, labelled=labelled),
            "num_workers": test.get("num_workers", 0),
        }

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        test = cls.lazy.dataloader.test
        # Detectron2's own stops at the first unreadable image; another one is the user's choice.
        is_usual = target_of(test) is build_detection_test_loader
        if is_usual and not {"sampler", "collate_fn"} & test.keys():
            return super().build_test_loader(cfg, dataset_name)
        return instantiate(test)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        lazy = cls.lazy.copy()
        lazy.train.output_dir = cfg.OUTPUT_DIR  # to which the evaluator's own may refer
        evaluator = lazy.dataloader.evaluator
        if target_of(evaluator) is not COCOEvaluator:
            return instantiate(evaluator)
        return CocoEvaluator(**{k: v for k, v in evaluator.items() if k != "_target_"})
