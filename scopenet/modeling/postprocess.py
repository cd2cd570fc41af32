"""From the network's frame to the user's: rescaling of the detections of one image."""

import torch
from detectron2.structures import Boxes, Instances


def rescale_detections(results: Instances, height: int, width: int) -> Instances:
    """Scale boxes to an output size in px and clip them to it, as ``detector_postprocess`` does but
    without its side effect on ``results``, which are in px of the network input, and with a single
    look at what is left, for which a GPU has to be waited.

    A detection that is empty then is dropped with all its fields; the others have no frame, and the
    ranking by p_box stays as it was.
    """
    size, boxes = results.image_size, results.pred_boxes.tensor
    x = (boxes[:, 0::2] * (width / size[1])).clamp(min=0).clamp(max=width)  # (K, 2)
    y = (boxes[:, 1::2] * (height / size[0])).clamp(min=0).clamp(max=height)
    boxes = torch.stack([x, y], dim=-1).flatten(1)
    (kept,) = (boxes[:, 2:] > boxes[:, :2]).all(1).nonzero(as_tuple=True)
    fields = results.get_fields() | {"pred_boxes": Boxes(boxes)}
    if results.has("border_stds"):
        across, along = results.border_stds.unflatten(1, (2, 2)).unbind(2)  # l and r, t and b
        stds = across * (width / size[1]), along * (height / size[0])
        fields["border_stds"] = torch.stack(stds, dim=-1).flatten(1)
    return Instances((height, width), **{name: x[kept] for name, x in fields.items()})
