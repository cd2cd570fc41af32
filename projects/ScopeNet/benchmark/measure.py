"""Measure time by laps and peak memory of calls; several of them in turns, so that all meet the
same machine."""

import gc
import json
import os
import time
from collections.abc import Callable
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile

# The profiler would otherwise complain of every machine without a GPU.
os.environ.setdefault("KINETO_LOG_LEVEL", "99")


class Laps:
    """A clock that starts when it is made; on a GPU it reads CUDA events, not the host's time."""

    def __init__(self, device: torch.device):
        self.device = device
        self.names: list[str] = []
        self.times = [self._now()]

    def _now(self):
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def mark(self, name: str) -> None:
        """End a lap here."""
        self.names.append(name)
        self.times.append(self._now())

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each lap, in order."""
        if self.device.type != "cuda":
            laps = [end - start for start, end in zip(self.times, self.times[1:], strict=False)]
        else:
            torch.cuda.synchronize(self.device)
            pairs = zip(self.times, self.times[1:], strict=False)
            laps = [start.elapsed_time(end) / 1000 for start, end in pairs]
        return dict(zip(self.names, laps, strict=True))


class Work(NamedTuple):
    """Something to be measured."""

    run: Callable[..., None]  # takes Laps, and marks its parts, then what `prepare` returns
    prepare: Callable[[], tuple] = tuple  # makes arguments that `run` spoils; not measured


def time_once(work: Work, device: torch.device) -> dict[str, float]:
    """Return the seconds of each lap of one call."""
    arguments = work.prepare()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    laps = Laps(device)
    work.run(laps, *arguments)
    return laps.seconds()


def time_repeatedly(work: Work, device: torch.device, number: int) -> dict[str, float]:
    """Return the median seconds of each lap of ``number`` calls in a row."""
    calls = [time_once(work, device) for _ in range(number)]
    return {name: median(call[name] for call in calls) for name in calls[0]}


def time_in_turns(
    works: dict[str, Work], device: torch.device, *, repeats: int, turn: float = 0.05
) -> dict[str, list[dict[str, float]]]:
    """Time works side by side: return the seconds by lap of each, ``repeats`` times.

    In every round each has its turn, in an order that turns too. Works shorter than ``turn``
    seconds are called several times in a row, so that a turn says what they take in a loop and not
    how well the caches, and threads that still wait for work, were left by others.
    """
    numbers = {}
    for name, work in works.items():
        seconds = sum(time_once(work, device).values())  # a warm-up
        if seconds < 0.5:
            seconds = sum(time_once(work, device).values())
        numbers[name] = min(100, max(1, round(turn / seconds)))
    names, times = list(works), {name: [] for name in works}
    gc.collect()
    gc.disable()
    try:
        for i in range(repeats):
            start = i % len(names)
            for name in names[start:] + names[:start]:
                times[name].append(time_repeatedly(works[name], device, numbers[name]))
            gc.collect()
    finally:
        gc.enable()
    return times


def peak_memory(work: Work, device: torch.device) -> int:
    """Return the bytes that one call holds at most at a time beyond what was held before it."""
    arguments = work.prepare()
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work.run(Laps(device), *arguments)
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work.run(Laps(device), *arguments)
    with TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = sorted((x for x in events if x["name"] == "[memory]"), key=itemgetter("ts"))
    return max(accumulate((x["args"]["Bytes"] for x in changes), initial=0))


def physical_memory(device: torch.device) -> int:
    """Return the bytes of the GPU's memory, or of this machine's."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
