"""Pictures of detections: as Detectron2 draws them, or every border in the colour of its own
confidence."""

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import ColorMode, Visualizer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from ..atomic import write_file
from ..errors import ConfigError
from ..visualization import CONFIDENCE_COLORS, CONFIDENCES

MIN_SIDE = 640  # px, of a picture's longer side; smaller images are enlarged
DARK = "#1b1e23"
NARROW = 600  # px; a legend's text has no room beside its scale in narrower pictures


def draw(
    image: np.ndarray, instances: Instances, class_names: list[str], *, borders: bool
) -> np.ndarray:
    """Draw detections, in px of an image, on it; both pictures are BGR uint8 (H, W, 3), the new one
    of at least :data:`MIN_SIDE`.

    With ``borders`` each border has the colour of its confidence, and the scale of the colours is
    below; a ConfigError says that the detector has no such confidences.
    """
    if borders and not instances.has("border_scores"):
        raise ConfigError("This detector has no border_scores to draw; leave --borders out.")
    scale = max(1.0, MIN_SIDE / max(image.shape[:2]))
    if scale > 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    canvas = Visualizer(image[:, :, ::-1], _metadata(class_names), 1.0, ColorMode.SEGMENTATION)
    fields = instances.get_fields() | {"pred_boxes": Boxes(instances.pred_boxes.tensor * scale)}
    scaled = Instances(image.shape[:2], **fields)
    if not borders:
        return canvas.draw_instance_predictions(scaled, jittering=False).get_image()[:, :, ::-1]
    boxes = scaled.pred_boxes.tensor.double().numpy()
    for i in scaled.scores.argsort().tolist():  # the best on top
        _draw_frame(canvas, boxes[i], scaled.border_scores[i].tolist())
        if scaled.has("border_stds"):
            _draw_errors(canvas, boxes[i], scaled.border_stds[i].tolist())
    _draw_labels(canvas, boxes, scaled)
    picture = canvas.output.get_image()[:, :, ::-1]
    return np.concatenate([picture, _legend(picture.shape[1])])


def write_picture(picture: np.ndarray, path: Path) -> None:
    """Write a picture, BGR uint8, in the format of the suffix of ``path``, whole or not at all; a
    ConfigError says that the format cannot hold it."""
    try:
        is_encoded, content = cv2.imencode(path.suffix, picture)
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        height, width = picture.shape[:2]
        raise ConfigError(f"OpenCV cannot write {path}, a picture of {width} x {height} px.")
    write_file(path, lambda f: f.write(content.data))


def _metadata(class_names: list[str]) -> Metadata:
    # A dollar sign would begin a formula where matplotlib writes the name.
    names = [x.replace("$", r"\$") for x in class_names]
    palette = colormap(rgb=True, maximum=255)
    colors = [palette[i % len(palette)].tolist() for i in range(len(names))]
    return Metadata(thing_classes=names, thing_colors=colors)


def _draw_frame(canvas: Visualizer, box: np.ndarray, confidences: list[float]) -> None:
    """Draw four borders mitred at the corners, on a dark line that sets them off from the photo."""
    (x0, y0, x1, y1), side = box, max(canvas.img.shape[:2])
    # Thinner around small objects, which it would hide.
    width = float(np.clip(min(x1 - x0, y1 - y0) / 14, side / 400, side / 110))
    outer = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    inner = outer + signs * np.minimum(width, [(x1 - x0) / 2, (y1 - y0) / 2])
    for shift in (outer - signs * width / 4, inner):
        closed = np.concatenate([shift, shift[:1]])
        canvas.draw_line(*closed.T.tolist(), color=DARK, linewidth=width / 2)
    ends = ((3, 0), (0, 1), (1, 2), (2, 3))  # corners of l, t, r, b
    for (i, j), confidence in zip(ends, confidences, strict=True):
        color = CONFIDENCE_COLORS(CONFIDENCES(confidence))[:3]
        mitred = np.stack([outer[i], outer[j], inner[j], inner[i]])
        canvas.draw_polygon(mitred, color, edge_color=(*color, 0.0), alpha=1.0)


def _draw_errors(canvas: Visualizer, box: np.ndarray, errors: list[float]) -> None:
    """Write beside each border, inside of the box, how many px of the image it may be off; a box
    without room goes without."""
    (x0, y0, x1, y1), size = box, float(np.clip(max(canvas.img.shape[:2]) / 70, 8, 11))
    if min(x1 - x0, y1 - y0) < 10 * size:
        return
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    places = (x0 + 2.6 * size, y), (x, y0 + size), (x1 - 2.6 * size, y), (x, y1 - 3 * size)
    for place, error in zip(places, errors, strict=True):
        canvas.draw_text(f"± {error:.2g}", place, font_size=size, color="w")


def _draw_labels(canvas: Visualizer, boxes: np.ndarray, instances: Instances) -> None:
    """Write class and score above each box, or inside where there is no room; a box goes without if
    it is small, or if a better one's label is in the way."""
    # In points of 1/72 inch; at 100 dpi one is 1.4 px.
    size = float(np.clip(max(canvas.img.shape[:2]) / 55, 9, 12))
    taken = np.zeros((0, 4))  # XYXY px
    for i in instances.scores.argsort(descending=True).tolist():
        name = canvas.metadata.thing_classes[int(instances.pred_classes[i])]
        text = f"{name} {instances.scores[i]:.0%}"
        x0, y0, x1, y1 = boxes[i]
        above = y0 - 2.2 * size
        x, y = x0, above if above >= 0 else y0 + size / 2
        label = np.array([x, y, x + 0.9 * size * len(text), y + 2 * size])
        is_free = (taken[:, :2] >= label[2:]).any(1) | (taken[:, 2:] <= label[:2]).any(1)
        if is_free.all() and label[2] - x <= 3 * (x1 - x0) and y1 - y0 >= 1.4 * size:
            taken = np.concatenate([taken, label[None]])
            canvas.draw_text(text, (x, y), font_size=size, color="w", horizontal_alignment="left")


@lru_cache(maxsize=8)
def _legend(width: int) -> np.ndarray:
    """Draw the scale of the colours, BGR uint8 (H, ``width``, 3); what they mean stands to the left
    of it or, in a narrow picture, above."""
    row = max(48, width // 22)
    is_narrow = width < NARROW
    height, size = row * 3 // 2 if is_narrow else row, min(row / 4.6, width / 20)
    # A little wider, as the pixels are rounded down.
    figure = Figure(figsize=((width + 0.01) / 100, height / 100), dpi=100, facecolor=DARK)
    place = (0.14, 0.37, 0.72, 0.15) if is_narrow else (0.42, 0.52, 0.5, 0.22)
    canvas, axis = FigureCanvasAgg(figure), figure.add_axes(place)
    y = 0.78 if is_narrow else 0.5
    figure.text(0.03, y, "confidence of each border", color="w", fontsize=size, va="center")
    colors = ScalarMappable(CONFIDENCES, CONFIDENCE_COLORS)
    bar = figure.colorbar(colors, cax=axis, orientation="horizontal", ticks=(0.5, 0.75, 1.0))
    bar.outline.set_visible(False)
    axis.set_xticklabels(["≤ 50 %", "75 %", "100 %"])
    axis.tick_params(colors="w", labelsize=size, length=0, pad=row / 20)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :width, 2::-1])
