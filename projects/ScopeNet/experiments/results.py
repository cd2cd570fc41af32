"""The CSV file of results: one row per config, dataset, seed and schedule."""

from pathlib import Path

import pandas as pd
from filelock import FileLock

from scopenet.atomic import write_text
from scopenet.errors import ConfigError

KEY = ["config", "dataset", "seed", "iterations", "base_lr", "warmup"]
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR10", "AR100"]  # of the tables
MORE_METRICS = [
    *("AP55", "AP60", "AP65", "AP70", "AP80", "AP85", "AP90", "AP95"),
    *("oLRP", "oLRP_loc"),  # see scopenet.engine.lrp; less is better
]
COLUMNS = [
    *KEY,
    *METRICS,
    *MORE_METRICS,
    "iou_true_bins",  # of the boxes of positives, in percent; ScopeNet's only
    "iou_chosen_bins",
    "class_APs",  # of data sets with several classes, such as "RBC 60.1; WBC 80.2"
    "seconds",  # of training, without evaluation
    "peak_memory_mb",  # of the training process; on GPUs of the first one
    "commit",
    "hardware",
    "versions",
    "training",  # digest: rows that share it share a checkpoint per seed
]


class Results:
    """A CSV file that several processes may add to; whenever one is killed, it is whole."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> pd.DataFrame:
        """Read all rows, sorted by :data:`KEY`.

        Raises:
            ConfigError: the file has not the columns :data:`COLUMNS`.
        """
        if not self.path.exists():
            return pd.DataFrame(columns=COLUMNS)
        table = pd.read_csv(
            self.path,
            dtype={"training": str, "commit": str},
            converters={"base_lr": float},  # old versions of pandas would round this part of a key
        )
        if missing := set(COLUMNS) - set(table.columns):
            raise ConfigError(f"{self.path} has no columns {sorted(missing)}; move it elsewhere.")
        return table

    def has(self, key: dict) -> bool:
        return not self._rows(key).empty

    def value(self, key: dict, column: str) -> float:
        """Return what the row of a key has in a column."""
        return float(self._rows(key)[column].item())

    def _rows(self, key: dict) -> pd.DataFrame:
        table = self.read()
        return table[(table[KEY] == pd.Series(key)[KEY]).all(axis=1)]

    def add(self, row: dict) -> None:
        """Add a row, or replace the one with its key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            table = self.read()
            others = table[~(table[KEY] == pd.Series(row)[KEY]).all(axis=1)]
            new = pd.DataFrame([row], columns=COLUMNS)
            table = pd.concat([others, new]) if len(others) else new
            table = table.sort_values(KEY)
            # Of a rate, all digits: rows are found by it.
            table["base_lr"] = table["base_lr"].astype(float).map(str)
            write_text(self.path, table.to_csv(index=False, float_format="%.4f"))
