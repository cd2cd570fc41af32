"""Which images are the best and the worst? Drawn as in figure 4 of the paper."""

import numpy as np
import pandas as pd
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.utils.visualizer import Visualizer
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from ..visualization import CONFIDENCE_COLORS, CONFIDENCES, border_lines
from .boxes import BOX
from .coco_evaluation import evaluate, matches
from .page import Figure, Gallery, Section
from .plots import figure_uri, new_figure, photo_uri
from .run import BORDER_SCORES, Run
from .thresholds import best_thresholds, curves_of

TITLE = "Figure 4: the best and the worst images"
NUM_PICTURES = 6  # of each kind
MAX_LABELS = 15  # of a picture; more would hide it
PICTURE_WIDTH = 560  # px, at least
SCORES = Normalize(0.0, 1.0)  # of detectors without confidences


def box_quality(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, matched: pd.DataFrame, ious: np.ndarray
) -> pd.DataFrame:
    """Measure the panoptic quality of the boxes of each image with ground truths (Kirillov et al.
    2019, https://arxiv.org/abs/1801.00868): sum of the IoUs of right detections, over their number
    plus half of the wrong ones and half of the missed ground truths.

    Args:
        detections: those above a threshold that suits the use.
        matched: of :func:`~.coco_evaluation.matches` for them.
        ious: see :func:`~.boxes.true_ious`, for them.

    Returns:
        by image, best first: ``quality`` in [0, 1], ``right``, ``wrong`` and ``missed``.
    """
    counted = detections.reset_index(drop=True).assign(iou=ious).join(matched, how="inner")
    counted = counted[~counted.ignored]
    is_right = counted.truth > 0
    true = ground_truth[ground_truth.iscrowd == 0]
    table = pd.DataFrame(
        {
            "right": counted[is_right].groupby("image").size(),
            "wrong": counted[~is_right].groupby("image").size(),
            "iou": counted[is_right].groupby("image").iou.sum(),
            "truths": true.groupby("image").size(),
        }
    ).fillna(0)
    table = table[table.truths > 0].astype({"right": int, "wrong": int, "truths": int})
    table["missed"] = table.truths - table.right
    table["quality"] = table.iou / (table.right + table.wrong / 2 + table.missed / 2)
    table = table.sort_values("quality", ascending=False, kind="stable")
    return table[["quality", "right", "wrong", "missed"]]


def draw_borders(
    dataset_dict: dict, detections: pd.DataFrame, truths: pd.DataFrame, metadata
) -> np.ndarray:
    """Draw the image with ground truth in dashes and detections, every border in the colour of its
    own confidence (of the score where there is no such thing); RGB uint8."""
    pixels = read_image(dataset_dict["file_name"], format="RGB")
    side = max(pixels.shape)
    canvas = Visualizer(pixels, metadata, scale=max(1.0, PICTURE_WIDTH / side))
    for box in truths[BOX].to_numpy():
        for x, y in border_lines(box):
            canvas.draw_line(x, y, "black", linewidth=side / 300)
            canvas.draw_line(x, y, "white", linestyle="--", linewidth=side / 300)
    for _, detection in detections[::-1].iterrows():  # the best on top
        _draw_detection(canvas, detection, side, named=len(detections) <= MAX_LABELS)
    return canvas.output.get_image()


def _draw_detection(canvas: Visualizer, detection: pd.Series, side: int, *, named: bool) -> None:
    """Draw one detection; the width of lines and letters follows ``side``, the longer one of the
    image in px."""
    scale = CONFIDENCES if BORDER_SCORES[0] in detection else SCORES
    confidences = detection.reindex(BORDER_SCORES).fillna(detection.score)
    for (x, y), confidence in zip(border_lines(detection[BOX]), confidences, strict=True):
        color = CONFIDENCE_COLORS(scale(float(confidence)))
        canvas.draw_line(x, y, color, linewidth=side / 150)
    if not named:
        return
    label = int(detection.label)
    name = canvas.metadata.get("thing_classes", {label: label})[label]
    place = detection.x0, max(detection.y0 - side / 18, 0)  # above the box
    text = f"{name} {detection.score:.2f}"
    canvas.draw_text(text, place, font_size=side / 36, color="w", horizontal_alignment="left")


def _gallery(run: Run, shown: pd.DataFrame, ranking: pd.DataFrame, caption: str) -> Gallery:
    dataset = run.dataset
    metadata = MetadataCatalog.get(dataset.name)
    dicts = {x["image_id"]: x for x in dataset.dicts}
    pictures = []
    for image, row in ranking.iterrows():
        truths = dataset.ground_truth[dataset.ground_truth.image == image]
        pixels = draw_borders(dicts[image], shown[shown.image == image], truths, metadata)
        counts = f"{row.right:.0f} right, {row.wrong:.0f} wrong, {row.missed:.0f} missed"
        text = f"Image {image}: {counts}; quality {100 * row.quality:.0f} %."
        pictures.append(Figure(photo_uri(pixels), text, f"Detections in image {image}"))
    return Gallery(pictures, caption)


def _legend(has_borders: bool) -> Figure:
    figure, axes = new_figure(1, 1, width=4.2, height=0.8)
    scale = CONFIDENCES if has_borders else SCORES
    colors = ScalarMappable(scale, CONFIDENCE_COLORS)
    ends = "min" if has_borders else "neither"
    figure.colorbar(colors, cax=axes[0, 0], orientation="horizontal", extend=ends)
    axes[0, 0].set_xlabel("confidence of a border" if has_borders else "score of a detection")
    meaning = "its own confidence, the probability of the bin it was decoded from"
    return Figure(
        figure_uri(figure),
        f"Each border of a box has the colour of {meaning if has_borders else 'the box’s score'}; "
        f"dashes are the ground truth. Class and score are left out where there are more than "
        f"{MAX_LABELS} detections.",
        "Colour scale",
    )


def section(runs: list[Run]) -> Section:
    """Show the best and the worst images with boxes, scores and the confidence of each border."""
    run, detections = runs[0], runs[0].detections
    if detections.empty:
        return Section("pictures", TITLE, missing="Left out: nothing was detected.")
    threshold = float(best_thresholds(curves_of(run)).threshold["all"])
    is_shown, truth = detections.score >= threshold, run.dataset.ground_truth
    shown = detections[is_shown].reset_index(drop=True)
    matched = matches(evaluate(truth, shown, iou_thresholds=[0.5], **run.dataset.options))
    ranking = box_quality(shown, truth, matched, run.true_ious[is_shown])
    objects = ranking.right + ranking.missed
    ranking = ranking[objects >= objects.median()]
    count = min(NUM_PICTURES, (len(ranking) + 1) // 2)
    worst = ranking[count:][::-1][:count]
    text = [
        f"Detections with a score of at least {threshold:.3f} (the best F1). Images are ranked by "
        "the panoptic quality of their boxes: the sum of the IoUs of right detections, over their "
        f"number plus half of the wrong and half of the missed ones. Shown are some of the "
        f"{len(ranking)} images that have at least {objects.median():.0f} objects, as half of the "
        "images with objects have."
    ]
    blocks = [
        _legend("p_l" in detections),
        _gallery(run, shown, ranking[:count], "The best images, the best first."),
    ]
    if len(worst):
        blocks.append(_gallery(run, shown, worst, "The worst images, the worst first."))
    return Section("pictures", TITLE, text, blocks)
