"""Make the tables of docs/performance.md from a file of benchmark.py."""

from collections.abc import Iterator

import pandas as pd

from .loading import IMAGES_PER_GPU, TO_THE_BATCH, processes_per_gpu
from .results import Results

# Largest ratios of ScopeNet's time to a peer's that count as fast, by peer, suite and boxes per
# image.
TARGETS = {
    "FCOS": {
        "labels": {7: 1 / 8, 50: 1 / 40, 200: 1 / 150, 1000: 1 / 400},
        "losses": {7: 0.5, 50: 0.25, 200: 0.1, 1000: 0.03},
        "detections": {0: 0.5},
        "inference": {0: 0.95},
        "training": {7: 1.0, 50: 1.0, 200: 1.0, 1000: 1.0},
    },
    "RetinaNet": {
        "inference": {0: 0.85},
        "training": {7: 0.9, 50: 0.9, 200: 0.9, 1000: 0.9},
    },
}
DEPLOYMENT_TARGETS = {
    "onnxruntime": 0.85,
    "OpenVINO float32": 0.75,
    "OpenVINO bfloat16": 0.42,
    "OpenVINO int8": 0.23,
}
GPU_RATE = "images/s of one GPU"  # of what is said about the run
CASE = ["batch", "height", "width", "boxes"]


def _milliseconds(row: pd.Series) -> str:
    """Show the median with half the spread from the fastest to the slowest."""
    scale = 1000
    middle, half = row["median"] * scale, (row["max"] - row["min"]) / 2 * scale
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    return f"{middle:.{digits}f} ± {half:.{digits}f}"


def _megabytes(size: float) -> str:
    return f"{size / 2**20:.3g}" if size < 100 * 2**20 else f"{size / 2**20:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.2 else f"1/{1 / value:.0f}"


def _name(case: tuple) -> str:
    batch, height, width, _ = case
    return f"{batch} × {height}×{width}"


def _detectors(table: pd.DataFrame) -> list[str]:
    """List the detectors of a table, without their bounds."""
    return [name for name in table["detector"].unique() if ": " not in name]


def _without_boxes(table: pd.DataFrame) -> pd.DataFrame:
    """Leave out the number of boxes where it is 0 throughout."""
    has_boxes = table.empty or table["boxes per image"].any()
    return table if has_boxes else table.drop(columns="boxes per image")


def compared(table: pd.DataFrame, suite: str) -> pd.DataFrame:
    """Compare times, ratios of the first detector to the others (and what was aimed at), and peak
    memory; a row per batch."""
    rows = []
    for case, found in table[table["suite"] == suite].groupby(CASE, sort=False):
        first, *others = names = _detectors(found)
        of = found.set_index("detector")
        row = {"batch": _name(case), "boxes per image": case[-1]}
        row |= {f"{name}, ms": _milliseconds(of.loc[name]) for name in names}
        for name in others:
            ratio = _ratio(of.loc[first, "median"] / of.loc[name, "median"])
            target = TARGETS.get(name, {}).get(suite, {}).get(case[-1])
            row[f"ratio to {name}"] = ratio if target is None else f"{ratio} (≤ {_ratio(target)})"
        row |= {f"{name}, MiB": _megabytes(of.loc[name, "peak_bytes"]) for name in names}
        rows.append(row)
    return _without_boxes(pd.DataFrame(rows).fillna("–"))


def deployed(table: pd.DataFrame) -> pd.DataFrame:
    """Show the times of the exported formats and their ratios to PyTorch's, a row per format."""
    of = table[table["suite"] == "deployment"].set_index("detector")
    rows = []
    for name, row in of.iterrows():
        ratio, target = row["median"] / of.loc["PyTorch", "median"], DEPLOYMENT_TARGETS.get(name)
        shown = _ratio(ratio) if target is None else f"{_ratio(ratio)} (≤ {_ratio(target)})"
        rows.append({"run by": name, "ms": _milliseconds(row), "ratio to PyTorch": shown})
    return pd.DataFrame(rows)


def light(table: pd.DataFrame) -> pd.DataFrame:
    """Show the milliseconds of detectors for CPUs in every form, a row per size and detector."""
    rows: dict[tuple, dict] = {}
    for _, x in table[table["suite"] == "light"].iterrows():
        name, form = x["detector"].split(": ")
        key = {"px": x["height"], "detector": name}
        rows.setdefault((*key.values(),), key)[f"{form}, ms"] = _milliseconds(x)
    return pd.DataFrame([*rows.values()]).fillna("–")


def throughput(table: pd.DataFrame) -> pd.DataFrame:
    """Show the images per second of each way, and its ratio to the first of the same size."""
    rows = []
    for case, found in table[table["suite"] == "throughput"].groupby(CASE, sort=False):
        rates = {x["detector"]: x["batch"] / x["median"] for _, x in found.iterrows()}
        first = next(iter(rates.values()))
        size = f"{int(case[1])}×{int(case[2])}"
        rows += [
            {"images": size, "run by": k, "images/s": f"{v:.1f}", "ratio": f"{v / first:.2f}"}
            for k, v in rates.items()
        ]
    return pd.DataFrame(rows)


