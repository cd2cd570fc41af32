"""The colours in which the four borders of a box show how sure the network is of each."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize

# From unsure to sure, bright enough to be seen on a photograph.
CONFIDENCE_COLORS = LinearSegmentedColormap.from_list("", ["#ff2f6e", "#ffd23f", "#2ee6d6"])
# Where the colours end: at 0.5 two bins may be as probable as each other.
CONFIDENCES = Normalize(0.5, 1.0, clip=True)


def border_lines(box: np.ndarray) -> list[tuple[list[float], list[float]]]:
    """Return the borders (l, t, r, b) of an XYXY box, each as the x and the y of its two ends."""
    x0, y0, x1, y1 = box
    return [([x0, x0], [y0, y1]), ([x0, x1], [y0, y0]), ([x1, x1], [y0, y1]), ([x0, x1], [y1, y1])]
