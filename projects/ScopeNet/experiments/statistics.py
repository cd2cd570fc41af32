"""Means over seeds, their intervals, and differences between configs seed by seed."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """A mean with its interval mean +- half_width, which is NaN for a single value."""

    mean: float
    half_width: float
    count: int

    @property
    def excludes_zero(self) -> bool:
        return abs(self.mean) > self.half_width


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate mean and 95 % interval, by Student's t, of independent and normal values."""
    values = np.asarray(values, dtype=float)
    count = len(values)
    if count < 2:
        return Estimate(float(values.mean()) if count else math.nan, math.nan, count)
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, count - 1)
    return Estimate(float(values.mean()), float(quantile * stats.sem(values)), count)


def seeds_to_settle(differences: Sequence[float], most: int = 1000) -> int | None:
    """Find the least number of seeds whose interval would exclude 0, if mean and standard deviation
    stayed as they are; None if ``most`` would not do."""
    differences = np.asarray(differences, dtype=float)
    mean, deviation = abs(differences.mean()), differences.std(ddof=1)
    counts = np.arange(2, most + 1)
    half_widths = stats.t.ppf((1 + CONFIDENCE) / 2, counts - 1) * deviation / np.sqrt(counts)
    enough = counts[half_widths < mean]
    return int(enough[0]) if len(enough) else None
