"""The trainer: Detectron2's ``DefaultTrainer``, also on CPUs, with runs that can be continued."""

import logging
import os
import tempfile
import time
import weakref
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from detectron2.config import CfgNode, LazyConfig
from detectron2.data import DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.detection_utils import build_augmentation
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    SimpleTrainer,
    TrainerBase,
    create_ddp_model,
)
from detectron2.engine.hooks import EvalHook, HookBase
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils import comm
from omegaconf import DictConfig
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..config_file import ConfigError
from ..data.loader import build_train_loader, build_validation_loader
from ..data.usable_boxes import drop_unusable_boxes
from ..modeling.test_time_augmentation import ScopeNetWithTTA
from .checkpoint import SafeCheckpointer, kept_rng_states, restore_rng_states, rng_states
from .environment import commit, hardware, versions
from .evaluator import CocoEvaluator
from .interruption import StopOnSignal
from .non_finite import NonFiniteGuard, StepSkipped
from .validation import insert_validation


class CPUAutocastTrainer(SimpleTrainer):
    """``SimpleTrainer`` with a bfloat16 forward pass on the CPU; needs no loss scaling.

    The outputs of a dense detector's head become float32 again, so that the losses of Detectron2's
    own detectors are computed in float32, as those of ScopeNet are.
    """

    def __init__(self, model, data_loader, optimizer):
        super().__init__(model, data_loader, optimizer)
        detector = model.module if isinstance(model, DistributedDataParallel) else model
        if isinstance(detector, DenseDetector):
            detector.head.register_forward_hook(
                lambda head, inputs, outputs: [[x.float() for x in maps] for maps in outputs]
            )

    def run_step(self) -> None:
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with torch.autocast("cpu", torch.bfloat16):
            losses = self.model(data)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        self.optimizer.step()


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 itself; others would only emulate it."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, check, lambda: False)() for check in checks)


def build_step_trainer(cfg: CfgNode, model, data_loader, optimizer) -> SimpleTrainer:
    """What runs one iteration, in the precision that ``cfg.SOLVER.AMP`` asks for.

    Raises:
        ConfigError: an unknown ``SOLVER.AMP.PRECISION``.
    """
    precisions = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    if cfg.SOLVER.AMP.PRECISION not in precisions:
        raise ConfigError(
            f'SOLVER.AMP.PRECISION is "{cfg.SOLVER.AMP.PRECISION}"; use one of {[*precisions]}.'
        )
    if not cfg.SOLVER.AMP.ENABLED:
        return SimpleTrainer(model, data_loader, optimizer)
    if cfg.MODEL.DEVICE == "cpu":
        if cpu_has_bfloat16():
            return CPUAutocastTrainer(model, data_loader, optimizer)
        logging.getLogger(__name__).info("No bfloat16 in this processor: training in float32.")
        return SimpleTrainer(model, data_loader, optimizer)
    precision = precisions[cfg.SOLVER.AMP.PRECISION]
    return AMPTrainer(model, data_loader, optimizer, precision=precision)


def to_yaml(cfg: CfgNode | DictConfig) -> str:
    """A config as Detectron2 writes it to a file."""
    if isinstance(cfg, CfgNode):
        return cfg.dump()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        LazyConfig.save(cfg, str(path))
        return path.read_text()