def variants(table: pd.DataFrame, step: str) -> pd.DataFrame:
    """Compare a step ("inference" or "training") in other precisions and forms, a row for each;
    what was not measured has a dash."""
    rows = []
    is_one = table["suite"].str.startswith(f"{step}, ")
    for suite, found in table[is_one].groupby("suite", sort=False):
        _, precision, form = suite.split(", ")
        of = {name: row for name, row in found.set_index("detector").iterrows()}
        row = {"precision": precision, "network": form}
        row |= {f"{name}, ms": _milliseconds(x) for name, x in of.items()}
        row |= {f"{name}, MiB": _megabytes(x["peak_bytes"]) for name, x in of.items()}
        rows.append(row)
    return pd.DataFrame(rows).fillna("–")


def by_lap(table: pd.DataFrame, suite: str) -> pd.DataFrame:
    """Show the milliseconds of every lap of a suite, a row per batch and detector."""
    rows = []
    for _, x in table[(table["suite"] == suite) & ~table["detector"].str.contains(":")].iterrows():
        laps = {f"{name}, ms": f"{1000 * value:.1f}" for name, value in x["laps"].items()}
        case = {"batch": _name(tuple(x[CASE])), "boxes per image": x["boxes"]}
        rows.append(case | {"detector": x["detector"]} | laps)
    return _without_boxes(pd.DataFrame(rows))


def loader_processes(table: pd.DataFrame, gpu_rate: float) -> pd.DataFrame:
    """Show how many loader processes a GPU needs that trains on ``gpu_rate`` images/s."""
    rows = []
    for _, x in table[table["suite"] == "loading"].iterrows():
        seconds = x["laps"][TO_THE_BATCH]
        row = {"images/s of one process": f"{1 / seconds:.0f}", GPU_RATE: f"{gpu_rate:g}"}
        row["seconds of a 1x iteration"] = f"{IMAGES_PER_GPU / gpu_rate:.3g}"
        rows.append(row | {"processes per GPU": processes_per_gpu(gpu_rate, seconds)})
    return pd.DataFrame(rows)


def above_bounds(table: pd.DataFrame, suite: str) -> pd.DataFrame:
    """Show what share of a step is above each of its bounds, and of inference outside of backbone
    and head by the step's own laps; a row per batch and detector."""
    rows = []
    for case, found in table[table["suite"] == suite].groupby(CASE, sort=False):
        of, laps = (found.set_index("detector")[column] for column in ("median", "laps"))
        for name in _detectors(found):
            bounds = [x for x in of.index if x.startswith(f"{name}: ")]
            if not bounds:
                continue
            row = {"batch": _name(case), "boxes per image": case[-1], "detector": name}
            row["step, ms"] = f"{1000 * of[name]:.0f}"
            for bound in bounds:
                what = bound.split(": ")[1]
                row[f"{what} alone, ms"] = f"{1000 * of[bound]:.0f}"
                row[f"above {what}"] = f"{1 - of[bound] / of[name]:.1%}"
            if suite == "inference":
                outside = 1 - (laps[name]["backbone"] + laps[name]["head"]) / of[name]
                row["outside backbone and head"] = f"{outside:.1%}"
            rows.append(row)
    return _without_boxes(pd.DataFrame(rows).fillna("–"))


def networks(results: Results) -> pd.DataFrame:
    """Show parameters and multiply-adds of the detectors."""
    return pd.DataFrame(
        {
            "detector": x["detector"],
            "parameters, million": f"{x['parameters'] / 1e6:.1f}",
            "multiply-adds at 800×1344, billion": f"{x['multiply_adds'] / 1e9:.0f}",
        }
        for x in results.detectors
    )


def tables(results: Results) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield titles and tables of all that was measured."""
    table = results.table()
    yield "Networks", networks(results)
    yield "Loading, one process", by_lap(table, "loading")
    if gpu_rate := results.about.get(GPU_RATE):
        title = "Loader processes of a GPU (its images/s by those of one process, rounded up)"
        yield title, loader_processes(table, float(gpu_rate))
    for suite in ("labels", "losses", "detections", "inference", "training"):
        yield suite.capitalize(), compared(table, suite)
    yield "Deployment, one image of 480×640", deployed(table)
    yield "Detectors for CPUs, one image", light(table)
    yield "Throughput", throughput(table)
    for step, what in (("inference", "one image"), ("training", "two images")):
        yield f"Variants: {step}, {what}", variants(table, step)
    for suite in ("inference", "training"):
        yield f"{suite.capitalize()}, part by part", by_lap(table, suite)
        yield f"{suite.capitalize()}, above its bounds", above_bounds(table, suite)


def markdown(results: Results) -> str:
    about = "\n".join(f"- {key}: {value}" for key, value in results.about.items())
    parts = [
        f"## {title}\n\n{table.to_markdown(index=False, disable_numparse=True)}\n"
        for title, table in tables(results)
        if not table.empty
    ]
    return f"{about}\n\n" + "\n".join(parts)
