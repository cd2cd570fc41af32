"""What a benchmark measured, as a JSON file and as a table."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import pandas as pd
import torch
from detectron2.utils.events import EventStorage
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from scopenet.atomic import write_text
from scopenet.errors import ConfigError

from .contestants import Contestant
from .suites import LARGE, Record
from .workload import Case, random_inputs


class _Network(nn.Module):
    """Backbone and head as one module of one tensor."""

    def __init__(self, contestant: Contestant):
        super().__init__()
        self.backbone, self.head = contestant.model.backbone, contestant.model.head
        self.names = contestant.model.head_in_features

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.backbone(images)
        predictions = self.head([features[name] for name in self.names])
        return [x for maps in predictions for x in maps]


def describe(contestant: Contestant) -> dict:
    """Count the parameters, and the multiply-adds of the network at 800 x 1344 px."""
    model = contestant.model.eval()
    inputs = random_inputs(Case(1, *LARGE, 0), model.num_classes, model.device.type)
    flops = FlopCountAnalysis(_Network(contestant), model.preprocess_image(inputs).tensor)
    flops.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    with torch.no_grad(), EventStorage():
        total = flops.total()
    return {
        "detector": contestant.name,
        "parameters": sum(x.numel() for x in model.parameters()),
        "multiply_adds": total,
    }


@dataclass
class Results:
    about: dict[str, str]  # hardware, versions, command ...
    detectors: list[dict]  # see describe()
    records: list[dict]

    def add(self, record: Record) -> None:
        laps = [{name: round(x, 7) for name, x in laps.items()} for laps in record.seconds]
        self.records.append(asdict(record) | {"case": record.case._asdict(), "seconds": laps})

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self))
        write_text(path, text.replace('{"suite"', '\n{"suite"') + "\n")  # a line for each record

    @classmethod
    def load(cls, path: Path) -> "Results":
        """Read a file of :meth:`save`.

        Raises:
            ConfigError: the file is missing or not one of :meth:`save`.
        """
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} is no file of benchmark.py ({error}).") from error

    def table(self) -> pd.DataFrame:
        """Make a row of each record: its case, median, fastest and slowest seconds, peak bytes."""
        rows = []
        for x in self.records:
            totals = [sum(laps.values()) for laps in x["seconds"]]
            rows.append(
                {"suite": x["suite"], "detector": x["detector"]}
                | x["case"]
                | {"median": median(totals), "min": min(totals), "max": max(totals)}
                | {"peak_bytes": x["peak_bytes"], "laps": median_laps(x["seconds"])}
            )
        return pd.DataFrame(rows)


def median_laps(repeats: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median seconds of each lap."""
    return {name: median(laps[name] for laps in repeats) for name in repeats[0]}
