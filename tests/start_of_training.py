"""A program: get a training on a COCO json to where its first image would be read, by this project
or by Detectron2, and print what that took.

    python tests/start_of_training.py ours|detectron2 big.json

It prints seconds of CPU time, and the MiB that were taken beyond those of the imports: at most, and
at the end.
"""

import os
import resource
import sys
import tempfile
import time

from detectron2.data import (
    DatasetMapper,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.datasets import register_coco_instances

from scopenet.config_file import find_config, load_config
from scopenet.engine.command import parser, prepare

CONFIG = "OwnData-ScopeNet_R_50_FPN_GN.yaml"


def detectron2(json_file: str, images: str):
    """Keep the loader that Detectron2's own trainer would have."""
    register_coco_instances("made_up", {}, json_file, images)
    dicts = get_detection_dataset_dicts(["made_up"])
    mapper = DatasetMapper(load_config(CONFIG), is_train=True)
    return build_detection_train_loader(dicts, mapper=mapper, total_batch_size=16)


def ours(json_file: str, images: str):
    """Keep the loader of ``scopenet train`` with one worker, which looks at the flags twice."""
    flags = ["--config-file", find_config(CONFIG), "--train-json", json_file]
    args = parser().parse_args([*flags, "--train-images", images])
    prepare(args)
    trainer, cfg = prepare(args)
    return trainer.build_train_loader(cfg)


def now_and_most() -> tuple[int, int]:
    """Return the MiB that this process has now, and the most that it had."""
    with open("/proc/self/statm") as f:
        now = int(f.read().split()[1]) * resource.getpagesize() // 2**20
    return now, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    before, _ = now_and_most()
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        loader = {"ours": ours, "detectron2": detectron2}[sys.argv[1]](sys.argv[2], folder)
    seconds = time.process_time() - started
    now, most = now_and_most()
    memory = f"{most - before} MiB at most, {now - before} MiB at the end"
    print(f"{seconds:.1f} s, {memory}", flush=True)
    os._exit(0)  # freeing all of it takes seconds
