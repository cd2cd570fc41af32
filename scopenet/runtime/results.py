"""From the arrays that an exported detector returns to what its user gets."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from detectron2.structures import Instances


class Outputs(NamedTuple):
    """K detections of one image, best first, as every exported file returns them."""

    boxes: np.ndarray  # (K, 4) float32 XYXY px
    scores: np.ndarray  # (K,) float32, p_box, or p_cls where the guided score is off
    classes: np.ndarray  # (K,) int64
    cls_scores: np.ndarray  # (K,) float32, p_cls
    loc_scores: np.ndarray  # (K,) float32, p_loc
    border_scores: np.ndarray  # (K, 4) float32, of the left, top, right and bottom borders


@dataclass(frozen=True)
class ArrayInstances:
    """The fields of Detectron2's ``Instances`` of a ScopeNet as plain arrays.

    Attributes:
        image_size: height and width, px.
        pred_boxes: (K, 4) float32 XYXY px.
        scores, cls_scores, loc_scores: (K,) float32.
        pred_classes: (K,) int64.
        border_scores: (K, 4) float32, of the left, top, right and bottom borders.
    """

    image_size: tuple[int, int]
    pred_boxes: np.ndarray
    scores: np.ndarray
    pred_classes: np.ndarray
    cls_scores: np.ndarray
    loc_scores: np.ndarray
    border_scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def rescale(
    outputs: Outputs, network_size: tuple[int, int], image_size: tuple[int, int]
) -> Outputs:
    """Bring boxes from px of the network input to px of the image, clip them to it and drop those
    that are empty then. The sizes are height and width."""
    height, width = image_size
    scale = np.float32([width / network_size[1], height / network_size[0]] * 2)
    limits = np.float32([width, height] * 2)
    boxes = np.clip(outputs.boxes * scale, 0, limits)
    is_nonempty = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return Outputs(*(x[is_nonempty] for x in outputs._replace(boxes=boxes)))


def to_instances(outputs: Outputs, image_size: tuple[int, int]) -> "Instances | ArrayInstances":
    """Make Detectron2's ``Instances`` where it is installed, otherwise :class:`ArrayInstances`."""
    fields = outputs._asdict()
    fields = {"pred_boxes": fields.pop("boxes"), "pred_classes": fields.pop("classes")} | fields
    if not (find_spec("torch") and find_spec("detectron2")):
        return ArrayInstances(image_size, **fields)
    import torch
    from detectron2.structures import Boxes, Instances

    tensors = {name: torch.from_numpy(x) for name, x in fields.items()}
    boxes = Boxes(tensors.pop("pred_boxes"))
    return Instances(image_size, pred_boxes=boxes, **tensors)
