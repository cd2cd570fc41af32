"""Histograms of a data set's boxes, and sample images as stored and as augmented for training."""

from pathlib import Path

import matplotlib
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, Metadata
from detectron2.data.detection_utils import convert_image_to_rgb, read_image
from detectron2.utils.visualizer import VisImage, Visualizer
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ...modeling import ScopeNet
from ..augmentation import train_mapper
from ..loader import seeded_rng
from .borders import BorderCounts

BLUE, ORANGE = "#0072b2", "#d55e00"
SIDE = 800  # px, of the longer side of a drawn image
GAP = 4  # px, between two of them


def plot_boxes(counts: BorderCounts, model: ScopeNet, path: Path) -> None:
    """Draw four histograms into one picture: sizes, aspect ratios, levels, bins of each level."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    width, height = np.maximum(counts.sizes, 1e-3).T
    _plot_log2(axes[0, 0], np.sqrt(width * height), counts.is_missed, 0, 10)
    axes[0, 0].set_xlabel("square root of the area (px of the network input)")
    _plot_log2(axes[0, 1], width / height, counts.is_missed, -3, 3)
    axes[0, 1].set_xlabel("width over height")
    bars = axes[1, 0].bar(model.head_in_features, counts.positives, color=BLUE)
    axes[1, 0].bar_label(bars, [f"{x}" for x in counts.positives], fontsize=8)
    axes[1, 0].set_ylabel("positive locations")
    axes[1, 0].set_title("levels whose locations qualify for a box", fontsize=10)
    _plot_bins(axes[1, 1], counts.bins, model)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _plot_log2(axis: Axes, values: np.ndarray, is_missed: np.ndarray, low: int, high: int) -> None:
    """Draw a histogram from 2^low to 2^high, or as far as there are values."""
    if len(values):
        low = min(low, np.floor(np.log2(values.min())))
        high = max(high, np.ceil(np.log2(values.max())))
    edges = 2.0 ** np.arange(low, high + 0.25, 0.25)
    groups, labels = [values[~is_missed], values[is_missed]], ["with a location", "without any"]
    axis.hist(groups, edges.tolist(), stacked=True, color=[BLUE, ORANGE], label=labels)
    axis.set_xscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:g}")
    axis.set_ylabel("boxes")
    axis.legend(frameon=False)


def _plot_bins(axis: Axes, counts: np.ndarray, model: ScopeNet) -> None:
    """Draw the share of a level's borders in each bin, with the nominal edges of the bin."""
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (i, j), share in np.ndenumerate(shares):
        low, high = model.bin_edges[i, j : j + 2].tolist()
        text = f"{share:.0f} %\n{low:g}–{high:g} px"
        color = "white" if share > 60 else "0.2"
        axis.text(j, i, text, ha="center", va="center", fontsize=7.5, color=color)
    axis.set_xticks(range(shares.shape[1]), [f"bin {n + 1}" for n in range(shares.shape[1])])
    axis.set_yticks(range(len(shares)), model.head_in_features)
    axis.set_title("borders in each bin (the outer ones are open)", fontsize=10)


@matplotlib.rc_context({"text.parse_math": False})  # a "$" in a name is just that
def draw_samples(
    dicts: list[dict], class_names: list[str], cfg: CfgNode, folder: Path, *, number: int
) -> None:
    """Draw up to ``number`` of the readable images ``dicts``, spread over those with boxes, always
    the same ones: what is stored on the left, what the network sees in training on the right."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = Metadata(thing_classes=class_names)
    mapper = train_mapper(cfg)
    labelled = [x for x in dicts if x["annotations"]] or dicts
    chosen = np.random.default_rng(0).permutation(len(labelled))[:number]
    for i in sorted(chosen.tolist()):
        sample = labelled[i]
        with seeded_rng(0, i):
            stored = _visualizer(read_image(sample["file_name"], format="RGB"), metadata)
            drawn = stored.draw_dataset_dict(sample), _augmented(sample, mapper, metadata)
        left, right = (Image.fromarray(x.get_image()) for x in drawn)
        size = left.width + GAP + right.width, max(left.height, right.height)
        both = Image.new("RGB", size, "white")
        both.paste(left, (0, 0))
        both.paste(right, (left.width + GAP, 0))
        both.save(folder / f"{Path(sample['file_name']).stem}_{i}.png")


def _visualizer(image: np.ndarray, metadata: Metadata) -> Visualizer:
    return Visualizer(image, metadata, scale=SIDE / max(image.shape[:2]))


def _augmented(sample: dict, mapper: DatasetMapper, metadata: Metadata) -> VisImage:
    mapped = mapper(sample)
    image = convert_image_to_rgb(mapped["image"].permute(1, 2, 0), mapper.image_format)
    instances = mapped["instances"]
    labels = [metadata.thing_classes[k] for k in instances.gt_classes.tolist()]
    drawn = _visualizer(image, metadata)
    return drawn.overlay_instances(boxes=instances.gt_boxes, labels=labels)
