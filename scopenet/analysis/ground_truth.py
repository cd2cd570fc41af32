"""The labelled boxes of a data set as a table."""

import contextlib
import io

import pandas as pd
from detectron2.data import MetadataCatalog
from detectron2.data.datasets.coco import convert_to_coco_dict
from pycocotools.coco import COCO

from ..errors import ConfigError

BOX = ["x0", "y0", "x1", "y1"]


def add_shape(boxes: pd.DataFrame) -> pd.DataFrame:
    """``boxes`` with their "aspect" (width over height) and, unless it is known, "area" in px²."""
    width, height = boxes.x1 - boxes.x0, boxes.y1 - boxes.y0
    area = boxes.area.fillna(width * height) if "area" in boxes else width * height
    return boxes.assign(area=area.astype(float), aspect=width / height.clip(lower=1e-6))


def read_ground_truth(dataset_name: str, images: list[int]) -> pd.DataFrame:
    """The ground truth of ``images`` (COCO's ids), see :mod:`scopenet.analysis` for the columns.

    The area is the one of the annotation file, for COCO that of the object's mask, as COCO's own
    evaluation has it.

    Raises:
        ConfigError: the data set has no annotations.
    """
    metadata = MetadataCatalog.get(dataset_name)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(metadata.get("json_file"))
        if not coco.dataset:  # registered without a json
            coco.dataset = convert_to_coco_dict(dataset_name)
            coco.createIndex()
    annotations = pd.DataFrame(coco.loadAnns(coco.getAnnIds(imgIds=images)))
    if annotations.empty or "bbox" not in annotations:
        raise ConfigError(f"Data set {dataset_name} has no boxes to compare with.")
    to_label = metadata.get("thing_dataset_id_to_contiguous_id") or {
        k: k for k in annotations.category_id
    }
    annotations = annotations[annotations.category_id.isin(to_label)]
    x, y, width, height = pd.DataFrame(annotations.bbox.tolist(), dtype=float).T.to_numpy()
    table = {
        "id": range(1, len(annotations) + 1),
        "image": annotations.image_id.to_numpy(),
        "label": annotations.category_id.map(to_label).to_numpy(),
        **{"x0": x, "y0": y, "x1": x + width, "y1": y + height},
        "iscrowd": annotations.get("iscrowd", pd.Series(0, annotations.index)).to_numpy(),
    }
    if "area" in annotations:
        table["area"] = annotations.area.to_numpy()
    return add_shape(pd.DataFrame(table))


def class_names(dataset_name: str, num_classes: int) -> list[str]:
    """The names in order, or numbers where the data set has no names."""
    names = MetadataCatalog.get(dataset_name).get("thing_classes", [])
    return list(names) or [str(k) for k in range(num_classes)]
