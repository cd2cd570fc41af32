"""Weights & Biases and MLflow as writers of Detectron2's events: config, metrics, pictures, and
where the checkpoint is."""

import json
import logging
import os
import re
import time
import weakref
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage
from omegaconf import OmegaConf

from ..atomic import write_json
from ..config_file import leaves
from ..errors import ConfigError, import_extra
from ..training_metrics import read_metrics
from .reliability.checkpoint_file import list_checkpoints

RUNS = "trackers.json"  # below OUTPUT_DIR: tracker -> id of its run, with which a resume goes on


class Tracker(EventWriter):
    """Records a training. What its package raises turns it off, with one warning.

    A subclass has ``start(run_id, config)``, which goes on with a run or, without an id, makes one
    with this config (numbers and texts by dotted names), and returns its id; ``log(iteration,
    metrics, pictures)``, pictures being RGB (H, W, 3); and ``finish(checkpoint)`` with the path of
    the newest one, or "".
    """

    name = ""  # of the package, and of the extra that brings it
    environment: dict[str, str] = {}  # unless the user has set it: nothing leaves this machine

    def __init__(self, trainer: Any):
        """Raise a ConfigError if the package is missing; nothing is recorded yet."""
        for variable, value in self.environment.items():
            os.environ.setdefault(variable, value)
        self.package = import_extra(self.name, self.name)
        self.trainer, self.folder = weakref.proxy(trainer), Path(trainer.cfg.OUTPUT_DIR).resolve()
        self.run_id, self.failed = "", False
        self.last = -1  # iteration in the record

    def write(self) -> None:
        self._try(self._write)

    def close(self) -> None:
        if self.run_id:
            self._try(lambda: self.finish(str(*list_checkpoints(self.folder)[:1])))

    def _try(self, action: Callable[[], None]) -> None:
        if self.failed:
            return
        try:
            action()
        except Exception as error:
            self.failed = True
            logging.getLogger(__name__).warning(
                f"{self.name} gets nothing more of this training, which goes on; metrics.json has "
                f"all ({type(error).__name__}: {' '.join(str(error).split())[:300]})."
            )

    def _write(self) -> None:
        storage = get_event_storage()
        metrics: dict[int, dict] = defaultdict(dict)
        pictures: dict[int, dict] = defaultdict(dict)
        for name, (value, iteration) in storage.latest_with_smoothing_hint().items():
            metrics[iteration][name] = value
        for name, picture, iteration in storage._vis_data:
            pictures[iteration][name] = np.moveaxis(np.asarray(picture), 0, -1)
        self.run_id = self.run_id or self._start()
        for iteration in sorted(x for x in {*metrics, *pictures} if x > self.last):
            self.log(iteration, metrics[iteration], pictures[iteration])
            self.last = iteration

    def _start(self) -> str:
        """Start anew, or behind what there is of the run that this training continues."""
        path = self.folder / RUNS
        ids = json.loads(path.read_text()) if path.is_file() else {}
        run_id = ids.get(self.name) if self.trainer.start_iter else None
        if run_id:
            recorded = read_metrics(self.folder / "metrics.json").values()
            self.last = max((max(x) for x in recorded), default=-1)
        config: Any = self.trainer.source_config(self.trainer.cfg)
        config = config if isinstance(config, CfgNode) else OmegaConf.to_container(config)
        plain = {k: x if isinstance(x, int | float) else str(x) for k, x in leaves(config)}
        run_id = self.start(run_id, plain)
        write_json(path, ids | {self.name: run_id})
        return run_id


class WandbTracker(Tracker):
    name = "wandb"
    environment = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}

    def start(self, run_id: str | None, config: dict) -> str:
        options = {"dir": str(self.folder), "name": self.folder.name, "id": run_id}
        if run_id and os.environ["WANDB_MODE"] == "online":
            options["resume"] = "allow"  # offline, a run goes on when its parts are synced
        self.run = self.package.init(config=config, **options)
        return self.run.id

    def log(self, iteration: int, metrics: dict, pictures: dict) -> None:
        pictures = {name: self.package.Image(x) for name, x in pictures.items()}
        self.run.log(metrics | pictures, step=iteration, commit=True)  # else with the next one

    def finish(self, checkpoint: str) -> None:
        self.run.summary["checkpoint"] = checkpoint
        self.run.finish()


class MlflowTracker(Tracker):
    name = "mlflow"
    environment = {"MLFLOW_DISABLE_TELEMETRY": "true"}

    def start(self, run_id: str | None, config: dict) -> str:
        uri, files = os.environ.get("MLFLOW_TRACKING_URI"), None
        if not uri:
            uri, files = f"sqlite:///{self.folder}/mlflow.db", (self.folder / "mlflow").as_uri()
        self.client = client = self.package.MlflowClient(uri)
        if run_id:
            client.update_run(run_id, status="RUNNING")
            return run_id
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "ScopeNet")
        found = client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else client.create_experiment(name, files)
        run_id = client.create_run(experiment, run_name=self.folder.name).info.run_id
        params = [self.package.entities.Param(k, str(x)[:6000]) for k, x in config.items()]
        for i in range(0, len(params), 100):  # what it takes at once
            client.log_batch(run_id, params=params[i : i + 100])
        return run_id

    def log(self, iteration: int, metrics: dict, pictures: dict) -> None:
        # A class or a file may have another name than MLflow knows.
        known, now = partial(re.sub, r"[^A-Za-z0-9_\-. /]", "_"), round(1000 * time.time())
        make = self.package.entities.Metric
        entries = [make(known(k), x, now, iteration) for k, x in metrics.items()]
        self.client.log_batch(self.run_id, metrics=entries)
        for name, x in pictures.items():
            self.client.log_image(self.run_id, x, key=known(name), step=iteration)

    def finish(self, checkpoint: str) -> None:
        self.client.set_tag(self.run_id, "checkpoint", checkpoint)
        self.client.set_terminated(self.run_id)


TRACKERS = {x.name: x for x in (WandbTracker, MlflowTracker)}


def build_trackers(trainer: Any) -> list[Tracker]:
    """Make the writers that ``TRACKERS`` names; raise a ConfigError for one that is not known.

    They come before Detectron2's: metrics.json then says what is in the record of a run that is
    resumed, and the TensorBoard writer throws pictures away.
    """
    names = trainer.cfg.TRACKERS
    if unknown := [x for x in names if x not in TRACKERS]:
        raise ConfigError(f"TRACKERS has {unknown[0]}, but only {' and '.join(TRACKERS)} exist.")
    return [TRACKERS[name](trainer) for name in names]
