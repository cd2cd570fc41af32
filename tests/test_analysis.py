"""What the analysis measures, against cases worked out by hand."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from builders import build_scopenet, ground_truth, random_ground_truth, random_predictions

from scopenet.analysis import border_calibration
from scopenet.analysis.bin_choice import border_figures, confusion, iou_figures
from scopenet.analysis.border_calibration import (
    calibration_error,
    coverage,
    found_borders,
    reliability,
)
from scopenet.analysis.borders import border_tables, edge_distances
from scopenet.analysis.calibration import binned_mean, rank_correlation, score_quality
from scopenet.analysis.coco_evaluation import evaluate, matches, mean_precision
from scopenet.analysis.dataset import Dataset, add_shape
from scopenet.analysis.error_types import (
    ADVICE,
    ERRORS,
    error_costs,
    label_errors,
    missed_truths,
    verdict,
)
from scopenet.analysis.hedging import hedging
from scopenet.analysis.pictures import box_quality
from scopenet.analysis.run import Run
from scopenet.analysis.shapes import ap_by_aspect, count_objects, occupied, summary
from scopenet.analysis.thresholds import (
    best_thresholds,
    class_confusion,
    curves,
    largest_confusions,
    threshold_curve,
)

COLUMNS = ["image", "label", "x0", "y0", "x1", "y1"]


def truths(*rows, iscrowd: int = 0) -> pd.DataFrame:
    """Ground truth from rows (image, label, x0, y0, x1, y1)."""
    table = pd.DataFrame(rows, columns=COLUMNS).assign(iscrowd=iscrowd)
    return add_shape(table.assign(id=range(1, len(rows) + 1)))


def detections(*rows) -> pd.DataFrame:
    """Detections from rows (image, label, x0, y0, x1, y1, score)."""
    return add_shape(pd.DataFrame(rows, columns=[*COLUMNS, "score"]))


def run_of(
    found: pd.DataFrame, true: pd.DataFrame, images: tuple[int, ...] = (1, 2), num_classes: int = 2
) -> Run:
    """What a detector has found in a data set of these images and classes."""
    dicts = [{"image_id": x} for x in images]
    class_names = [str(k) for k in range(num_classes)]
    return Run("", torch.nn.Module(), Dataset("", len(dicts), dicts, true, class_names), found)


# Image 1: a square of class 0 and one of class 1, apart from each other; image 2: another one.
# IoU of a 100 px square with a copy moved by d px along one side is (100 - d) / (100 + d).
TRUTH = truths((1, 0, 0, 0, 100, 100), (1, 1, 200, 0, 300, 100), (2, 0, 0, 0, 100, 100))
FOUND = detections(
    (1, 0, 0, 0, 100, 100, 0.9),  # right
    (1, 0, 25, 0, 125, 100, 0.8),  # IoU 0.6, but the object is found already: duplicate
    (1, 0, 200, 0, 300, 100, 0.7),  # classification
    (1, 1, 250, 0, 350, 100, 0.6),  # IoU 1/3: localization
    (1, 0, 250, 0, 350, 100, 0.5),  # IoU 1/3 with another class: both
    (1, 0, 500, 500, 600, 600, 0.4),  # background
    (1, 1, 95, 0, 195, 100, 0.3),  # IoU 5/195 with another class: background
)
RUN = run_of(FOUND, TRUTH)


def test_true_iou_is_that_with_the_best_box_of_the_class():
    expected = [1, 0.6, 0, 1 / 3, 0, 0, 0]
    np.testing.assert_allclose(RUN.true_ious, expected, atol=1e-6)


def test_true_iou_leaves_out_crowds_and_other_images():
    crowd = truths((1, 0, 0, 0, 100, 100), iscrowd=1)
    elsewhere = truths((2, 0, 0, 0, 100, 100))
    assert run_of(FOUND[:1], crowd).true_ious.tolist() == [0]
    assert run_of(FOUND[:1], elsewhere).true_ious.tolist() == [0]


def test_borders_are_right_within_a_tenth_of_their_side():
    # Boxes of 200 x 100 px; the second detection is about no object, the third of another class.
    true = truths((1, 0, 0, 0, 200, 100), (2, 1, 0, 0, 200, 100))
    found = detections(
        (1, 0, 19, 11, 211, 100, 0.9),
        (1, 0, 500, 0, 700, 100, 0.8),
        (2, 0, 0, 0, 200, 100, 0.7),
        (2, 1, 0, 0, 200, 94, 0.6),
    )
    confidences = [[0.95, 0.85, 0.55, 0.65], [1] * 4, [1] * 4, [0.9, 0.25, 0.05, 1.0]]
    found[["p_l", "p_t", "p_r", "p_b"]] = confidences
    found[["std_l", "std_t", "std_r", "std_b"]] = [[20, 10, 5, 1], [1] * 4, [1] * 4, [1, 1, 1, 3]]
    borders = found_borders(run_of(found, true))
    assert borders.error.tolist() == [19, 11, 11, 0, 0, 0, 0, 6]
    # A tenth of the found box's sides: 19.2 and 8.9 px, 20 and 9.4 px.
    assert borders.is_right.tolist() == [True, False, True, True, True, True, True, True]
    assert borders.confidence.tolist() == [*confidences[0], *confidences[3]]
    assert coverage(borders) == {"± 1": 100 * 5 / 8, "± 2": 100 * 7 / 8}

    model = build_scopenet((16,), border_errors=True)
    section = border_calibration.section([replace(run_of(found, true), model=model)])
    ((headline, *_),) = section.headlines
    assert headline == f"{calibration_error(borders):.3f}"
    _, table = section.blocks
    assert table.rows[0][1:3] == ["62.5", "87.5"]


def test_calibration_error_is_the_mean_gap_of_the_intervals():
    borders = pd.DataFrame(
        {
            "confidence": [0.92, 0.98, 0.96, 0.94, 0.41, 0.45, 1.0, 0.0],
            "is_right": [True, True, True, False, True, False, True, False],
        }
    )
    table = reliability(borders)
    assert table["count"].tolist() == [1, 2, 5]
    np.testing.assert_allclose(table.confidence, [0, 0.43, 0.96])
    np.testing.assert_allclose(table.is_right, [0, 0.5, 0.8])
    assert calibration_error(borders) == pytest.approx((0 + 2 * 0.07 + 5 * 0.16) / 8)


def test_matches_are_those_of_coco():
    result = evaluate(RUN.dataset, FOUND, iou_thresholds=[0.5])
    matched = matches(result)
    assert matched.truth.tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert not matched.ignored.any()
    # Class 0: one of two is found, with precision 1: 51 of the 101 recalls. Class 1: nothing.
    assert mean_precision(result) == pytest.approx((51 / 101 + 0) / 2)
    assert mean_precision(result, recall=0.5) == pytest.approx(0.5)
    assert mean_precision(result, recall=0.6) == 0


def test_a_detection_of_a_crowd_is_ignored():
    crowd = truths((1, 0, 0, 0, 100, 100), iscrowd=1)
    run = run_of(FOUND[:1], crowd)
    matched = matches(evaluate(run.dataset, run.detections, iou_thresholds=[0.5]))
    assert matched.ignored.tolist() == [True]


def test_nothing_detected_is_an_ap_of_zero():
    result = evaluate(RUN.dataset, FOUND[:0])
    assert mean_precision(result) == 0
    assert matches(result).empty


def test_error_types():
    errors = label_errors(RUN)
    assert errors.error.tolist() == [
        *("", "duplicate", "classification", "localization", "both", "background", "background")
    ]
    assert errors.truth.tolist() == [1, 0, 2, 2, 0, 0, 0]
    assert missed_truths(errors, TRUTH).tolist() == [3]


def test_the_verdict_names_what_costs_most():
    costs = pd.DataFrame({"count": 7, "dAP50": 1.0}, index=list(ERRORS))
    costs.loc["localization", "dAP50"], costs.loc["duplicate", "dAP50"] = 12.34, 5.0
    what, amount, advice = verdict(costs, 40)
    assert "“localization” (a detection on an object of its class" in what and "7 of them" in what
    assert "12.3 points higher; next comes “duplicate” with 5.0" in amount
    assert advice.startswith("What to do: ") and "whether labels are tight" in advice
    costs.loc["missed", "count"], costs.loc["missed", "dAP50"] = 9, 20.0
    assert verdict(costs, 40)[0] == "What costs most are missed objects: 9 of 40."
    costs["dAP50"] = 0.0
    assert verdict(costs, 40) == ["No kind of error costs any AP50 here."]
    costs["dAP50"] = float("nan")
    assert len(verdict(costs, 0)) == 1
    assert set(ADVICE) == set(ERRORS)


def test_cost_of_errors():
    costs = error_costs(RUN)
    counts = {
        "classification": 1,
        "localization": 1,
        "both": 1,
        "duplicate": 1,
        "background": 2,
        "missed": 1,
    }
    assert costs["count"].to_dict() == counts
    before = 51 / 101 / 2
    # Put right, class 1 is found by the first of its detections, class 0 stays as it is.
    assert costs.dAP50["classification"] == pytest.approx(100 * ((51 / 101 + 1) / 2 - before))
    assert costs.dAP50["localization"] == pytest.approx(100 * ((51 / 101 + 1) / 2 - before))
    # Behind the only right detection, what is wrong costs nothing.
    assert costs.dAP50["duplicate"] == pytest.approx(0)
    # Without the missed object class 0 is found completely.
    assert costs.dAP50["missed"] == pytest.approx(100 * ((1 + 0) / 2 - before))


def test_only_the_best_of_several_wrong_detections_is_put_right():
    twice = detections((1, 0, 200, 0, 300, 100, 0.7), (1, 0, 201, 0, 301, 100, 0.6))
    costs = error_costs(run_of(twice, TRUTH[1:2]))
    assert costs["count"]["classification"] == 2
    assert costs.dAP50["classification"] == pytest.approx(100)


def test_rank_correlation():
    assert rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    # Ranks differ by 0, 1, 1, 0: 1 - 6 (1 + 1) / (4 (16 - 1)).
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(0.8)
    assert math.isnan(rank_correlation([1, 1, 1], [1, 2, 3]))
    assert math.isnan(rank_correlation([1, 2], [1, 2]))


def test_a_score_that_knows_the_iou_ranks_better():
    # Two objects of one class, each with a good box and a bad one that overlap too little to be
    # each other's duplicates at IoU 0.75: moved by 20 px they have IoU 2/3.
    true = truths((1, 0, 0, 0, 100, 100), (1, 0, 300, 0, 400, 100))
    found = detections(
        (1, 0, 20, 0, 120, 100, 0.9),
        (1, 0, 0, 0, 100, 100, 0.8),
        (1, 0, 280, 0, 380, 100, 0.7),
        (1, 0, 300, 0, 400, 100, 0.6),
    )
    found["knowing"] = [0.2, 0.9, 0.1, 0.8]
    table = score_quality(run_of(found, true, (1,), 1), ["score", "knowing"])
    assert table.AP75["knowing"] == pytest.approx(100)
    # Precision 1/2 at both recalls: interpolated, 1/2 everywhere.
    assert table.AP75["score"] == pytest.approx(50)
    assert table["P@R 0.9"].tolist() == pytest.approx([50, 100])
    # IoUs have ranks 1.5, 3.5, 1.5, 3.5, the knowing score 2, 4, 1, 3: Pearson of the ranks.
    ranks = np.corrcoef([1.5, 3.5, 1.5, 3.5], [2, 4, 1, 3])[0, 1]
    assert table["rank correlation"]["knowing"] == pytest.approx(ranks)
    assert table["of those found"]["knowing"] == pytest.approx(ranks)


def test_binned_mean_leaves_out_thin_bins():
    table = binned_mean(
        np.array([0.1, 0.2, 0.9]), np.array([1.0, 3.0, 7.0]), np.array([0, 0.5, 1]), min_samples=2
    )
    assert table.x.tolist() == [0.25]
    assert table["mean"].tolist() == [2] and table["std"].tolist() == [1]


def test_threshold_curve():
    curve = threshold_curve(np.array([0.5, 0.9, 0.5, 0.7]), np.array([1, 1, 0, 0], bool), 4)
    assert curve.threshold.tolist() == [0.9, 0.7, 0.5]
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 4])
    np.testing.assert_allclose(curve.recall, [1 / 4, 1 / 4, 2 / 4])
    np.testing.assert_allclose(curve.f1, [2 / 5, 2 / 6, 4 / 8])


def test_best_thresholds_are_per_class():
    best = best_thresholds(curves(RUN))
    assert best.threshold.to_dict() == {0: 0.9, 1: 0.6, "all": 0.9}
    assert best.f1.to_dict() == pytest.approx({0: 2 / 3, 1: 0, "all": 2 / 4})


def test_class_confusion():
    counts = class_confusion(RUN, threshold=0.35)
    expected = [
        [1, 0, 1],  # one of class 0 is found, the one in image 2 is missed
        [1, 0, 0],  # class 1 is taken for class 0
        [3, 1, 0],  # duplicate, both and one background; the misplaced one of class 1
    ]
    assert counts.tolist() == expected
    largest = largest_confusions(counts, ["a", "b"], limit=5)
    assert largest.to_dict("records") == [{"true": "b", "detected": "a", "count": 1}]


def test_quality_of_images():
    table = box_quality(RUN)
    assert table.index.tolist() == [1, 2]
    # One right with IoU 1, six wrong, one missed.
    assert table.quality.tolist() == pytest.approx([1 / (1 + 6 / 2 + 1 / 2), 0])
    assert table.loc[2, ["right", "wrong", "missed"]].tolist() == [0, 0, 1]


def test_ap_by_size_agrees_with_coco_and_counts_half_open():
    true = truths((1, 0, 0, 0, 31, 31), (1, 0, 100, 100, 132, 132), (1, 0, 200, 0, 300, 100))
    found = detections((1, 0, 0, 0, 31, 31, 0.9), (1, 0, 200, 0, 300, 100, 0.8))
    ap = summary(run_of(found, true, (1,), 1))
    assert ap[["APs", "APm", "APl"]].tolist() == pytest.approx([100, 0, 100])
    # Two of three objects, all right: recalls 0 to 0.66.
    assert ap[["AP", "AP50", "AP75"]].tolist() == pytest.approx([100 * 67 / 101] * 3)
    counts = count_objects(true, {"< 32": (0, 32**2), "≥ 32": (32**2, 100**2)}, "area")
    assert counts.tolist() == [1, 1]


def test_ap_by_aspect_ignores_other_shapes():
    true = truths((1, 0, 0, 0, 100, 100), (1, 0, 200, 0, 240, 100))
    found = detections((1, 0, 0, 0, 100, 100, 0.8), (1, 0, 500, 0, 540, 100, 0.9))
    ap = ap_by_aspect(run_of(found, true, (1,), 1))
    # The false detection has the shape of the object that is missed, 2:5.
    assert ap["3:4–4:3"] == pytest.approx(100)
    assert ap["1:3–1:2"] == 0
    assert math.isnan(ap["≥ 3:1"])


def test_ranges_in_use():
    assert occupied(pd.Series([0, 2, 0, 1, 0], index=list("abcde"))) == ["b", "c", "d"]


def test_distance_to_the_nearest_edge_between_bins():
    edges = torch.tensor([[1.0, 2, 4, 8]]).expand(2, 4)
    distances = torch.tensor([[0.5, 2, 3, 64], [4, 2**1.25, 2**1.75, 1]])
    expected = torch.tensor([[2, 0, math.log2(4 / 3), 4], [0, 0.25, 0.25, 1]])
    torch.testing.assert_close(edge_distances(distances, edges), expected)


@pytest.fixture(scope="module")
def hand_made_borders():
    """The tables of a model with one level of stride 8 and bins [0, 32), [32, inf), whose anchors
    are 16 and 45.25 px, for a box around one location, with l t r b = 16, 20, 40, 50 px."""
    model = build_scopenet(strides=(8,), num_bins=2, num_classes=1, level_boundaries=[])
    center = (8 + 0.5) * 8  # row and column 8
    box = [center - 16, center - 20, center + 40, center + 50]
    logits = torch.zeros(1, 4 * 3, 16, 16)
    # Left is right and sure; top is wrong; right is right; bottom is wrong. log sigma^2 is 0.
    for channel, value in ((0, 2.0), (4, 1.0), (7, 3.0), (9, 1.0)):
        logits[:, channel] = value
    deltas = torch.zeros(1, 4 * 2, 16, 16)
    deltas[:, 0] = math.log(1.5)  # left, first bin: 24 px
    deltas[:, 2] = math.log(4)  # top, first bin: 64 px, which is beyond its bin
    predictions = [torch.zeros(1, 1, 16, 16)], [logits], [deltas]
    borders, positives = border_tables(model, predictions, [ground_truth([box], [0])])
    distances = borders.distance.to_numpy().reshape(-1, 4)
    at_center = (distances == [16, 20, 40, 50]).all(1)
    assert model.bin_edges.tolist() == [[16, 32, 64]]
    return borders[np.repeat(at_center, 4)], positives[at_center]


def test_borders_of_hand_made_logits(hand_made_borders):
    table, _ = hand_made_borders
    assert table.direction.tolist() == ["l", "t", "r", "b"]
    assert table.bin.tolist() == [0, 0, 1, 1]
    assert table.best_bin.tolist() == [0, 1, 1, 0]
    sure = [1 / (1 + math.exp(-x)) for x in (2, 1, 3, 1)]
    assert table.confidence.tolist() == pytest.approx(sure)
    first, second = 2**4.5, 2**5.5
    assert table.from_bin.tolist() == pytest.approx([1.5 * first, 4 * first, second, second])
    assert table.from_best_bin.tolist() == pytest.approx([1.5 * first, second, second, first])
    assert table.decoded_bin.tolist() == [1, 1, 1, 1]  # 33.9, 90.5, 45.3 and 45.3 px
    assert table.decoded_best_bin.tolist() == [1, 1, 1, 0]
    expected = [1, math.log2(32 / 20), math.log2(40 / 32), math.log2(50 / 32)]
    assert table.edge_distance.tolist() == pytest.approx(expected, rel=1e-5)


def test_figures_of_hand_made_logits(hand_made_borders):
    table, positives = hand_made_borders
    assert confusion(table, 2).tolist() == [[1, 1], [1, 1]]
    row = border_figures(table, "level").loc["all"]
    assert row["borders"] == 4 and row["bin accuracy"] == 50 and row["off by > 1 bin"] == 0
    assert row["decoded elsewhere"] == 25  # left alone
    assert row["decoded elsewhere, true bin"] == 50  # left and top
    by_direction = border_figures(table, "direction")
    assert by_direction.loc[["l", "t", "r", "b"], "bin accuracy"].tolist() == [100, 0, 100, 0]
    first, second = 2**4.5, 2**5.5
    assert by_direction["error"]["b"] == pytest.approx(50 - first, rel=1e-5)
    assert by_direction["error, true bin"]["b"] == pytest.approx(50 - second, rel=1e-5)

    figures = iou_figures(positives).loc["all"]
    assert figures.positives == 1
    true = (16 + 40) * (20 + 50)
    chosen = (1.5 * first + second) * (second + first)
    # Each border of the chosen box lies outside, but for the bottom one.
    common = (16 + 40) * (20 + first)
    iou = 100 * common / (true + chosen - common)
    assert figures["IoU, chosen bins"] == pytest.approx(iou, rel=1e-5)
    assert figures.gap == pytest.approx(figures["IoU, true bins"] - iou, rel=1e-4)


def test_hedging_is_told_from_its_opposite():
    table = pd.DataFrame(
        {
            "level": [0] * 4 + [1] * 4,
            "bin": [1] * 4 + [0] * 4,
            "edge_distance": [0.1, 0.2, 0.3, 0.4] * 2,
            "log_variance": [4, 3, 2, 1, 1, 2, 3, 4],
            "confidence": [0.5, 0.6, 0.7, 0.8, 0.8, 0.7, 0.6, 0.5],
        }
    )
    rho = hedging(table, num_bins=3)
    assert rho.index.tolist() == [0, 1, "all", "inner bins"]
    assert rho.log_variance.tolist() == pytest.approx([-1, 1, 0, -1])
    assert rho.confidence.tolist() == pytest.approx([1, -1, 0, 1])


def test_metrics_of_training_agree():
    """The tables are what the trainer logs of the same batch."""
    model = build_scopenet(num_classes=3)
    sizes = [(-(-160 // s), -(-192 // s)) for s in model.strides]
    predictions = random_predictions(model, sizes, num_images=2)
    truth = [random_ground_truth(6, 3, 160, 192, seed=i) for i in range(2)]
    table, positives = border_tables(model, predictions, truth)
    labels = model.label_locations(predictions, truth)
    _, metrics = model.losses(predictions, truth, labels, torch.ones(2))
    metrics = {name: x.item() for name, x in metrics.items()}
    assert len(positives) == len(labels.box) > 10
    accuracy = border_figures(table, "level").loc["all", "bin accuracy"]
    assert accuracy == pytest.approx(100 * metrics["bin_accuracy"], rel=1e-5)
    figures = iou_figures(positives).loc["all"]
    assert figures["IoU, true bins"] == pytest.approx(100 * metrics["iou_target_bin"], rel=1e-5)
    assert figures["IoU, chosen bins"] == pytest.approx(100 * metrics["iou_best_bin"], rel=1e-5)
    assert table.log_variance.mean() == pytest.approx(metrics["log_variance"], rel=1e-5)
