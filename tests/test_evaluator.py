"""What the evaluation reports beside COCO's own figures, on hand-made boxes."""

import contextlib
import io
import json
import logging
import math
from copy import deepcopy

import numpy as np
import pytest
from detectron2.data import Metadata, MetadataCatalog
from detectron2.evaluation import coco_evaluation
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scopenet.engine import evaluator
from scopenet.engine.evaluator import CocoEvaluator
from scopenet.engine.lrp import optimal_lrp

EXACT, IOU_80, IOU_75, IOU_40 = ([0, 0, 10, side] for side in (10, 8, 7.5, 4))  # with EXACT
ELSEWHERE, FAR = [20, 0, 10, 10], [40, 0, 10, 10]


def coco(*boxes, num_images: int = 1) -> COCO:
    """Boxes of (XYWH) or (XYWH, score) or (XYWH, score, values of the annotation)."""
    annotations = []
    for i, (box, *score) in enumerate(boxes):
        annotation = {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0}
        annotation |= {"area": box[2] * box[3], "score": score[0] if score else 1.0}
        annotations.append(annotation | (score[1] if len(score) > 1 else {}))
    api = COCO()
    api.dataset = {
        "images": [{"id": i + 1} for i in range(num_images)],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": annotations,
    }
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
    return api


def evaluated(truths: COCO, detections: COCO) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        coco_eval = COCOeval(truths, detections, "bbox")
        coco_eval.evaluate()
        coco_eval.accumulate()
        coco_eval.summarize()
    return coco_eval


def report(coco_eval: COCOeval) -> dict[str, float]:
    evaluator = CocoEvaluator.__new__(CocoEvaluator)
    evaluator._logger = logging.getLogger(__name__)
    return evaluator._derive_coco_results(coco_eval, "bbox")


def test_average_recall_is_that_of_coco():
    coco_eval = evaluated(coco((EXACT,)), coco((EXACT, 0.9)))
    coco_eval.stats = np.arange(12) / 100  # COCOeval.summarize: 6, 7, 8 are AR at 1, 10, 100
    results = report(coco_eval)
    assert [results[x] for x in ("AP", "AR10", "AR100")] == pytest.approx([0, 7, 8])


def test_without_ground_truth_there_are_no_figures():
    results = report(evaluated(coco(), coco((EXACT, 0.9))))
    assert all(math.isnan(results[x]) for x in ("AP", "AR10", "AP55", "oLRP", "oLRP_loc"))


def test_precision_at_each_iou():
    # One object is found exactly, the other one with an IoU of 0.75.
    truths = coco((EXACT,), (ELSEWHERE,))
    results = report(evaluated(truths, coco((IOU_75, 0.8), (ELSEWHERE, 0.9))))
    found = {int(k[2:]): x for k, x in results.items() if k[2:].isdigit() and k[1] == "P"}
    one_of_two = 100 * 51 / 101  # precision 1 for the recalls 0, 0.01, ... 0.5, then 0
    expected = {iou: 100.0 if iou <= 75 else one_of_two for iou in range(50, 100, 5)}
    assert found == pytest.approx(expected)
    assert results["AP"] == pytest.approx(np.mean([*expected.values()]))


@pytest.mark.parametrize(
    ("truths", "detections", "error", "localization"),
    [
        ([(EXACT,)], [(EXACT, 0.9)], 0.0, 0.0),
        ([(EXACT,)], [(IOU_75, 0.9)], 0.25 / 0.5, 0.25),
        ([(EXACT,)], [], 1.0, math.nan),
        ([(EXACT,)], [(IOU_40, 0.9)], 1.0, math.nan),  # a false positive and a miss, or a miss
        # One found, one missed: 1 / 2.
        ([(EXACT,), (ELSEWHERE,)], [(EXACT, 0.9)], 0.5, 0.0),
        # Down to 0.9: 1 / 2. To 0.8: (1 + 1) / 3. To 0.7: (0.4 + 1) / 3, the least.
        (
            [(ELSEWHERE,), (EXACT,)],
            [(ELSEWHERE, 0.9), (FAR, 0.8), (IOU_80, 0.7)],
            1.4 / 3,
            0.1,
        ),
        # The second at 0.8 is in the wrong place, and no threshold tells it from the other one.
        (
            [(ELSEWHERE,), (EXACT,)],
            [(ELSEWHERE, 0.9), (IOU_80, 0.8), (FAR, 0.8)],
            1.4 / 3,
            0.1,
        ),
        # Found twice: the second is a false positive, which a threshold of 0.9 leaves out.
        ([(EXACT,)], [(EXACT, 0.9), (IOU_80, 0.8)], 0.0, 0.0),
        # In a crowd nothing is wrong.
        (
            [(EXACT,), (FAR, 1.0, {"iscrowd": 1})],
            [(FAR, 0.95), (FAR, 0.93), (IOU_75, 0.9)],
            0.5,
            0.25,
        ),
        # The mean over classes, here 0.5 and 1; a class without right boxes localizes none.
        (
            [(EXACT,), (FAR, 1.0, {"category_id": 2})],
            [(IOU_75, 0.9), (FAR, 0.8)],
            0.75,
            0.25,
        ),
    ],
)
def test_optimal_lrp(truths, detections, error, localization):
    found = optimal_lrp(coco(*truths, num_images=2), coco(*detections, num_images=2))
    assert found == pytest.approx((error, localization), nan_ok=True)


