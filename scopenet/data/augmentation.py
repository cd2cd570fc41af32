"""Augmentations of training by config keys, beside Detectron2's sizes and flips. They draw from
numpy's global generator only, which the loader seeds by (seed, iteration, index)."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from fvcore.transforms.transform import CropTransform, Transform, TransformList

from ..errors import ConfigError

MIN_VISIBLE = 0.25  # share of a box's area; what a crop leaves less of is no object any more


def train_mapper(cfg: CfgNode) -> DatasetMapper:
    """Map images as Detectron2 does in training, and with ``INPUT.LARGE_SCALE_JITTER`` and
    ``INPUT.COLOR_JITTER``; a ConfigError says that one of them is out of its range."""
    options = DatasetMapper.from_config(cfg, is_train=True)
    jitter, strength = cfg.INPUT.LARGE_SCALE_JITTER, cfg.INPUT.COLOR_JITTER
    if not 0 <= strength < 1:
        raise ConfigError(f"INPUT.COLOR_JITTER is {strength}, but must be in [0, 1).")
    if jitter:
        if len(jitter) != 2 or not 0 < jitter[0] <= jitter[1]:
            raise ConfigError(
                f"INPUT.LARGE_SCALE_JITTER is {tuple(jitter)}, but is () or (least, largest) "
                "factor of an image's size, both above 0."
            )
        options["augmentations"] = [
            LargeScaleJitter(x, *jitter) if isinstance(x, T.ResizeShortestEdge) else x
            for x in options["augmentations"]
        ]
    if strength:
        factors = 1 - strength, 1 + strength
        colors = (T.RandomBrightness, T.RandomContrast, T.RandomSaturation)
        options["augmentations"] += [color(*factors) for color in colors]
    return DatasetMapper(**options)


class LargeScaleJitter(T.Augmentation):
    """Resizes an image to its usual size times a random factor, and cuts from it, where it is
    larger, a random part of the usual size.

    Detectron2's ``ResizeScale`` and ``FixedSizeCrop`` do it for one size of all images, and cut
    along the diagonal only. Here a factor of 1 is the scale of testing, memory is as without, and a
    smaller image is not filled up, which batching does.

    Args:
        resize: makes the usual size.
        low, high: the factor is between these.
    """

    def __init__(self, resize: T.ResizeShortestEdge, low: float, high: float):
        super().__init__()
        self.resize, self.low, self.high = resize, low, high

    def get_transform(self, image: np.ndarray) -> Transform:
        usual = self.resize.get_transform(image)
        height, width = image.shape[:2]
        if isinstance(usual, T.NoOpTransform):
            usual_size = height, width
        else:
            usual_size = usual.new_h, usual.new_w
        factor = np.random.uniform(self.low, self.high)
        # Where the usual size has nothing left of a side, resizing fails as it does without jitter.
        size = [max(min(x, 1), round(factor * x)) for x in usual_size]
        cut = [min(pair) for pair in zip(size, usual_size, strict=True)]
        y, x = (np.random.randint(a - b + 1) for a, b in zip(size, cut, strict=True))
        resized = T.ResizeTransform(height, width, *size)
        return TransformList([resized, VisibleCrop(x, y, cut[1], cut[0], size[1], size[0])])


class VisibleCrop(CropTransform):
    """A crop that leaves nothing of a box of which less than ``MIN_VISIBLE`` is inside: Detectron2
    leaves out empty boxes, but trains on what is a hair wide."""

    def apply_box(self, box: np.ndarray) -> np.ndarray:
        """Move XYXY boxes (n, 4) and clip them to the crop."""
        moved = super().apply_box(box)
        clipped = np.clip(moved, 0, [self.w, self.h] * 2)
        shares = _areas(clipped) / np.maximum(_areas(moved), 1e-9)
        return np.where(shares[:, None] >= MIN_VISIBLE, clipped, 0)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