class Trainer(DefaultTrainer):
    """``DefaultTrainer`` with a CPU path, batches that depend on (seed, iteration) only, and
    checkpoints of tensors and plain types."""

    def __init__(self, cfg: CfgNode):
        # DefaultTrainer's own constructor wraps the model for CUDA devices only.
        TrainerBase.__init__(self)
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size()).clone()
        if cfg.SEED < 0:
            cfg.defrost()
            cfg.SEED = comm.shared_random_seed()
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        devices = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **devices)
        self._trainer = build_step_trainer(cfg, model, data_loader, optimizer)
        guard = NonFiniteGuard(
            cfg.OUTPUT_DIR, cfg.SOLVER.MAX_SKIPPED_ITERATIONS, cfg.SOLVER.IMS_PER_BATCH
        )
        guard.watch(model)
        self._trainer.register_hooks([guard])
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SafeCheckpointer(
            model, cfg.OUTPUT_DIR, extra=self.describe(cfg), trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks([*self.build_hooks(), StopOnSignal(self.checkpointer)])

    @classmethod
    def source_config(cls, cfg: CfgNode) -> CfgNode | DictConfig:
        """The config that the user gave, to be recorded."""
        return cfg

    @classmethod
    def describe(cls, cfg: CfgNode) -> dict:
        """What a checkpoint says of its model: the config as YAML, the class names, and what it
        was trained on."""
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        return {
            "config": to_yaml(cls.source_config(cfg)),
            "class_names": list(metadata.get("thing_classes", [])),
            "hardware": hardware(),
            "versions": versions(),
            "commit": commit(),
        }

    @classmethod
    def build_train_loader(cls, cfg: CfgNode):
        """See :func:`~scopenet.data.loader.build_train_loader`.

        Raises:
            ConfigError: another sampler than Detectron2's default is asked for.
        """
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            raise ConfigError(
                f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN}, but only "
                "TrainingSampler can be resumed; remove the key."
            )
        return build_train_loader(
            get_detection_dataset_dicts(
                cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
            ),
            mapper=DatasetMapper(cfg, is_train=True),
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            seed=cfg.SEED,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        )

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        """See :func:`~scopenet.data.loader.build_validation_loader`."""
        return build_validation_loader(
            get_detection_dataset_dicts(dataset_name, filter_empty=False),
            mapper=DatasetMapper(cfg, is_train=False),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        )

    @classmethod
    def build_labelled_loader(cls, cfg: CfgNode):
        """The first test set as in evaluation, but in training's batches and with its boxes."""
        augmentations = build_augmentation(cfg, is_train=False)
        return build_validation_loader(
            drop_unusable_boxes(
                get_detection_dataset_dicts(cfg.DATASETS.TEST[0], filter_empty=False)
            ),
            mapper=DatasetMapper(cfg, is_train=True, augmentations=augmentations),
            batch_size=max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        )

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> CocoEvaluator:
        return CocoEvaluator(dataset_name, output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict[str, dict]:
        """As ``DefaultTrainer`` does, without a trace in the random states."""
        with kept_rng_states():
            return super().test(cfg, model, evaluators)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, dict]:
        """Evaluate with test-time augmentation, see :class:`~scopenet.modeling.ScopeNetWithTTA`.

        Returns:
            the metrics of ``test``, their kinds renamed, e.g. "bbox" to "bbox_TTA".
        """
        model = ScopeNetWithTTA(cfg, model)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.INPUT.MIN_SIZE_TEST = 0  # not resized: every view is made of the image itself
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "TTA")
        return {f"{kind}_TTA": results for kind, results in cls.test(cfg, model).items()}

    def build_hooks(self) -> list[HookBase | None]:
        """Those of ``DefaultTrainer``, those of :mod:`.validation`, and the evaluation with
        test-time augmentation, once at the end and before what writes the metrics."""
        hooks = insert_validation(
            super().build_hooks(),
            period=self.cfg.TEST.EVAL_PERIOD,
            names=self.cfg.DATASETS.TEST,
            loader=partial(self.build_labelled_loader, self.cfg),
            checkpointer=self.checkpointer,
        )
        if self.cfg.TEST.AUG.ENABLED:

            def test_with_TTA():
                results = self.test_with_TTA(self.cfg, self.model)
                self._last_eval_results |= results
                return results

            (plain,) = (i for i, hook in enumerate(hooks) if isinstance(hook, EvalHook))
            hooks.insert(plain + 1, EvalHook(0, test_with_TTA))
        return hooks

    def resume_or_load(self, resume: bool = True) -> None:
        super().resume_or_load(resume)
        self.data_loader.batch_sampler.start_iter = self.start_iter
        if self.start_iter >= self.max_iter:
            logging.getLogger(__name__).warning(
                f"This training has had its {self.max_iter} iterations, it is only evaluated; to "
                "go on, raise SOLVER.MAX_ITER (LazyConfig: train.max_iter)."
            )

    def run_step(self) -> None:
        with suppress(StepSkipped):
            super().run_step()

    def state_dict(self) -> dict:
        state = super().state_dict()
        return state | {"seed": self.data_loader.batch_sampler.seed, "rng": rng_states()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.data_loader.batch_sampler.seed = state_dict["seed"]
        restore_rng_states(state_dict["rng"])