@pytest.mark.parametrize("is_own", [True, False])
def test_workers_that_only_detect_have_no_ground_truth(monkeypatch, tmp_path, is_own):
    truth = coco((EXACT,))
    (tmp_path / "truth.json").write_text(json.dumps(truth.dataset | {"info": {}}))
    monkeypatch.setattr(evaluator, "is_custom", lambda name: is_own)
    monkeypatch.setattr(evaluator, "custom_ground_truth", lambda name: truth)
    metadata = Metadata(name="some", json_file=str(tmp_path / "truth.json"))
    monkeypatch.setitem(MetadataCatalog.data, "some", metadata)
    found = {}
    for is_main in (True, False):
        monkeypatch.setattr(comm, "is_main_process", lambda is_main=is_main: is_main)
        for distributed in (True, False):
            of_worker = CocoEvaluator("some", distributed=distributed)
            assert of_worker._metadata is metadata
            found[is_main, distributed] = len(of_worker._coco_api.anns)
    assert found == {(True, True): 1, (True, False): 1, (False, True): 0, (False, False): 1}


def test_optimal_lrp_takes_one_threshold_for_all_images():
    # In the second image the better one is wrong: alone, the first would be without an error.
    second = {"image_id": 2}
    truths = coco((EXACT,), (EXACT, 1.0, second), num_images=2)
    detections = coco((EXACT, 0.6), (FAR, 0.7, second), (EXACT, 0.5, second), num_images=2)
    assert optimal_lrp(truths, detections) == pytest.approx((1 / 3, 0.0))


def random_boxes(rng, number: int, num_images: int) -> list[tuple]:
    boxes = []
    for score in rng.integers(0, 100, number) / 100:  # many are equal
        corner, size = rng.integers(0, 200, 2), rng.integers(8, 150, 2)
        values = {"image_id": int(rng.integers(num_images)) + 1}
        values |= {"category_id": int(rng.integers(2)) + 1, "iscrowd": int(rng.random() < 0.05)}
        boxes.append(([*map(int, (*corner, *size))], float(score), values))
    return boxes


def test_the_faster_evaluation_gives_the_figures_of_pycocotools(monkeypatch, tmp_path):
    rng, num_images = np.random.default_rng(0), 20
    truths = random_boxes(rng, 150, num_images)
    found = []
    for (x, y, w, h), _, values in truths:  # near the truth, and anywhere
        near = [x + int(rng.integers(-9, 9)), y, w + int(rng.integers(-7, 7)), h]
        found.append((near, float(rng.integers(100) / 100), values | {"iscrowd": 0}))
    found += [(box, score, x | {"iscrowd": 0}) for box, score, x in random_boxes(rng, 200, 20)]
    (tmp_path / "truth.json").write_text(
        json.dumps(coco(*truths, num_images=num_images).dataset | {"info": {}})
    )
    detections = coco(*found, num_images=num_images).dataset["annotations"]
    keys = ("image_id", "category_id", "bbox", "score")
    of_images = [{"instances": [{k: x[k] for k in keys} for x in detections]}]
    metadata = Metadata(name="some", json_file=str(tmp_path / "truth.json"))
    monkeypatch.setitem(MetadataCatalog.data, "some", metadata)
    figures, used = [], []
    for is_installed in (False, True):
        monkeypatch.setattr(coco_evaluation, "COCOeval_opt", COCOeval)
        monkeypatch.setattr(evaluator, "find_spec", lambda name, found=is_installed: found)
        of_dataset = CocoEvaluator("some", tasks=("bbox",), distributed=False)
        used.append(coco_evaluation.COCOeval_opt.__name__)
        of_dataset._predictions = deepcopy(of_images)
        figures.append(of_dataset.evaluate()["bbox"])
    assert used == ["COCOeval", "COCOeval_faster"]
    assert 20 < figures[0]["AP"] < 80 and len(figures[0]) > 15
    assert figures[1] == pytest.approx(figures[0], abs=1e-10, nan_ok=True)
