"""What a run ran on, for its record."""

import platform
import resource
import subprocess
import sys
from pathlib import Path

import torch
from detectron2 import __version__ as D2_VERSION
from detectron2.utils import comm

from .. import __version__


def commit() -> str:
    """Name the commit of the clone this runs from, or else the package's version: without git, and
    where it lies in somebody else's repository."""
    file = Path(__file__).resolve()
    git = ["git", "-C", str(file.parent)]
    tracked = [*git, "ls-files", "--error-unmatch", file.name]
    describe = [*git, "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = [subprocess.run(x, capture_output=True, text=True) for x in (tracked, describe)]
    except OSError:
        return f"v{__version__}"
    return f"v{__version__}" if any(x.returncode for x in done) else done[1].stdout.strip()


def hardware(device: str) -> str:
    """Name what workers on this ``MODEL.DEVICE`` run on, and how much of it."""
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{comm.get_world_size()} x {torch.cuda.get_device_name()}"
    cpuinfo = Path("/proc/cpuinfo")
    names = cpuinfo.read_text().split("model name\t: ")[1:] if cpuinfo.exists() else []
    name = names[0].splitlines()[0] if names else platform.machine()
    return f"{comm.get_world_size() * torch.get_num_threads()} threads of {name}"


def versions() -> str:
    return f"Python {platform.python_version()}, torch {torch.__version__}, detectron2 {D2_VERSION}"


def peak_memory(device: str) -> int:
    """Return the most memory that this process has had at once, in bytes: of its GPU if this is its
    ``MODEL.DEVICE``, or else of the machine."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
