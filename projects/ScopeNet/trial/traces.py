"""Where the time of a step goes: a trace, the slowest operators, and what waits for the GPU."""

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmark import works
from benchmark.contestants import STOCK_CONFIGS, build_contestant
from benchmark.measure import Laps, Work
from benchmark.workload import Case, random_inputs

from .settings import Settings

# What makes the processor wait for a GPU, or copies between the two.
WAITING = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaMemcpyAsync",
)
SLOWEST = 10


def run(settings: Settings) -> None:
    """Profile inference and a training step of the 1x config in float32; write ``traces.md``."""
    contestant = build_contestant("ScopeNet", STOCK_CONFIGS["ScopeNet"], settings.device)
    classes = contestant.model.num_classes
    single, batch = Case(1, *settings.size, 0), Case(2, *settings.size, 7)
    contestant.imitate_training(random_inputs(Case(1, 320, 320, 0), classes, settings.device))
    # On the CPU, as a loader gives them.
    image, images = (random_inputs(x, classes, "cpu") for x in (single, batch))
    steps = {
        "inference": works.inference(contestant, image, torch.float32),
        "training": works.training_step(contestant, images, torch.float32),
    }
    parts = []
    for name, work in steps.items():
        events = profiled(work, settings, name)
        parts.append(
            f"**{name.capitalize()}** ([trace](trace_{name}.json.gz), for chrome://tracing)\n\n"
            f"{counts(events, settings.device).to_markdown(index=False)}\n\n"
            f"{slowest(events, settings.device).to_markdown(index=False)}\n"
        )
        (settings.output / "traces.md").write_text("\n".join(parts))


def profiled(work: Work, settings: Settings, name: str) -> list:
    """Run it thrice, and the last time watch; return the profiler's sums by name."""
    device = torch.device(settings.device)
    activities = [ProfilerActivity.CPU]
    activities += [ProfilerActivity.CUDA] if device.type == "cuda" else []
    for _ in range(2):
        work.run(Laps(device))
    with profile(activities=activities) as profiler:
        work.run(Laps(device))
        if device.type == "cuda":
            torch.cuda.synchronize()
    profiler.export_chrome_trace(str(settings.output / f"trace_{name}.json.gz"))
    return list(profiler.key_averages())


def counts(events: list, device: str) -> pd.DataFrame:
    """Count what waits for a GPU; the last synchronization of the device is the profiler's."""
    calls = {x.key: x.count for x in events}
    names = [k for k in WAITING if k.startswith("aten") or device == "cuda"]
    return pd.DataFrame({"waits or copies": f"`{k}`", "calls": calls.get(k, 0)} for k in names)


def slowest(events: list, device: str) -> pd.DataFrame:
    """Show where most time is spent, on the device itself."""
    kind = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    found = sorted(events, key=lambda x: getattr(x, kind), reverse=True)[:SLOWEST]
    return pd.DataFrame(
        {"operator": f"`{x.key[:60]}`", "calls": x.count, "ms": round(getattr(x, kind) / 1000, 2)}
        for x in found
    )
