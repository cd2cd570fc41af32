"""COCO's evaluation with recall, AP at every IoU and the optimal LRP error beside AP, also of
nothing found."""

import contextlib
import io
import logging
import math
from importlib.util import find_spec
from pathlib import Path

from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.custom import is_custom
from ..data.labels import usable_labels
from .lrp import optimal_lrp

# Where COCOeval.summarize leaves the average recall at 10 and 100 detections per image.
_RECALLS = {"AR10": 7, "AR100": 8}
# COCOEvaluator takes its ground truth only from the file of a data set, which may be large: it gets
# this one, and what was read of the file before.
NOTHING = "scopenet_nothing"
MetadataCatalog.get(NOTHING).json_file = str(Path(__file__).with_name("nothing.json"))
_SIZES = {"APs": "small", "APm": "medium", "APl": "large"}


class CocoEvaluator(COCOEvaluator):
    """Reports beside what ``COCOEvaluator`` does, in percent: "AR10" and "AR100" of table 3, AP at
    every IoU ("AP50", "AP55", ... "AP95"), and "oLRP" with its part "oLRP_loc" (:mod:`.lrp`).

    Without any detection AP is 0, and NaN only where there is no ground truth. Data sets of
    ``DATASETS.CUSTOM`` are evaluated without the annotations that are not usable. Worker processes
    that send their detections to the first one have no ground truth. The matching is done by
    faster-coco-eval where it is installed.
    """

    def __init__(self, dataset_name: str, tasks=None, distributed: bool = True, *args, **kwargs):
        only_detects = distributed and not comm.is_main_process()
        has_file = not only_detects and not is_custom(dataset_name)
        name = dataset_name if has_file else NOTHING
        use_faster_evaluation()
        super().__init__(name, tasks, distributed, *args, **kwargs)
        self._metadata = MetadataCatalog.get(dataset_name)
        if not (only_detects or has_file):
            self._coco_api = custom_ground_truth(dataset_name)

    def _derive_coco_results(self, coco_eval, iou_type, class_names=None) -> dict[str, float]:
        if iou_type != "bbox":
            return super()._derive_coco_results(coco_eval, iou_type, class_names)
        logger = logging.getLogger(__name__)
        if coco_eval is None:
            logger.warning("Nothing was detected in any image: AP is 0.")
            coco_eval = evaluate_nothing(self._coco_api)
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        results |= {k: _percent(coco_eval.stats[i]) for k, i in _RECALLS.items()}
        results |= _precision_by_iou(coco_eval)
        lrp = optimal_lrp(coco_eval.cocoGt, coco_eval.cocoDt)
        results |= {"oLRP": 100 * lrp.error, "oLRP_loc": 100 * lrp.localization}
        if without := [size for key, size in _SIZES.items() if math.isnan(results[key])]:
            logger.info(
                f"There are no {' or '.join(without)} objects: their AP is left empty (nan), not 0."
            )
        return results


def use_faster_evaluation() -> None:
    """Give Detectron2 the evaluation of faster-coco-eval, where that is installed, in the place of
    its own compiled one, which a Detectron2 without compiled code lacks."""
    if coco_evaluation.COCOeval_opt is COCOeval and find_spec("faster_coco_eval"):
        from faster_coco_eval import COCOeval_faster

        coco_evaluation.COCOeval_opt = COCOeval_faster


def _precision_by_iou(coco_eval: COCOeval) -> dict[str, float]:
    """Return AP at each IoU, over objects of all sizes."""
    results = {}
    for iou, precision in zip(coco_eval.params.iouThrs, coco_eval.eval["precision"], strict=True):
        known = precision[:, :, 0, -1]  # (recalls, classes)
        known = known[known > -1]
        results[f"AP{iou * 100:.0f}"] = 100 * float(known.mean()) if known.size else math.nan
    return results


def _percent(share: float) -> float:
    """Convert COCOeval's figure to percent; it writes -1 where there is no ground truth."""
    return float(share * 100) if share >= 0 else math.nan


def custom_ground_truth(dataset_name: str) -> COCO:
    """Return what is usable of the annotations of a data set of ``DATASETS.CUSTOM``."""
    content, _ = usable_labels(MetadataCatalog.get(dataset_name).json_file)
    return _indexed({"info": {}} | content)  # which some versions of pycocotools want


def _indexed(content: dict) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        api = COCO()
        api.dataset = content
        api.createIndex()
    return api


def evaluate_nothing(ground_truth: COCO) -> COCOeval:
    """Let COCOeval measure where nothing was detected; its own loading of results wants some."""
    nothing = _indexed(ground_truth.dataset | {"annotations": []})
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = COCOeval(ground_truth, nothing, "bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval
