"""Pictures of a trained model: detections beside the ground truth, anchors, loss curves, and the
colours in which the borders of a box show how sure the network is of each."""

from pathlib import Path

import matplotlib
import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.structures import Instances
from detectron2.utils.visualizer import Visualizer
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap, Normalize
from torch import Tensor

matplotlib.use("Agg")

# From unsure to sure, bright enough to be seen on a photograph.
CONFIDENCE_COLORS = LinearSegmentedColormap.from_list("", ["#ff2f6e", "#ffd23f", "#2ee6d6"])
# Where the colours end: at 0.5 two bins may be as probable as each other.
CONFIDENCES = Normalize(0.5, 1.0, clip=True)


def border_lines(box: np.ndarray) -> list[tuple[list[float], list[float]]]:
    """Return the borders (l, t, r, b) of an XYXY box, each as the x and the y of its two ends."""
    x0, y0, x1, y1 = box
    return [([x0, x0], [y0, y1]), ([x0, x1], [y0, y0]), ([x1, x1], [y0, y1]), ([x0, x1], [y1, y1])]


@matplotlib.rc_context({"text.parse_math": False})  # a "$" in a name is just that
def draw_beside_ground_truth(
    dataset_dict: dict,
    instances: Instances,
    dataset_name: str,
    *,
    score_thresh: float,
    scale: float,
) -> np.ndarray:
    """Draw ground truth on the left, detections on the right, both enlarged ``scale`` times, as RGB
    uint8 (scale H, 2 scale W + 4, 3).

    Args:
        dataset_dict: the image in Detectron2's format.
        instances: detections in px of the image file; those below ``score_thresh`` are left out.
        dataset_name: where the class names are from.
    """
    image = read_image(dataset_dict["file_name"], format="RGB")
    metadata = MetadataCatalog.get(dataset_name)
    shown = instances[instances.scores >= score_thresh].to("cpu")
    left = Visualizer(image, metadata, scale=scale).draw_dataset_dict(dataset_dict)
    right = Visualizer(image, metadata, scale=scale).draw_instance_predictions(shown)
    left, right = left.get_image(), right.get_image()
    gap = np.full((left.shape[0], 4, 3), 255, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def stack_pictures(pictures: list[np.ndarray], columns: int) -> np.ndarray:
    """Put pictures of one size (H, W, 3) into a table with white gaps, row by row."""
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    shape = (rows * (height + 8) - 8, columns * (width + 24) - 24, 3)
    table = np.full(shape, 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * (height + 8), i % columns * (width + 24)
        table[y : y + height, x : x + width] = picture
    return table


def plot_anchors(start: Tensor, learned: Tensor, edges: Tensor, path: Path) -> None:
    """Plot the learned anchors against their start, both (L, N) log2 px, and the nominal bin edges
    (L, N+1) px."""
    figure, axis = plt.subplots(figsize=(7, 3.5))
    levels = np.arange(len(start))
    for n in range(edges.shape[1]):
        label = "nominal bin edge" if n == 0 else None
        axis.scatter(levels, edges[:, n], marker="_", s=600, color="0.75", label=label)
    for n in range(start.shape[1]):
        first = n == 0
        axis.scatter(levels - 0.08, start[:, n].exp2(), marker="o", facecolors="none",
                     edgecolors="tab:blue", label="start" if first else None)  # fmt: skip
        axis.scatter(levels + 0.08, learned[:, n].exp2(), marker="o", color="tab:orange",
                     label="learned" if first else None)  # fmt: skip
    axis.set_yscale("log", base=2)
    axis.set_xticks(levels, [f"level {i + 1}" for i in levels])
    axis.set_ylabel("anchor (px of the network input)")
    axis.legend(loc="upper left", frameon=False)
    _save(figure, path)


def plot_losses(metrics: dict[str, dict[int, float]], path: Path) -> None:
    """Plot the three losses, and what the choice of bins costs, against the iteration; for
    ``metrics`` see :func:`~scopenet.training_metrics.read_metrics`."""
    figure, (losses, quality) = plt.subplots(1, 2, figsize=(10, 3.5))
    for name in ("loss_cls", "loss_bin", "loss_loc"):
        losses.plot([*metrics[name]], [*metrics[name].values()], label=name)
    for name in ("bin_accuracy", "iou_target_bin", "iou_best_bin", "iou_expectation"):
        if name in metrics:
            quality.plot([*metrics[name]], [*metrics[name].values()], label=name)
    losses.set_title("weighted losses")
    quality.set_title("of the positives in training")
    for axis in (losses, quality):
        axis.set_xlabel("iteration")
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
    _save(figure, path)


def _save(figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
