"""Which images are the best and the worst? Drawn as in figure 4 of the paper."""

from functools import partial

import numpy as np
import pandas as pd
from detectron2.data.detection_utils import read_image
from detectron2.utils.visualizer import Visualizer
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image

from ..data.unusable import unreadable_image
from ..visualization import CONFIDENCE_COLORS, CONFIDENCES, border_lines
from .dataset import BOX
from .page import Block, Figure, Gallery, Section
from .plots import data_uri, figure_uri, new_figure
from .run import BORDER_SCORES, Run
from .thresholds import best_thresholds, curves

TITLE = "Figure 4: the best and the worst images"
NUM_PICTURES = 6  # of each kind
MAX_LABELS = 15  # of a picture; more would hide it
PICTURE_WIDTH = 560  # px, at least
SCORES = Normalize(0.0, 1.0)  # of detectors without confidences


def box_quality(run: Run) -> pd.DataFrame:
    """Measure the panoptic quality of the boxes of each image with ground truths (Kirillov et al.
    2019, https://arxiv.org/abs/1801.00868): sum of the IoUs of right detections, over their number
    plus half of the wrong ones and half of the missed ground truths. By image, best first:
    ``quality`` in [0, 1], ``right``, ``wrong`` and ``missed``."""
    is_right, ious = run.matched.truth > 0, run.true_ious[run.matched.index]
    columns = {"right": is_right, "wrong": ~is_right, "iou": ious * is_right}
    truths = run.dataset.truths.groupby("image").size()
    table = pd.DataFrame(columns).groupby(run.matched.image).sum()
    table = table.reindex(truths.index, fill_value=0)
    table["missed"] = truths - table.right
    table["quality"] = table.iou / (table.right + table.wrong / 2 + table.missed / 2)
    return table.sort_values("quality", ascending=False, kind="stable")


def draw_borders(run: Run, image: int) -> np.ndarray:
    """Draw the image with ground truth in dashes and detections, every border in the colour of its
    own confidence (of the score where there is no such thing); RGB uint8."""
    sample = next(x for x in run.dataset.dicts if x["image_id"] == image)
    truth, detections = (x[x.image == image] for x in (run.dataset.ground_truth, run.detections))
    if unreadable_image(sample):  # the detector was given a blank one, too
        pixels = np.zeros((sample["height"], sample["width"], 3), np.uint8)
    else:
        pixels = read_image(sample["file_name"], format="RGB")
    side = max(pixels.shape)  # px; the width of lines and letters follows it
    canvas = Visualizer(pixels, scale=max(1.0, PICTURE_WIDTH / side))
    for box in truth[BOX].to_numpy():
        for x, y in border_lines(box):
            canvas.draw_line(x, y, "black", linewidth=side / 300)
            canvas.draw_line(x, y, "white", linestyle="--", linewidth=side / 300)
    for _, detection in detections[::-1].iterrows():  # the best on top
        confidences = detection.reindex(BORDER_SCORES).fillna(detection.score)
        scale = CONFIDENCES if BORDER_SCORES[0] in detection else SCORES
        for (x, y), confidence in zip(border_lines(detection[BOX]), confidences, strict=True):
            color = CONFIDENCE_COLORS(scale(float(confidence)))
            canvas.draw_line(x, y, color, linewidth=side / 150)
        if len(detections) <= MAX_LABELS:
            text = f"{run.dataset.class_names[int(detection.label)]} {detection.score:.2f}"
            place = detection.x0, max(detection.y0 - side / 18, 0)  # above the box
            style = {"color": "w", "horizontal_alignment": "left"}
            canvas.draw_text(text, place, font_size=side / 36, **style)
    return canvas.output.get_image()


def _gallery(run: Run, ranking: pd.DataFrame, caption: str) -> Gallery:
    pictures = []
    for image, row in ranking.iterrows():
        counts = f"{row.right:.0f} right, {row.wrong:.0f} wrong, {row.missed:.0f} missed"
        text = f"Image {image}: {counts}; quality {100 * row.quality:.0f} %."
        picture = Image.fromarray(draw_borders(run, image))
        uri = data_uri("jpeg", partial(picture.save, format="JPEG", quality=88))
        pictures.append(Figure(uri, text, f"Detections in image {image}"))
    return Gallery(pictures, caption)


def _legend(has_borders: bool) -> Figure:
    figure, ((axis,),) = new_figure(1, 1, width=4.2, height=0.8)
    scale, ends = (CONFIDENCES, "min") if has_borders else (SCORES, "neither")
    colors = ScalarMappable(scale, CONFIDENCE_COLORS)
    figure.colorbar(colors, cax=axis, orientation="horizontal", extend=ends)
    axis.set_xlabel("confidence of a border" if has_borders else "score of a detection")
    meaning = "its own confidence, the probability of the bin it was decoded from"
    caption = (
        f"Each border of a box has the colour of {meaning if has_borders else 'the box’s score'}; "
        f"dashes are the ground truth. Above {MAX_LABELS} detections class and score are left out."
    )
    return Figure(figure_uri(figure), caption, "Colour scale")


def section(runs: list[Run]) -> Section:
    """Show the best and the worst images with boxes, scores and the confidence of each border."""
    if runs[0].detections.empty:
        return Section("pictures", TITLE, missing="Left out: nothing was detected.")
    threshold = float(best_thresholds(curves(runs[0])).threshold["all"])
    run = runs[0].above(threshold)
    ranking = box_quality(run)
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
    best = _gallery(run, ranking[:count], "The best images, the best first.")
    blocks: list[Block] = [_legend("p_l" in run.detections), best]
    if len(worst):
        blocks.append(_gallery(run, worst, "The worst images, the worst first."))
    return Section("pictures", TITLE, text, blocks)
