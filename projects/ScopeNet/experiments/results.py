"""The CSV file of results: one row per config, dataset, seed and number of iterations."""

import os
from pathlib import Path

import pandas as pd
from filelock import FileLock

KEY = ["config", "dataset", "seed", "iterations"]
METRICS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR10", "AR100"]
COLUMNS = [
    *KEY,
    *METRICS,
    "seconds",  # of training, without evaluation
    "peak_memory_mb",  # of the training process; on GPUs of the first one
    "commit",
    "hardware",
    "versions",
    "training",  # digest: rows that share it share a checkpoint per seed
]


class Results:
    """A CSV file that several processes may add to; killed at any time, it is whole."""

    def __init__(self, path: Path):
        self.path = path

    def read(self) -> pd.DataFrame:
        """All rows, sorted by :data:`KEY`.

        Raises:
            ValueError: the file has not the columns :data:`COLUMNS`.
        """
        if not self.path.exists():
            return pd.DataFrame(columns=COLUMNS)
        table = pd.read_csv(self.path, dtype={"training": str, "commit": str})
        if missing := set(COLUMNS) - set(table.columns):
            raise ValueError(f"{self.path} has no columns {sorted(missing)}; move it elsewhere.")
        return table

    def has(self, key: dict) -> bool:
        table = self.read()
        return bool((table[KEY] == pd.Series(key)[KEY]).all(axis=1).any())

    def add(self, row: dict) -> None:
        """Add a row, or replace the one with its key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            table = self.read()
            others = table[~(table[KEY] == pd.Series(row)[KEY]).all(axis=1)]
            new = pd.DataFrame([row], columns=COLUMNS)
            table = pd.concat([others, new]) if len(others) else new
            unfinished = self.path.with_suffix(".tmp")
            table.sort_values(KEY).to_csv(unfinished, index=False, float_format="%.4f")
            os.replace(unfinished, self.path)
