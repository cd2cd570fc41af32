"""The trainer: Detectron2's ``DefaultTrainer``, also on CPUs, with runs that can be continued."""

import logging
import os
import weakref
from contextlib import suppress
from functools import partial

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.detection_utils import build_augmentation
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model
from detectron2.engine.hooks import EvalHook, HookBase
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from ..config_file import Config, to_yaml
from ..data.augmentation import train_mapper
from ..data.labels import uncollected
from ..data.loader import GROUP_SIZE, build_train_loader, build_validation_loader
from ..data.unusable import drop_unusable_boxes, report_empty
from ..errors import ConfigError
from ..modeling.test_time_augmentation import ScopeNetWithTTA
from .averaging import WeightAverage
from .checkpoint import SafeCheckpointer
from .environment import commit, hardware, versions
from .evaluator import CocoEvaluator
from .freezing import freeze
from .precision import build_step_trainer
from .reliability.interruption import StopOnSignal
from .reliability.non_finite import NonFiniteGuard, StepSkipped
from .reliability.random_states import kept_rng_states, restore_rng_states, rng_states
from .trackers import build_trackers
from .validation import insert_validation


class StoppedEarly(BaseException):
    """Leaves the loop of iterations; no ``Exception``, as nothing failed."""


class Trainer(DefaultTrainer):
    """Trains as ``DefaultTrainer`` does, also on CPUs, with batches that depend on (seed,
    iteration) only, and checkpoints of tensors and plain types."""

    def __init__(self, cfg: CfgNode):
        # DefaultTrainer's own constructor wraps the model for CUDA devices only.
        TrainerBase.__init__(self)
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size()).clone()
        if cfg.SEED < 0:
            cfg.defrost()
            cfg.SEED = comm.shared_random_seed()
        self.trained = model = self.build_model(cfg)
        freeze(model, cfg.MODEL.FREEZE)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        devices = {"device_ids": None} if cfg.MODEL.DEVICE == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **devices)
        # A copy of what all workers have agreed on, and without the hooks of training.
        ema = cfg.SOLVER.EMA
        self.average = WeightAverage(self.trained, ema.DECAY) if ema.ENABLED else None
        self._trainer = build_step_trainer(cfg, model, data_loader, optimizer)
        guard = NonFiniteGuard(
            cfg.OUTPUT_DIR, cfg.SOLVER.MAX_SKIPPED_ITERATIONS, cfg.SOLVER.IMS_PER_BATCH
        )
        guard.watch(model)
        self._trainer.register_hooks([guard])
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SafeCheckpointer(
            self.model, cfg.OUTPUT_DIR, extra=self.describe(cfg), trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks([*self.build_hooks(), StopOnSignal(self.checkpointer)])

    @property
    def model(self) -> nn.Module:
        """The model that is evaluated and saved: the one that is trained or, with
        ``SOLVER.EMA.ENABLED``, the average of its weights."""
        return self._trainer.model if self.average is None else self.average.module

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model; raise a ConfigError if a value is out of its range."""
        try:
            return cls.make_model(cfg)
        except ValueError as error:
            raise ConfigError(f"The config makes no model: {str(error).rstrip('.')}.") from error
        except KeyError as error:
            raise ConfigError(f"The config makes no model: there is no {error} here.") from error

    @classmethod
    def make_model(cls, cfg: CfgNode) -> nn.Module:
        """Build the model as ``DefaultTrainer`` does."""
        return super().build_model(cfg)

    @classmethod
    def source_config(cls, cfg: CfgNode) -> Config:
        """Return the config that the user gave, to be recorded."""
        return cfg

    @classmethod
    def describe(cls, cfg: CfgNode) -> dict:
        """Say what a checkpoint tells of its model: the config as YAML, the class names, and what
        it was trained on."""
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        return {
            "config": to_yaml(cls.source_config(cfg)),
            "class_names": list(metadata.get("thing_classes", [])),
            "hardware": hardware(cfg.MODEL.DEVICE),
            "versions": versions(),
            "commit": commit(),
        }

    @classmethod
    def train_data(cls, cfg: CfgNode) -> dict:
        """Return "dataset", "mapper" and "num_workers" of the training loader."""
        filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=filter_empty)
        if not filter_empty:
            report_empty(dicts)
        return {
            "dataset": dicts,
            "mapper": train_mapper(cfg),
            "num_workers": cfg.DATALOADER.NUM_WORKERS,
        }

    @classmethod
    def test_mapper(cls, cfg: CfgNode, *, labelled: bool = False) -> DatasetMapper:
        """Map images as in testing; with ``labelled``, keep the boxes as "instances"."""
        options = {"augmentations": build_augmentation(cfg, is_train=False)}
        return DatasetMapper(cfg, is_train=labelled, use_instance_mask=False, **options)

    @classmethod
    def test_data(cls, cfg: CfgNode, dataset_name: str, *, labelled: bool = False) -> dict:
        """Return "dataset", "mapper" and "num_workers" of the loader of a test set."""
        return {
            "dataset": get_detection_dataset_dicts(dataset_name, filter_empty=False),
            "mapper": cls.test_mapper(cfg, labelled=labelled),
            "num_workers": cfg.DATALOADER.NUM_WORKERS,
        }

    @classmethod
    @uncollected()
    def build_train_loader(cls, cfg: CfgNode):
        """See :func:`~scopenet.data.loader.build_train_loader`; a group is what a worker of
        ``SOLVER.REFERENCE_WORLD_SIZE`` has of a batch, if that is given."""
        batch_size, workers = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
        return build_train_loader(
            **cls.train_data(cfg),
            total_batch_size=batch_size,
            group_size=batch_size // workers if workers else GROUP_SIZE,
            seed=cfg.SEED,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
            repeat_threshold=cls.repeat_threshold(cfg),
            repeat_sqrt=cfg.DATALOADER.REPEAT_SQRT,
        )

    @classmethod
    def repeat_threshold(cls, cfg: CfgNode) -> float:
        """Return ``DATALOADER.REPEAT_THRESHOLD`` where ``SAMPLER_TRAIN`` uses it, else 0; raise a
        ConfigError for a sampler that is not known here, or a threshold that repeats nothing."""
        sampler, threshold = cfg.DATALOADER.SAMPLER_TRAIN, cfg.DATALOADER.REPEAT_THRESHOLD
        if sampler == "TrainingSampler":
            return 0.0
        if sampler != "RepeatFactorTrainingSampler":
            raise ConfigError(
                f"DATALOADER.SAMPLER_TRAIN is {sampler}, but only TrainingSampler and "
                "RepeatFactorTrainingSampler can be resumed; remove the key."
            )
        if not 0 < threshold <= 1:
            raise ConfigError(
                f"RepeatFactorTrainingSampler with DATALOADER.REPEAT_THRESHOLD {threshold:g} "
                "makes no sense; images of classes that are in a smaller part of all images than "
                "that come more often, for instance 0.3."
            )
        return threshold

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str):
        """See :func:`~scopenet.data.loader.build_validation_loader`."""
        return build_validation_loader(
            **cls.test_data(cfg, dataset_name),
            max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        )

    @classmethod
    def build_labelled_loader(cls, cfg: CfgNode):
        """Load the first test set as in evaluation, but in training's batches and with boxes."""
        data = cls.test_data(cfg, cfg.DATASETS.TEST[0], labelled=True)
        return build_validation_loader(
            **data | {"dataset": drop_unusable_boxes(data["dataset"])},
            batch_size=max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()),
            max_unreadable=cfg.DATALOADER.MAX_UNREADABLE_IMAGES,
        )

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> CocoEvaluator:
        return CocoEvaluator(dataset_name, output_dir=os.path.join(cfg.OUTPUT_DIR, "inference"))

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, evaluators=None) -> dict[str, dict]:
        """Evaluate as ``DefaultTrainer`` does, without a trace in the random states."""
        with kept_rng_states():
            return super().test(cfg, model, evaluators)

    @classmethod
    def test_with_TTA(cls, cfg: CfgNode, model: nn.Module) -> dict[str, dict]:
        """Evaluate with :class:`~scopenet.modeling.ScopeNetWithTTA`; the metrics are those of
        ``test``, their kinds renamed, e.g. "bbox" to "bbox_TTA"."""
        model = ScopeNetWithTTA(cfg, model)
        cfg = cfg.clone()
        cfg.defrost()
        cfg.INPUT.MIN_SIZE_TEST = 0  # not resized: every view is made of the image itself
        cfg.OUTPUT_DIR = os.path.join(cfg.OUTPUT_DIR, "TTA")
        return {f"{kind}_TTA": results for kind, results in cls.test(cfg, model).items()}

    def build_hooks(self) -> list[HookBase | None]:
        """Add to the hooks of ``DefaultTrainer`` those of :mod:`.validation`, and the evaluation
        with test-time augmentation, once at the end and before what writes the metrics."""
        hooks = insert_validation(
            super().build_hooks(),
            period=self.cfg.TEST.EVAL_PERIOD,
            names=self.cfg.DATASETS.TEST,
            loader=partial(self.build_labelled_loader, self.cfg),
            checkpointer=self.checkpointer,
            patience=self.cfg.TEST.EARLY_STOPPING,
        )
        if self.cfg.TEST.AUG.ENABLED:

            def test_with_TTA():
                results = self.test_with_TTA(self.cfg, self.model)
                self._last_eval_results |= results  # what `DefaultTrainer.train` verifies
                return results

            plain = next(i for i, hook in enumerate(hooks) if isinstance(hook, EvalHook))
            hooks.insert(plain + 1, EvalHook(0, test_with_TTA))
        return hooks

    def build_writers(self) -> list[EventWriter]:
        return [*build_trackers(self), *super().build_writers()]

    def resume_or_load(self, resume: bool = True) -> None:
        super().resume_or_load(resume)
        if self.average is not None and self.average.n_averaged == 0:
            # What was loaded is in the average, which starts with it.
            self.trained.load_state_dict(self.average.module.state_dict())
        self.data_loader.batch_sampler.start_iter = self.start_iter
        if self.start_iter >= self.max_iter:
            logging.getLogger(__name__).warning(
                f"This training has had its {self.max_iter} iterations, it is only evaluated; to "
                "go on, raise SOLVER.MAX_ITER (LazyConfig: train.max_iter)."
            )

    @property
    def last_results(self) -> dict | None:
        """The results of the last evaluation, if there was one."""
        return getattr(self, "_last_eval_results", None)

    def train(self) -> None:
        """Train as ``DefaultTrainer`` does, or until a hook has lowered ``max_iter``."""
        with suppress(StoppedEarly):
            super().train()

    def before_step(self) -> None:
        if self.iter >= self.max_iter:
            raise StoppedEarly
        super().before_step()

    def run_step(self) -> None:
        with suppress(StepSkipped):
            super().run_step()
            if self.average is not None:
                self.average.update_parameters(self.trained)

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.average is not None:
            state["training_weights"] = self.trained.state_dict()
            state["averaged_iterations"] = int(self.average.n_averaged)
        return state | {"seed": self.data_loader.batch_sampler.seed, "rng": rng_states()}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        if "training_weights" in state_dict:  # also where the average is no longer wanted
            self.trained.load_state_dict(state_dict["training_weights"])
            if self.average is not None:
                self.average.n_averaged.fill_(state_dict["averaged_iterations"])
        if "seed" not in state_dict:
            logging.getLogger(__name__).warning(
                "The checkpoint is of Detectron2's own trainer, which keeps no random states: this "
                "training goes on with other images and random numbers than its own would have."
            )
            return
        self.data_loader.batch_sampler.seed = state_dict["seed"]
        restore_rng_states(state_dict["rng"])
