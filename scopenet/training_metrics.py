"""What a training has written about itself: Detectron2's ``metrics.json``."""

import json
from collections import defaultdict
from pathlib import Path


def read_metrics(path: Path) -> dict[str, dict[int, float]]:
    """Read name -> iteration -> value, by ascending iterations; nothing if there is no such file.

    Of an iteration that a resumed training has repeated, the later value counts. Lines that are
    half written, as a killed training leaves them, are passed over.
    """
    metrics: dict[str, dict[int, float]] = defaultdict(dict)
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            values = json.loads(line)
            iteration = values.pop("iteration")
        except (json.JSONDecodeError, KeyError):
            continue
        for name, value in values.items():
            metrics[name][iteration] = value
    return {name: dict(sorted(values.items())) for name, values in metrics.items()}
