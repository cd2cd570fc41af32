"""How well bins are chosen and borders decoded, from the tables of :mod:`.borders`."""

import numpy as np
import pandas as pd

from .calibration import rank_correlation


def confusion(borders: pd.DataFrame, num_bins: int) -> np.ndarray:
    """(N, N) counts: row is the true bin, column the most probable one."""
    counts = np.zeros((num_bins, num_bins), int)
    np.add.at(counts, (borders.bin.to_numpy(), borders.best_bin.to_numpy()), 1)
    return counts


def _groups(table: pd.DataFrame, by: str) -> list[tuple[int | str, pd.DataFrame]]:
    return [*table.groupby(by), ("all", table)]


def _border_figures(borders: pd.DataFrame) -> pd.Series:
    return pd.Series(
        {
            "borders": len(borders),
            "bin accuracy": (borders.best_bin == borders.bin).mean() * 100,
            "off by > 1 bin": ((borders.best_bin - borders.bin).abs() > 1).mean() * 100,
            "decoded elsewhere": (borders.decoded_best_bin != borders.best_bin).mean() * 100,
            "decoded elsewhere, true bin": (borders.decoded_bin != borders.bin).mean() * 100,
            "error": (borders.from_best_bin - borders.distance).abs().median(),
            "error, true bin": (borders.from_bin - borders.distance).abs().median(),
        }
    )


def border_figures(borders: pd.DataFrame, by: str) -> pd.DataFrame:
    """For each group of borders, and for all of them in the last row, "all":

    - "borders": how many;
    - "bin accuracy": share, in percent, whose most probable bin is the true one;
    - "off by > 1 bin": share whose most probable bin is not even next to it;
    - "decoded elsewhere": share whose decoded distance lies outside the bin it was decoded from,
      for the most probable and for the true bin;
    - "error": median of the absolute error in px of the network input, likewise.

    Args:
        by: "level" or "direction".
    """
    return pd.DataFrame({key: _border_figures(x) for key, x in _groups(borders, by)}).T


def iou_figures(positives: pd.DataFrame) -> pd.DataFrame:
    """By level: "positives", mean "IoU, true bins" and "IoU, chosen bins" of the decoded boxes with
    their ground truth, and the "gap" between them, which is what choosing bins costs; in percent.
    The last row, "all", is over all levels."""
    rows = {}
    for key, group in _groups(positives, "level"):
        true, chosen = 100 * group.iou_bin.mean(), 100 * group.iou_best_bin.mean()
        rows[key] = {
            "positives": len(group),
            "IoU, true bins": true,
            "IoU, chosen bins": chosen,
            "gap": true - chosen,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def hedging(borders: pd.DataFrame, num_bins: int) -> pd.DataFrame:
    """Rank correlation of the distance to the nearest bin edge with log sigma^2 and with the
    confidence of the chosen bin; by level, over "all", and over the "inner bins", as only the outer
    ones have borders far away from any edge, which differ in more than that.

    The paper's section 3.1 says that the network hedges near an edge: there sigma^2 is to be large
    and the confidence small, so the first should be negative and the second positive.
    """
    rows = {}
    inner = borders[borders.bin.between(1, num_bins - 2)]
    for key, group in [*_groups(borders, "level"), ("inner bins", inner)]:
        rows[key] = {"borders": len(group)} | {
            name: rank_correlation(group.edge_distance.to_numpy(), group[name].to_numpy())
            for name in ("log_variance", "confidence")
        }
    return pd.DataFrame.from_dict(rows, orient="index")
