"""Put together what the tiles of large images show in several ways, and compare their AP: ours,
SAHI's GREEDYNMM by its two metrics (needs `sahi`), and plain NMS, all of the same detections."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from scopenet.cli import add_detector, add_overrides
from scopenet.detector import Detector
from scopenet.errors import brought_by, one_sentence_errors
from scopenet.images import read_image
from scopenet.predict import tiles as own
from scopenet.predict.files import coco_results

with one_sentence_errors(), brought_by("tiles"):
    from sahi.postprocess.combine import GreedyNMMPostprocess
    from sahi.prediction import ObjectPrediction

MAX_DETECTIONS = 1000  # per image, in place of COCO's 100: large images show more
Merging = Callable[[Instances, Tensor], Instances]  # of K detections and their tiles (K, 4)


def greedy_nmm(found: Instances, tiles: Tensor, *, metric: str) -> Instances:
    """Merge detections, K of them, as SAHI does by default in sliced prediction."""
    rows = zip(found.pred_boxes.tensor.tolist(), found.scores, found.pred_classes, strict=True)
    predictions = [
        ObjectPrediction(box, category_id=int(k), score=float(score), full_shape=found.image_size)
        for box, score, k in rows
    ]
    together = GreedyNMMPostprocess(own.NMS_THRESH, metric, class_agnostic=False)(predictions)
    boxes = torch.tensor([x.bbox.to_xyxy() for x in together]).reshape(-1, 4)
    return Instances(
        found.image_size,
        pred_boxes=Boxes(boxes),
        scores=torch.tensor([x.score.value for x in together]),
        pred_classes=torch.tensor([x.category.id for x in together]),
    )


def nms(found: Instances, tiles: Tensor) -> Instances:
    boxes = found.pred_boxes.tensor
    return found[batched_nms(boxes, found.scores, found.pred_classes, own.NMS_THRESH)]


MERGINGS: dict[str, Merging] = {
    "ours": partial(own.merge, nms_thresh=own.NMS_THRESH),
    "GREEDYNMM, IOS": partial(greedy_nmm, metric="IOS"),  # SAHI's default
    "GREEDYNMM, IOU": partial(greedy_nmm, metric="IOU"),
    "NMS": nms,
}


def average_precisions(truth: COCO, results: list[dict]) -> tuple[float, float, float]:
    """Return AP, AP50 and AP75 of results in COCO's format, in percent."""
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 0]  # (IoU, recall, class)
    of_iou = np.where(precision < 0, np.nan, 100 * precision)
    return tuple(float(np.nanmean(x)) for x in (of_iou, of_iou[0], of_iou[5]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_detector(parser)
    parser.add_argument("--json", type=Path, required=True, help="COCO json of large images")
    parser.add_argument("--images", type=Path, required=True, help="their folder")
    parser.add_argument("--tile", type=int, required=True, help="side of the tiles, px")
    parser.add_argument("--overlap", type=int, required=True, help="of the tiles, px")
    add_overrides(parser)
    args = parser.parse_args()
    detector = Detector.load(
        args.model, weights=args.weights, device=args.device, overrides=args.opts
    )
    truth = COCO(args.json)
    results: dict[str, list[dict]] = {name: [] for name in MERGINGS}
    tiling = {"tile": args.tile, "overlap": args.overlap, "score_thresh": 0.0}
    for number, image in truth.imgs.items():
        with patch.object(own, "merge") as unmerged:  # to be given what it is given
            own.predict_tiles(detector, read_image(args.images / image["file_name"]), **tiling)
        found, seen_in, _ = unmerged.call_args.args
        for name, merging in MERGINGS.items():
            merged = merging(found, seen_in)
            results[name] += coco_results(merged, detector, number, image["file_name"])
    figures = {name: average_precisions(truth, x) for name, x in results.items()}
    print(f"\n{'merged by':<16}{'AP':>8}{'AP50':>8}{'AP75':>8}{'boxes':>8}")
    for name, of_name in figures.items():
        print(f"{name:<16}{''.join(f'{x:>8.2f}' for x in of_name)}{len(results[name]):>8}")


if __name__ == "__main__":
    with one_sentence_errors():
        main()
