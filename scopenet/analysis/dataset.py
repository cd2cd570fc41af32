"""The labelled images that are looked at, and their boxes as a table."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets.coco import convert_to_coco_dict
from pycocotools.coco import COCO

from ..data.custom import is_custom
from ..engine.evaluator import custom_ground_truth
from ..errors import ConfigError

BOX = ["x0", "y0", "x1", "y1"]


@dataclass(frozen=True)
class Dataset:
    """Labelled images."""

    name: str  # Detectron2 knows the data set by it
    size: int  # images of the whole data set
    dicts: Sequence[dict]  # those that are looked at, in Detectron2's format
    ground_truth: pd.DataFrame  # their boxes, see :mod:`scopenet.analysis`
    class_names: Sequence[str]  # by label

    @cached_property
    def truths(self) -> pd.DataFrame:
        """The ground truth without crowds."""
        return self.ground_truth[self.ground_truth.iscrowd == 0]


def read_dataset(name: str, max_images: int | None = None) -> Dataset:
    """Read the first ``max_images`` images of a registered data set, or all; if there are none, or
    no boxes in them, that is a ConfigError."""
    all_dicts = get_detection_dataset_dicts(name, filter_empty=False)
    dicts = all_dicts[:max_images]
    if not dicts:
        raise ConfigError(f"Data set {name} has no images.")
    truth = _read_ground_truth(name, [x["image_id"] for x in dicts])
    class_names = MetadataCatalog.get(name).get("thing_classes", [])
    class_names = list(class_names) or [str(k) for k in range(int(truth.label.max()) + 1)]
    return Dataset(name, len(all_dicts), dicts, truth, class_names)


def _read_ground_truth(name: str, images: list[int]) -> pd.DataFrame:
    """Read the boxes of ``images`` (COCO's ids), those that are evaluated on. Their area is the one
    of the annotation file, for COCO that of the object's mask, as COCO's own evaluation has it."""
    metadata = MetadataCatalog.get(name)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = custom_ground_truth(name) if is_custom(name) else COCO(metadata.get("json_file"))
        if not coco.dataset:  # registered without a json
            coco.dataset = convert_to_coco_dict(name)
            coco.createIndex()
    annotations = pd.DataFrame(coco.loadAnns(coco.getAnnIds(imgIds=images)))
    if annotations.empty or "bbox" not in annotations:
        raise ConfigError(f"Data set {name} has no boxes to compare with.")
    ids = annotations.category_id
    to_label = metadata.get("thing_dataset_id_to_contiguous_id") or {k: k for k in ids}
    annotations = annotations[ids.isin(to_label)].reset_index(drop=True)
    boxes = np.array(annotations.bbox.tolist(), float)
    boxes[:, 2:] += boxes[:, :2]
    table = pd.DataFrame(boxes, columns=BOX).assign(
        id=range(1, len(boxes) + 1),
        image=annotations.image_id,
        label=annotations.category_id.map(to_label),
        area=annotations.get("area", np.nan),
        iscrowd=annotations.get("iscrowd", 0),
    )
    return add_shape(table)


def add_shape(boxes: pd.DataFrame) -> pd.DataFrame:
    """Add "aspect" (width over height) and, unless it is known, "area" in px²."""
    width, height = boxes.x1 - boxes.x0, boxes.y1 - boxes.y0
    area = boxes.area.fillna(width * height) if "area" in boxes else width * height
    return boxes.assign(area=area.astype(float), aspect=width / height.clip(lower=1e-6))
