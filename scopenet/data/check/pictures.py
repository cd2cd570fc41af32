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


@matplotlib.rc_context({"text.parse_math": False})  # a "$" in a name is just that
def draw_samples(
    dicts: list[dict], class_names: list[str], cfg: CfgNode, folder: Path, *, number: int
) -> list[Path]:
    """Pictures of up to ``number`` images, spread over those with boxes, by seed.

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
        Image.fromarray(_side_by_side(*pictures)).save(paths[-1])
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
    drawn = _visualizer(np.ascontiguousarray(image), metadata).overlay_instances(
        boxes=instances.gt_boxes,
        labels=[metadata.thing_classes[k] for k in instances.gt_classes.tolist()],
    )
    return drawn.get_image()


def _side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    height = max(left.shape[0], right.shape[0])
    table = np.full((height, left.shape[1] + right.shape[1] + 4, 3), 255, np.uint8)
    table[: left.shape[0], : left.shape[1]] = left
    table[: right.shape[0], -right.shape[1] :] = right
    return table
