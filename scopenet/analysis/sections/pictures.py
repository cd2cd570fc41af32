"""Figure 4 of the paper: the best and the worst images."""

import numpy as np
import pandas as pd
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.utils.visualizer import Visualizer
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from ...border_colors import CONFIDENCE_COLORS, CONFIDENCES, border_lines
from ..coco_evaluation import evaluate, matches
from ..ground_truth import BOX
from ..image_quality import box_quality
from ..page import Figure, Gallery, Section
from ..plots import figure_uri, new_figure, photo_uri
from ..run import BORDER_SCORES
from ..study import Measurement, Study

TITLE = "Figure 4: the best and the worst images"
NUM_PICTURES = 6  # of each kind
MAX_LABELS = 15  # of a picture; more would hide it
PICTURE_WIDTH = 560  # px, at least
SCORES = Normalize(0.0, 1.0)  # of detectors without confidences


def draw_borders(
    dataset_dict: dict, detections: pd.DataFrame, truths: pd.DataFrame, metadata
) -> np.ndarray:
    """The image with ground truth in dashes and detections, every border in the colour of its own
    confidence (of the score where there is no such thing); RGB uint8."""
    pixels = read_image(dataset_dict["file_name"], format="RGB")
    side = max(pixels.shape)
    canvas = Visualizer(pixels, metadata, scale=max(1.0, PICTURE_WIDTH / side))
    for box in truths[BOX].to_numpy():
        for x, y in border_lines(box):
            canvas.draw_line(x, y, "black", linewidth=side / 300)
            canvas.draw_line(x, y, "white", linestyle="--", linewidth=side / 300)
    for _, detection in detections[::-1].iterrows():  # the best on top
        _draw_detection(canvas, detection, side, with_label=len(detections) <= MAX_LABELS)
    return canvas.output.get_image()


def _draw_detection(
    canvas: Visualizer, detection: pd.Series, side: int, *, with_label: bool
) -> None:
    """``side``: the longer one of the image, px, which the width of lines and letters follows."""
    scale = CONFIDENCES if BORDER_SCORES[0] in detection else SCORES
    confidences = detection.reindex(BORDER_SCORES).fillna(detection.score)
    for (x, y), confidence in zip(border_lines(detection[BOX]), confidences, strict=True):
        color = CONFIDENCE_COLORS(scale(float(confidence)))
        canvas.draw_line(x, y, color, linewidth=side / 150)
    if not with_label:
        return
    label = int(detection.label)
    name = canvas.metadata.get("thing_classes", {label: label})[label]
    place = detection.x0, max(detection.y0 - side / 18, 0)  # above the box
    canvas.draw_text(
        f"{name} {detection.score:.2f}",
        place,
        font_size=side / 36,
        color="w",
        horizontal_alignment="left",
    )


def rank_images(measurement: Measurement, shown: pd.DataFrame) -> pd.DataFrame:
    """:func:`~..image_quality.box_quality` of the images; ``shown`` are the detections that count,
    by their row numbers in the run's."""
    dataset = measurement.dataset
    ious = measurement.true_ious[shown.index]
    shown = shown.reset_index(drop=True)
    result = evaluate(dataset.ground_truth, shown, iou_thresholds=[0.5], **dataset.options)
    return box_quality(shown, dataset.ground_truth, matches(result), ious)


def _gallery(
    measurement: Measurement, shown: pd.DataFrame, ranking: pd.DataFrame, caption: str
) -> Gallery:
    dataset = measurement.dataset
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
    what = "confidence of a border" if has_borders else "score of a detection"
    axes[0, 0].set_xlabel(what)
    meaning = "its own confidence, the probability of the bin it was decoded from"
    return Figure(
        figure_uri(figure),
        f"Each border of a box has the colour of {meaning if has_borders else 'the box’s score'}; "
        f"dashes are the ground truth. Class and score are left out where there are more than "
        f"{MAX_LABELS} detections.",
        "Colour scale",
    )


def section(study: Study) -> Section:
    """The best and the worst images with boxes, scores and the confidence of each border."""
    measurement = study.main
    detections = measurement.run.detections
    if detections.empty:
        return Section("pictures", TITLE, [], missing="Left out: nothing was detected.")
    threshold = float(measurement.best_thresholds.threshold["all"])
    shown = detections[detections.score >= threshold]
    ranking = rank_images(measurement, shown)
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
        _gallery(measurement, shown, ranking[:count], "The best images, the best first."),
    ]
    if len(worst):
        blocks.append(_gallery(measurement, shown, worst, "The worst images, the worst first."))
    return Section("pictures", TITLE, text, blocks)
