"""The labelled images that are looked at, and their boxes as a table."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets.coco import convert_to_coco_dict
from pycocotools.coco import COCO

from ..errors import ConfigError
from .boxes import add_shape


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes:
        name: Detectron2 knows the data set by it.
        size: images of the whole data set.
        dicts: those that are looked at, in Detectron2's format.
        ground_truth: their boxes, see :mod:`scopenet.analysis`.
        class_names: by label.
    """

    name: str
    size: int
    dicts: Sequence[dict]
    ground_truth: pd.DataFrame
    class_names: Sequence[str]

    @property
    def options(self) -> dict[str, Any]:
        """``images`` and ``num_classes`` of :func:`~.coco_evaluation.evaluate`."""
        images = [x["image_id"] for x in self.dicts]
        return {"images": images, "num_classes": len(self.class_names)}

    @cached_property
    def truths(self) -> pd.DataFrame:
        """The ground truth without crowds."""
        return self.ground_truth[self.ground_truth.iscrowd == 0]


def read_dataset(name: str, max_images: int | None = None) -> Dataset:
    """Read the first ``max_images`` images of a registered data set, or all.

    Raises:
        ConfigError: there are no images, or no boxes in them.
    """
    all_dicts = get_detection_dataset_dicts(name, filter_empty=False)
    dicts = all_dicts[:max_images]
    if not dicts:
        raise ConfigError(f"Data set {name} has no images.")
    truth = _read_ground_truth(name, [x["image_id"] for x in dicts])
    class_names = MetadataCatalog.get(name).get("thing_classes", [])
    class_names = list(class_names) or [str(k) for k in range(int(truth.label.max()) + 1)]
    return Dataset(name, len(all_dicts), dicts, truth, class_names)


def _read_ground_truth(name: str, images: list[int]) -> pd.DataFrame:
    """Read the boxes of ``images`` (COCO's ids); see :mod:`scopenet.analysis` for the columns.

    The area is the one of the annotation file, for COCO that of the object's mask, as COCO's own
    evaluation has it.
    """
    metadata = MetadataCatalog.get(name)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(metadata.get("json_file"))
        if not coco.dataset:  # registered without a json
            coco.dataset = convert_to_coco_dict(name)
            coco.createIndex()
    annotations = pd.DataFrame(coco.loadAnns(coco.getAnnIds(imgIds=images)))
    if annotations.empty or "bbox" not in annotations:
        raise ConfigError(f"Data set {name} has no boxes to compare with.")
    ids = annotations.category_id
    to_label = metadata.get("thing_dataset_id_to_contiguous_id") or {k: k for k in ids}
    annotations = annotations[ids.isin(to_label)]
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
