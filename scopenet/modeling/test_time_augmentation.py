"""Test-time augmentation: detections of one image from several resized and mirrored views of it.

Detectron2's own ``GeneralizedRCNNWithTTA`` takes two-stage detectors only. Shape letters: V views
that found something, D merged detections.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances, pairwise_iou
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError


def check_view_sizes(min_sizes: Sequence[int], max_size: int) -> None:
    """Raise a ConfigError for sizes of :func:`views` that no image can have."""
    if not min_sizes:
        raise ConfigError("TEST.AUG.MIN_SIZES is empty; give the views' shorter sides in px.")
    if min(min_sizes) < 1:
        raise ConfigError(f"TEST.AUG.MIN_SIZES {tuple(min_sizes)} must be px, 1 or more each.")
    if max_size < max(min_sizes):
        raise ConfigError(
            f"TEST.AUG.MAX_SIZE {max_size}, the limit of the longer side, is below the largest "
            f"shorter side of TEST.AUG.MIN_SIZES, {max(min_sizes)}; raise it."
        )


def views(
    image: Tensor, *, min_sizes: Sequence[int], max_size: int, flip: bool
) -> Iterator[tuple[Tensor, bool]]:
    """Yield resized images, float32 (3, H', W'), and whether they are mirrored.

    A smaller view averages over what it leaves out, which Detectron2's ``ResizeTransform`` does for
    the images of a data set only, and not for the float ones that ``DefaultPredictor`` makes.

    Args:
        image: (3, H, W).
        min_sizes: of the shorter side, px; a view each.
        max_size: of the longer side, px; the shorter one is then smaller than asked for.
        flip: each view a second time, left and right swapped.
    """
    for min_size in min_sizes:
        size = ResizeShortestEdge.get_output_shape(*image.shape[1:], min_size, max_size)
        size = [max(side, 1) for side in size]
        view = F.interpolate(image[None].float(), size, mode="bilinear", antialias=True)[0]
        yield view, False
        if flip:
            yield view.flip(-1), True


OF_BORDERS = {"border_scores", "border_stds"}  # fields (K, 4): left, top, right, bottom


def mirror(detections: Instances) -> Instances:
    """Swap left and right, of the boxes and of what is known of their borders."""
    width = detections.image_size[1]
    left, top, right, bottom = detections.pred_boxes.tensor.unbind(1)
    fields = dict(detections.get_fields())
    fields |= {name: fields[name][:, [2, 1, 0, 3]] for name in OF_BORDERS & fields.keys()}
    fields["pred_boxes"] = Boxes(torch.stack([width - right, top, width - left, bottom], dim=1))
    return Instances(detections.image_size, **fields)


def votes(detections: Instances, kept: Instances, iou_thresh: float) -> dict[str, Tensor]:
    """Let the detections of one view, at least one, say what each of D ``kept`` ones is.

    Returns:
        the fields (D, ...) of the detection of the same class that overlaps most, and "seen" (D,),
        1 or 0: whether one overlaps by more than ``iou_thresh``.
    """
    iou = pairwise_iou(kept.pred_boxes, detections.pred_boxes)
    same_class = kept.pred_classes[:, None] == detections.pred_classes
    best_iou, best = (iou * same_class).max(1)
    fields = detections[best].get_fields()
    fields |= {"pred_boxes": fields["pred_boxes"].tensor, "seen": (best_iou > iou_thresh).float()}
    return fields


def merge(
    found: list[Instances], *, score_thresh: float, nms_thresh: float, max_detections: int
) -> Instances:
    """Make one set of detections of those of all views.

    Class-wise NMS by p_box over the detections of all views picks those that are kept; the others
    vote. Every border moves to the mean over the views, weighted by p_box and by each view's
    confidence in this very border. p_box and p_cls become sums over the views divided by the
    geometric mean of the numbers of all views and of those that see the object: of many sizes some
    are too small or too large for it. The confidences are means over the views that see it. A
    single view comes out as it went in.

    Args:
        found: the detections of each view, in the frame of the output image.
        nms_thresh: the IoU above which a detection is suppressed, and votes.
        score_thresh, max_detections: keep merged scores above, best first, at most so many.
    """
    seeing = [x for x in found if len(x)]
    if not seeing:
        return found[0]
    union = Instances.cat(seeing)
    kept = union[batched_nms(union.pred_boxes.tensor, union.scores, union.pred_classes, nms_thresh)]
    per_view = [votes(x, kept, nms_thresh) for x in seeing]
    v = {name: torch.stack([x[name] for x in per_view]) for name in per_view[0]}  # (V, D, ...)
    seen = v["seen"]  # (V, D)
    # As moves of the kept box, so that what the views agree on is not rounded.
    weights = (seen * v["scores"])[..., None] * v["border_scores"]  # (V, D, 4)
    moves = weights * (v["pred_boxes"] - kept.pred_boxes.tensor)
    moves = moves.sum(0) / weights.sum(0).clamp(min=torch.finfo(weights.dtype).tiny)
    kept.pred_boxes = Boxes(kept.pred_boxes.tensor + moves)
    divisor = (seen.sum(0) * len(found)).sqrt()  # (D,)
    kept.scores = (seen * v["scores"]).sum(0) / divisor
    kept.cls_scores = (seen * v["cls_scores"]).sum(0) / divisor
    kept.loc_scores = (seen * v["loc_scores"]).sum(0) / seen.sum(0)
    for name in OF_BORDERS & v.keys():
        kept.set(name, (seen[..., None] * v[name]).sum(0) / seen.sum(0)[:, None])
    kept = kept[kept.scores > score_thresh]
    return kept[kept.scores.argsort(descending=True, stable=True)[:max_detections]]


class ScopeNetWithTTA(nn.Module):
    """Runs a ScopeNet with test-time augmentation: same inputs and outputs, for inference only.

    The views are made of the images as they are given, so give these in full size; with
    ``INPUT.MIN_SIZE_TEST`` 0 Detectron2 does.
    """

    @configurable
    def __init__(self, *, model: nn.Module, min_sizes: Sequence[int], max_size: int, flip: bool):
        """
        Args:
            model: a :class:`ScopeNet`, also wrapped for distributed training.
            min_sizes, max_size, flip: see :func:`views` and :func:`check_view_sizes`.
        """
        super().__init__()
        check_view_sizes(min_sizes, max_size)
        self.model: Any = model.module if isinstance(model, DistributedDataParallel) else model
        self.min_sizes, self.max_size, self.flip = min_sizes, max_size, flip
        self.train(self.model.training)

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module):
        aug = cfg.TEST.AUG
        sizes = {"min_sizes": aug.MIN_SIZES, "max_size": aug.MAX_SIZE}
        return sizes | {"model": model, "flip": aug.FLIP}

    def forward(self, batched_inputs: list[dict]) -> list[dict]:
        """See :meth:`ScopeNet.forward`; of each input "image", "height" and "width" are used."""
        return [{"instances": self.detect(x)} for x in batched_inputs]

    def detect(self, x: dict) -> Instances:
        """Return the merged detections of one image. The views go through the network one by one:
        padding to a common size would change what a head with GroupNorm finds."""
        height, width = x["image"].shape[1:]
        size = {"height": x.get("height", height), "width": x.get("width", width)}
        image = x["image"].to(self.model.device)  # a GPU resizes many views sooner than a CPU
        found = []
        for view, is_mirrored in views(
            image, min_sizes=self.min_sizes, max_size=self.max_size, flip=self.flip
        ):
            (result,) = self.model([{"image": view, **size}])
            detections = result["instances"]
            found.append(mirror(detections) if is_mirrored else detections)
        return merge(
            found,
            score_thresh=self.model.test_score_thresh,
            nms_thresh=self.model.test_nms_thresh,
            max_detections=self.model.max_detections_per_image,
        )
