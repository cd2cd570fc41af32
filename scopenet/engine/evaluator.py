"""COCO's evaluation with average recall beside average precision."""

from detectron2.evaluation import COCOEvaluator

# Where COCOeval.summarize leaves the average recall at 10 and 100 detections per image.
_RECALLS = {"AR10": 7, "AR100": 8}


class CocoEvaluator(COCOEvaluator):
    """``COCOEvaluator`` that also reports the "AR10" and "AR100" of table 3, in percent."""

    def _derive_coco_results(self, coco_eval, iou_type, class_names=None) -> dict[str, float]:
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        if iou_type != "bbox":
            return results
        if coco_eval is None:  # no predictions
            return results | dict.fromkeys(_RECALLS, float("nan"))
        return results | {k: float(coco_eval.stats[i] * 100) for k, i in _RECALLS.items()}
