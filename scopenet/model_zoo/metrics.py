"""The evaluation of a checkpoint, from what the training or its user has written down."""

import json
import math
from pathlib import Path

from ..errors import ConfigError
from .index import Metrics


def training_metrics(
    folder: Path, iterations: int, max_iter: int, dataset_names: list[str]
) -> Metrics:
    """What a training has found for one of its checkpoints; empty if it has not evaluated it.

    Args:
        folder: of the training, with Detectron2's metrics.json.
        iterations: that the checkpoint was trained for.
        max_iter: that the training was to have.
        dataset_names: of the config's test sets.
    """
    path = folder / "metrics.json"
    # Detectron2 counts from 0, and evaluates after the last iteration under the number of the next.
    wanted = iterations if iterations == max_iter else iterations - 1
    metrics: Metrics = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:  # half written
            continue
        for key, value in values.items() if values.get("iteration") == wanted else ():
            dataset, is_box, name = f"/{key}".partition("/bbox/")
            if is_box and (dataset or len(dataset_names) == 1):
                metrics.setdefault(dataset[1:] or dataset_names[0], {})[name] = _number(value)
    return metrics


def read_metrics(path: Path, dataset_names: list[str]) -> Metrics:
    """An evaluation as Detectron2's ``test`` returns it, as JSON: ``{"bbox": {"AP": ...}}``, or of
    several data sets ``{"<data set>": {"bbox": {"AP": ...}}}``; or only ``{"AP": ...}``.

    Args:
        dataset_names: of the config's test sets, of which there must be one where the file names
            none.

    Raises:
        ConfigError: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        content = {"bbox": content} if "AP" in content else content
        if "bbox" in content:
            if len(dataset_names) != 1:
                raise ConfigError(
                    f"{path} does not say what the evaluation was on, and the config has "
                    f"{len(dataset_names)} test sets; write "
                    '{"<data set>": {"bbox": {"AP": ...}}}.'
                )
            content = {dataset_names[0]: content}
        return {
            dataset: {name: _number(x) for name, x in results["bbox"].items()}
            for dataset, results in content.items()
        }
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"The evaluation {path} cannot be read ({error.strerror}).") from error
    except Exception as error:  # JSON of any other shape
        raise ConfigError(
            f'{path} is not an evaluation: use JSON such as {{"bbox": {{"AP": 38.0}}}}.'
        ) from error


def _number(value: float) -> float | None:
    """None for the NaN of a metric that the data set has no objects for."""
    return float(value) if math.isfinite(value) else None
