"""Trainings to be disturbed, in this process or in others, and what must be equal in the end."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.engine import SimpleTrainer
from losses import Losses, add_losses, read_losses
from miniature import TINY, mini_overrides
from tally import PERIOD

import scopenet
from scopenet.cli import run
from scopenet.engine.reliability.checkpoint_file import TAG, is_sound

ROOT = Path(scopenet.__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("disturbed.py")
CONFIG = "ScopeNet_R_50_FPN_1x.yaml"
FULL = os.environ.get("SCOPENET_ALL_FAULTS", "") not in ("", "0")
ITERATIONS = 14
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
# Running statistics, a warm-up and a step of the learning rate: all of it has to go on.
SETTINGS = [
    *("MODEL.RESNETS.NORM", "BN"),
    *("SOLVER.MAX_ITER", str(ITERATIONS)),
    *("SOLVER.CHECKPOINT_PERIOD", str(PERIOD)),
    *("SOLVER.WARMUP_ITERS", "5"),
    *("SOLVER.STEPS", "(9,)"),
    *("DATASETS.TEST", "()"),
]


class Training:
    """One on COCO's layout below ``datasets``, which may be started again and again.

    Attributes:
        folder: of its output; beside it are the file of its losses and the one of what it prints.
    """

    def __init__(self, datasets: Path, folder: Path, *overrides: str):
        self.datasets, self.folder = datasets, folder
        self.overrides = [*TINY, *SETTINGS, "OUTPUT_DIR", str(folder), *overrides]
        self.losses_file = folder.with_suffix(".losses")
        self.log_file = folder.with_suffix(".log")

    def start(self, *arguments: str, launcher=(), **faults) -> subprocess.Popen:
        """Leads a process group of its own; ``faults`` are variables of disturbed.py."""
        env = os.environ | {
            "DETECTRON2_DATASETS": str(self.datasets),
            "PYTHONPATH": str(ROOT),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "LOSSES": str(self.losses_file),
        }
        env |= {name: str(value) for name, value in faults.items()}
        command = [sys.executable, "-W", "ignore", *launcher, str(PROGRAM), *arguments]
        command += ["--config-file", str(ROOT / "configs" / CONFIG), *self.overrides]
        with open(self.log_file, "a") as log:
            return subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True, cwd=self.datasets
            )

    def run(self, *arguments: str, code: int = 0, launcher=(), **faults) -> None:
        self.finish(self.start(*arguments, launcher=launcher, **faults), code)

    def finish(self, process: subprocess.Popen, code: int = 0) -> None:
        assert process.wait(timeout=300) == code, self.log()[-3000:]

    def log(self) -> str:
        return self.log_file.read_text()

    def entries(self) -> list[tuple[int, Losses]]:
        """(iteration, losses) in the order in which they were computed."""
        return read_losses(self.losses_file)

    def iterations(self) -> list[int]:
        return [i for i, _ in self.entries()]


def train_here(
    folder: Path, *arguments: str, after: Callable[[int], None] = lambda i: None
) -> Training:
    """A training on the miniature data in this process.

    Args:
        after: called with the iteration when its losses are known.
    """
    training, write_metrics = Training(Path(), folder), SimpleTrainer.write_metrics

    def record(losses, data_time, cur_iter, prefix=""):
        write_metrics(losses, data_time, cur_iter, prefix)
        add_losses(training.losses_file, cur_iter, losses)
        after(cur_iter)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SimpleTrainer, "write_metrics", staticmethod(record))
        flags = [x for x in arguments if x.startswith("--")]
        overrides = [x for x in arguments if not x.startswith("--")]
        overrides = mini_overrides(folder, *SETTINGS, *overrides)
        run("train", ["--config-file", CONFIG, *flags, *overrides])
    return training


def assert_same(training: Training, undisturbed: Training, *, start: int = 0) -> None:
    """Every iteration, however often it was computed, and the end, bit for bit.

    Args:
        start: the first iteration that it has computed itself.
    """
    expected = dict(undisturbed.entries())
    assert expected.keys() == {*range(ITERATIONS)}
    assert {*training.iterations()} == {*range(start, ITERATIONS)}
    for iteration, losses in training.entries():
        assert losses == expected[iteration], iteration
    found, wanted = (final_state(x.folder) for x in (training, undisturbed))
    assert found.keys() == wanted.keys()
    different = [k for k in wanted if not _equal(found[k], wanted[k])]
    assert different == []


def final_state(folder: Path) -> dict:
    """Weights, momenta, schedule, random states, by dotted names."""
    loaded = torch.load(folder / "model_final.pth", weights_only=True)
    return dict(_leaves({k: loaded[k] for k in ("model", "trainer", "iteration")}))


def _leaves(node, prefix: str = ""):
    if isinstance(node, dict | list | tuple):
        for name, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(child, f"{prefix}.{name}")
    else:
        yield prefix, node


def _equal(a, b) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_tag_is_sound(folder: Path) -> None:
    """At any moment what ``last_checkpoint`` names is there and whole."""
    if (folder / TAG).exists():
        assert is_sound(folder / (folder / TAG).read_text())


def iteration_of(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["iteration"]
