"""A program: print the CPU time that COCO's evaluation takes of detections near a json's boxes, and
others, by pycocotools and by faster-coco-eval.

python tests/time_of_evaluation.py big.json
"""

import contextlib
import io
import sys
import time

import numpy as np
from faster_coco_eval import COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FALSE_ONES = 4  # detections elsewhere for every box


def made_up_detections(truth: COCO) -> list[dict]:
    rng, found = np.random.default_rng(0), []
    for annotation in truth.anns.values():
        for spread in (8, *[200] * FALSE_ONES):
            x, y, w, h = annotation["bbox"] + rng.normal(0, spread, 4)
            found.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": [x, y, abs(w), abs(h)],
                    "score": float(rng.random() * (1 if spread < 100 else 0.7)),
                }
            )
    return found


def seconds(evaluation: type[COCOeval], truth: COCO, found: COCO) -> tuple[float, float]:
    """Return the CPU time in s, and AP."""
    started = time.process_time()
    coco_eval = evaluation(truth, found, "bbox")
    coco_eval.evaluate()
    coco_eval.accumulate()
    coco_eval.summarize()
    return time.process_time() - started, coco_eval.stats[0]


if __name__ == "__main__":
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(sys.argv[1])
        found = truth.loadRes(made_up_detections(truth))
        results = [seconds(x, truth, found) for x in (COCOeval, COCOeval_faster)]
    for name, (time_taken, ap) in zip(("pycocotools", "faster-coco-eval"), results, strict=True):
        print(f"{name}: {time_taken:.1f} s, AP {ap:.6f}")
