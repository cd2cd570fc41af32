"""What one run does, in a process of its own: train what is missing, evaluate, add the row."""

import json
import math
import multiprocessing
import os
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm

from scopenet.atomic import write_json
from scopenet.engine.checkpoint import SafeCheckpointer
from scopenet.engine.environment import commit, hardware, peak_memory, versions
from scopenet.engine.launch import launch
from scopenet.training_metrics import read_metrics

from .bin_ious import bin_ious
from .job import Job, resolve
from .results import KEY, METRICS, MORE_METRICS, Results

FINISHED = "training.json"  # written when a training is complete
WEIGHTS = "model_final.pth"
CONSOLE = "console.log"


def training_seconds(folder: Path) -> float:
    """Sum up the time spent in iterations, each counted once whatever interruptions there were; NaN
    for a few iterations, of which Detectron2 takes no time."""
    times = read_metrics(folder / "metrics.json").get("time", {})  # means since the line before
    if not times:
        return math.nan
    return sum((end - start) * times[end] for start, end in pairwise([-1, *times]))


def train(job: Job, folder: Path) -> None:
    """Go on from the last checkpoint in ``folder``, if any, to the end of the schedule."""
    trainer_class, cfg, _ = resolve(job)
    cfg.OUTPUT_DIR, cfg.TEST.EVAL_PERIOD = str(folder), job.eval_period
    if not job.eval_period:
        cfg.DATASETS.TEST = ()
    default_setup(cfg, SimpleNamespace(config_file="", eval_only=False))
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=True)
    trainer.train()
    if comm.is_main_process():
        facts = {
            "seconds": training_seconds(folder),
            "peak_memory_mb": peak_memory(cfg.MODEL.DEVICE) / 2**20,
            "commit": commit(),
            "hardware": hardware(cfg.MODEL.DEVICE),
            "versions": versions(),
        }
        write_json(folder / FINISHED, facts)
        for checkpoint in folder.glob("model_[0-9]*.pth"):
            checkpoint.unlink()


def evaluate(job: Job, folder: Path) -> dict:
    """Return the key and the metrics of the job's row; metrics in the main process only."""
    trainer_class, cfg, _ = resolve(job)
    cfg.OUTPUT_DIR = str(folder / "evaluation" / job.name)
    model = trainer_class.build_model(cfg)
    SafeCheckpointer(model).load(str(folder / WEIGHTS))
    metrics = trainer_class.test(cfg, model).get("bbox", {})
    row = {name: metrics.get(name) for name in (*METRICS, *MORE_METRICS)}
    classes = {k.removeprefix("AP-"): x for k, x in metrics.items() if k.startswith("AP-")}
    row["class_APs"] = "; ".join(f"{name} {x:.1f}" for name, x in classes.items())
    return row_key(job, cfg) | row | bin_ious(model, trainer_class.build_labelled_loader(cfg))


def row_key(job: Job, cfg: CfgNode) -> dict:
    """Return the values of :data:`~experiments.results.KEY`; ``cfg`` is the job's."""
    solver = cfg.SOLVER
    schedule = solver.MAX_ITER, solver.BASE_LR, solver.WARMUP_ITERS
    values = job.name, job.dataset, job.seed, *schedule
    return dict(zip(KEY, values, strict=True))


def work(args: SimpleNamespace) -> None:
    """Do a worker process's part of a run."""
    job, folder = args.job, args.folder
    if not (folder / FINISHED).exists():
        train(job, folder)
    comm.synchronize()
    row = evaluate(job, folder)
    if comm.is_main_process():
        facts = json.loads((folder / FINISHED).read_text())
        Results(args.results).add(row | facts | {"training": folder.parent.name})


def run_in_process(job: Job, folder: Path, results: Path, num_gpus: int) -> None:
    """Do a run as the target of a process: write what it says to :data:`CONSOLE` in ``folder``, and
    end when the parent does."""
    console = open(folder / CONSOLE, "a", buffering=1)  # open as long as the process lives
    os.dup2(console.fileno(), 1)
    os.dup2(console.fileno(), 2)
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()
    settings = dict(num_gpus=num_gpus, num_machines=1, machine_rank=0, dist_url="auto")
    args = SimpleNamespace(job=job, folder=folder, results=results, **settings)
    launch(work, args, resolve(job)[1].MODEL.DEVICE)
