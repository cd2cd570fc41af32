"""Detectron2's FCOS and RetinaNet with a loss normalizer that starts at the data's own value.

Theirs, a moving average of the positives of a batch, starts at 300 and 100, which suits batches of
16 on COCO. With a batch of 4 photographs of one or two objects it takes most of the warm-up to come
down, and as it is no part of a checkpoint, it does so again after a resume.
"""

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch.fcos import FCOS
from torch import Tensor


class OwnStart:
    """Starts the loss normalizer of a dense detector of Detectron2 at the positives of the first
    batch."""

    num_classes: int

    def losses(self, anchors, pred_logits, gt_labels: list[Tensor], *others) -> dict[str, Tensor]:
        """See the detector; a label is its class, -1 for an ignored and ``num_classes`` for a
        background anchor."""
        if not hasattr(self, "loss_normalizer"):
            labels = torch.stack(gt_labels)
            positives = (labels >= 0) & (labels != self.num_classes)
            self.loss_normalizer = max(int(positives.sum()), 1)
        return super().losses(anchors, pred_logits, gt_labels, *others)  # type: ignore[misc]


class FCOSWithOwnStart(OwnStart, FCOS):
    """Is Detectron2's FCOS otherwise."""


class FCOSOnFinerLevels(FCOSWithOwnStart):
    """Has each level for distances of 8 to 16 strides, where Detectron2's FCOS has 4 to 8. Both are
    counted in sizes of its anchors, and so is the radius of its positives, which stays as it is."""

    def __init__(self, *, backbone, center_sampling_radius: float = 1.5, **options):
        radius = center_sampling_radius / 2
        super().__init__(backbone=backbone, center_sampling_radius=radius, **options)
        shapes = backbone.output_shape()
        strides = [shapes[name].stride for name in self.head_in_features]
        self.anchor_generator = DefaultAnchorGenerator(
            sizes=[[2 * x] for x in strides], aspect_ratios=[1.0], strides=strides
        )


class RetinaNetWithOwnStart(OwnStart, RetinaNet):
    """Is Detectron2's RetinaNet otherwise."""
