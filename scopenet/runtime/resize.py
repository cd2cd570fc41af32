"""The resizing of Detectron2's predictor, in numpy: its sizes and, bit for bit, Pillow's bilinear
filter for uint8.

OpenCV's filters do not average when they shrink an image, and a detector that was trained with the
other filter then finds other scores.
"""

import numpy as np

_BITS = 22  # of the fractions of Pillow's fixed-point weights


def network_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Compute height and width after ``ResizeShortestEdge(min_size, max_size)``, px."""
    if min_size == 0:
        return height, width
    scale = min_size / min(height, width)
    if scale * max(height, width) > max_size:
        scale = max_size / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def _taps(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Tell which pixels of a row of ``old`` make each of ``new`` pixels, (T, new) int64, and their
    weights in fixed point, (T, new) int32, 0 beyond the ends of the row."""
    scale = old / new
    radius = max(scale, 1.0)
    centers = (np.arange(new) + 0.5) * scale
    first = np.maximum((centers - radius + 0.5).astype(np.int64), 0)
    last = np.minimum((centers + radius + 0.5).astype(np.int64), old)
    index = first + np.arange(int((last - first).max()))[:, None]
    weights = np.maximum(1 - np.abs((index - centers + 0.5) / radius), 0) * (index < last)
    weights /= weights.sum(0)
    return np.minimum(index, old - 1), (weights * 2**_BITS + 0.5).astype(np.int32)


def _resize_rows(image: np.ndarray, new: int) -> np.ndarray:
    """Resize (H, W, C) uint8 to (new, W, C) uint8."""
    if len(image) == new:
        return image
    total = np.full((new, *image.shape[1:]), 2 ** (_BITS - 1), np.int32)
    for index, weights in zip(*_taps(len(image), new), strict=True):
        total += image[index] * weights[:, None, None]
    return (total >> _BITS).astype(np.uint8)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (H, W, C) uint8 to ``height`` and ``width`` as ``PIL.Image.resize(..., BILINEAR)``."""
    # Pillow 13 turns the order round where the height shrinks by more than twice as many pixels;
    # that changes results by 1 at most.
    columns_first = _resize_rows(image.swapaxes(0, 1), width).swapaxes(0, 1)
    return _resize_rows(columns_first, height)
