"""The evaluation of a checkpoint, from what the training or its user has written down."""

import json
import math
from pathlib import Path
from typing import Any

from ..errors import refused
from ..training_metrics import read_metrics
from .index import Metrics


def training_evaluation(
    folder: Path, iterations: int, max_iter: int, dataset_names: list[str]
) -> Metrics:
    """Look up what a training has found for one of its checkpoints; empty if it was not evaluated.

    Args:
        folder: of the training, with Detectron2's metrics.json.
        iterations: that the checkpoint was trained for.
        max_iter: that the training was to have.
        dataset_names: of the config's test sets.
    """
    # Detectron2 counts from 0, and evaluates after the last iteration under the number of the next.
    wanted = iterations if iterations == max_iter else iterations - 1
    results: dict[str, dict] = {}
    for key, values in read_metrics(folder / "metrics.json").items():
        dataset, is_box, name = f"/{key}".partition("/bbox/")
        if is_box and wanted in values and (dataset or len(dataset_names) == 1):
            results.setdefault(dataset[1:] or dataset_names[0], {})[name] = values[wanted]
    return {dataset: _numbers(values) for dataset, values in results.items()}


def read_evaluation(path: Path, dataset_names: list[str]) -> Metrics:
    """Read an evaluation from JSON, as Detectron2's ``test`` returns it: of several data sets
    ``{"<data set>": {"bbox": {"AP": ...}}}``, of one ``{"bbox": {"AP": ...}}`` or ``{"AP": ...}``.
    A ConfigError says that the file holds something else."""
    text, number = path.read_text(errors="replace"), len(dataset_names)
    with refused(
        f'{path} is not an evaluation: write {{"<data set>": {{"bbox": {{"AP": 38.0}}}}}}, or only '
        f'{{"bbox": {{"AP": 38.0}}}} of a single test set (the config has {number} test sets)'
    ):
        content = json.loads(text)
        content = {"bbox": content} if "AP" in content else content
        if "bbox" in content and number == 1:
            content = {dataset_names[0]: content}
        return {dataset: _numbers(results["bbox"]) for dataset, results in content.items()}


def _numbers(values: dict[str, Any]) -> dict[str, float | None]:
    """Turn the NaN of a metric that the data set has no objects for into None."""
    return {name: float(x) if math.isfinite(x) else None for name, x in values.items()}
