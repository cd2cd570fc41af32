"""Sample images with their boxes, as stored and as augmented for training."""

from pathlib import Path

import matplotlib
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper, Metadata
from detectron2.data.detection_utils import read_image
from detectron2.utils.visualizer import Visualizer
from PIL import Image

from ..loader import seeded_rng

SIDE = 800  # px, of the longer side of a drawn image
GAP = 4  # px, between two of them


@matplotlib.rc_context({"text.parse_math": False})  # a "$" in a name is just that
def draw_samples(
    dicts: list[dict], class_names: list[str], cfg: CfgNode, folder: Path, *, number: int
) -> list[Path]:
    """Draw up to ``number`` images, spread over those with boxes, always the same ones.

    Args:
        dicts: readable images in Detectron2's format.
        cfg: how training augments.

    Returns:
        the files: what is stored on the left, what the network sees on the right.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = Metadata(thing_classes=class_names)
    mapper = DatasetMapper(cfg, is_train=True)
    labelled = [x for x in dicts if x["annotations"]] or dicts
    chosen = np.random.default_rng(0).permutation(len(labelled))[:number]
    paths = []
    for i in sorted(chosen.tolist()):
        with seeded_rng(0, i):
            pictures = _stored(labelled[i], metadata), _augmented(labelled[i], mapper, metadata)
        paths.append(folder / f"{Path(labelled[i]['file_name']).stem}_{i}.png")
        _side_by_side(*map(Image.fromarray, pictures)).save(paths[-1])
    return paths


def _visualizer(image: np.ndarray, metadata: Metadata) -> Visualizer:
    return Visualizer(image, metadata, scale=SIDE / max(image.shape[:2]))


def _stored(sample: dict, metadata: Metadata) -> np.ndarray:
    image = read_image(sample["file_name"], format="RGB")
    return _visualizer(image, metadata).draw_dataset_dict(sample).get_image()


def _augmented(sample: dict, mapper: DatasetMapper, metadata: Metadata) -> np.ndarray:
    mapped = mapper(sample)
    image = mapped["image"].numpy().transpose(1, 2, 0)
    if mapper.image_format == "BGR":
        image = image[:, :, ::-1]
    instances = mapped["instances"]
    labels = [metadata.thing_classes[k] for k in instances.gt_classes.tolist()]
    drawn = _visualizer(np.ascontiguousarray(image), metadata)
    return drawn.overlay_instances(boxes=instances.gt_boxes, labels=labels).get_image()


def _side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    size = left.width + GAP + right.width, max(left.height, right.height)
    both = Image.new("RGB", size, "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + GAP, 0))
    return both
