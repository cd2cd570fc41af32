"""From the network's frame to the user's: rescaling of the detections of one image."""

from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances


def rescale_detections(results: Instances, height: int, width: int) -> Instances:
    """Scale boxes to an output size in px and clip them to it, as ``detector_postprocess`` does but
    without its side effect on ``results``, which are in px of the network input.

    A detection that is empty then is dropped with all its fields; the others have no frame, and the
    ranking by p_box stays as it was.
    """
    fields = results.get_fields() | {"pred_boxes": Boxes(results.pred_boxes.tensor.clone())}
    return detector_postprocess(Instances(results.image_size, **fields), height, width)
