"""train_net.py with faults, which environment variables ask for.

LOSSES: a file to which the exact losses of every iteration are added, as a line of JSON.
KILL: when the process gets SIGKILL: "seconds:1.5" after its imports, "iteration:6" when its losses
    are known, "event:7" before the seventh time that a file is synced or moved into place,
    "byte:1000000" of the checkpoints that it writes.
KILL_RANK: the worker that KILL is for, in the first start of torchrun only.
KILL_SIGNAL: what it gets instead of SIGKILL, e.g. SIGTERM.
FILE_BYTES: no file can become larger, as on a full disk.
"""

import os
import resource
import signal
import sys
import threading
from collections import Counter

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from losses import add_losses

from scopenet.cli import run

KIND, _, MOMENT = os.environ.get("KILL", "").partition(":")
counts = Counter()
write_metrics, save = SimpleTrainer.write_metrics, torch.save


def kill() -> None:
    is_restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    if comm.get_rank() == int(os.environ.get("KILL_RANK", "0")) and not is_restarted:
        os.kill(os.getpid(), signal.Signals[os.environ.get("KILL_SIGNAL", "SIGKILL")])


def count(kind: str, number: int = 1) -> None:
    counts[kind] += number
    if kind == KIND and counts[kind] >= int(MOMENT):
        kill()


def record(losses, data_time, cur_iter, prefix=""):
    write_metrics(losses, data_time, cur_iter, prefix)
    if comm.is_main_process():
        add_losses(os.environ["LOSSES"], cur_iter, losses)
    if KIND == "iteration" and cur_iter == int(MOMENT):
        kill()


def counted(function):
    def called(*args, **kwargs):
        count("event")
        return function(*args, **kwargs)

    return called


class CountedFile:
    """Every byte gets to the disk before the next one."""

    def __init__(self, f):
        self.f = f

    def __getattr__(self, name: str):
        return getattr(self.f, name)

    def write(self, content) -> int:
        written = self.f.write(content)
        self.f.flush()
        count("byte", len(content))
        return written


SimpleTrainer.write_metrics = staticmethod(record)
os.fsync, os.replace = counted(os.fsync), counted(os.replace)
if KIND == "byte":
    torch.save = lambda data, f: save(data, CountedFile(f))
if "FILE_BYTES" in os.environ:
    size = int(os.environ["FILE_BYTES"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

if __name__ == "__main__":
    if KIND == "seconds":
        threading.Timer(float(MOMENT), kill).start()
    sys.exit(run("train"))
