"""From the network's frame to the user's: rescaling of the detections of one image."""

from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances


def rescale_detections(results: Instances, height: int, width: int) -> Instances:
    """Detectron2's ``detector_postprocess`` without its side effect on ``results``.

    Boxes are scaled to the output size and clipped to it; a detection that is empty then is
    dropped with all its fields (``loc_scores`` and ``border_scores`` are per detection and have no
    frame, so they need no rescaling). The ranking by p_box stays as it was.

    Args:
        results: detections in px of the network input, ``results.image_size`` = (h, w) of it.
        height, width: the wanted output size, px.
    """
    fields = results.get_fields() | {"pred_boxes": Boxes(results.pred_boxes.tensor.clone())}
    return detector_postprocess(Instances(results.image_size, **fields), height, width)
