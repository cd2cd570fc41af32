"""The data sets that come with the project: their names, and how they are written.

They are in COCO format: `<set>/<split>/000000.png` and `<set>/annotations/instances_<split>.json`
under a common root; photographs keep the names and bytes of their files. The json is written last
and in one step, so that its presence says that the images are there: an interrupted run never looks
like a finished one.
"""

import io
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from PIL import Image
from tqdm import tqdm

from ..atomic import write_json

CLASS_NAMES = {
    "digits": tuple("0123456789"),
    "bright_digits": tuple("01234"),
    "trees": ("tree",),
    "cards": ("nine", "ten", "jack", "queen", "king", "ace"),
    "cells": ("RBC", "WBC", "Platelets"),
}
# What an object is called where all classes count as one, to measure localization alone.
ONE_CLASS = {"cards": "card", "cells": "cell"}

Box = tuple[int, int, int, int]  # x, y of the top left corner, width, height in px (COCO's XYWH)


def dataset_root() -> Path:
    """Return the directory of all data sets: `$DETECTRON2_DATASETS`, or `datasets`."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


def register_builtin_datasets() -> None:
    """Register `<set>_train` and `<set>_val` of every set, and `<set>_one_train` and
    `<set>_one_val` of those that are there with all classes as one, once.

    Their files are looked for under `dataset_root()` as it is now, when they are used.
    """
    for dataset, class_names in CLASS_NAMES.items():
        for split in ("train", "val"):
            files = CocoSplit(dataset_root() / dataset, split, class_names, info={})
            _register(f"{dataset}_{split}", files.json_path, files.image_dir, class_names)
            if dataset in ONE_CLASS:
                names = (ONE_CLASS[dataset],)
                _register(f"{dataset}_one_{split}", files.one_class_path, files.image_dir, names)


def _register(name: str, json_path: Path, image_dir: Path, class_names: Sequence[str]) -> None:
    if name not in DatasetCatalog:
        register_coco_instances(name, {}, str(json_path), str(image_dir))
        # Known before the json is read: a model can be built and drawn with without the data.
        MetadataCatalog.get(name).thing_classes = list(class_names)


class ImageFile(NamedTuple):
    """An image that is stored as it came."""

    name: str
    content: bytes


class Sample(NamedTuple):
    """One annotated image."""

    image: np.ndarray | ImageFile  # pixels are (height, width, 3) uint8 RGB
    boxes: Sequence[Box]
    labels: Sequence[int]  # the class of each box, an index into the class names from 0


@dataclass(frozen=True)
class CocoSplit:
    """A split of a data set, on disk or to be written."""

    folder: Path  # of the data set, such as `datasets/digits`
    name: str  # of the split, such as `train`
    class_names: Sequence[str]  # category i + 1 is called `class_names[i]`
    info: dict[str, Any]  # json values that determine the contents, hence no date
    licenses: Sequence[dict[str, Any]] = ()  # COCO's fields, as `info`
    one_class: str = ""  # the class of a second json in which all are one; "" for none

    @property
    def image_dir(self) -> Path:
        return self.folder / self.name

    @property
    def json_path(self) -> Path:
        return self.folder / "annotations" / f"instances_{self.name}.json"

    @property
    def one_class_path(self) -> Path:
        return self.folder / "annotations" / f"instances_one_{self.name}.json"

    def is_complete(self) -> bool:
        """Tell whether the split is on disk, with this very `info` and with all of its images."""
        paths = [self.json_path, *([self.one_class_path] if self.one_class else [])]
        try:
            contents = [json.loads(path.read_text()) for path in paths]
            file_names = {image["file_name"] for x in contents for image in x["images"]}
            are_current = all(x["info"] == self.info for x in contents)
            return are_current and file_names <= set(os.listdir(self.image_dir))
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return False

    def write(self, samples: Iterable[Sample], total: int | None = None) -> None:
        """Write the images, then the json, in place of any earlier version of the split; image k
        gets the id k and, of pixels, the file name of k. ``total``, their number, is for the
        progress bar."""
        # The json goes first: what is left behind by an interruption must not look complete.
        for path in (self.json_path, self.one_class_path):
            path.unlink(missing_ok=True)
        self.json_path.parent.mkdir(parents=True, exist_ok=True)
        self.image_dir.mkdir(parents=True, exist_ok=True)
        for path in self.image_dir.iterdir():
            if path.suffix.lower() in (".png", ".jpg"):
                path.unlink()
        images: list[dict] = []
        annotations: list[dict] = []
        for index, sample in enumerate(tqdm(samples, desc=str(self.image_dir), total=total)):
            file_name, (width, height) = _save(sample.image, self.image_dir, index)
            size = {"width": width, "height": height}
            images.append({"id": index, "file_name": file_name, **size, "license": 1})
            for box, label in zip(sample.boxes, sample.labels, strict=True):
                # Ids start at 1: COCOeval takes 0, of a matched ground truth, for "not matched".
                ids = {"id": len(annotations) + 1, "image_id": index, "category_id": label + 1}
                shape = {"bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}
                annotations.append(ids | shape)
        content = {
            "info": self.info,
            "licenses": list(self.licenses),
            "categories": [{"id": i + 1, "name": n} for i, n in enumerate(self.class_names)],
            "images": images,
            "annotations": annotations,
        }
        write_json(self.json_path, content)
        if self.one_class:
            write_json(self.one_class_path, as_one_class(content, self.one_class))


def as_one_class(content: dict, name: str) -> dict:
    """Return a COCO json whose boxes are all of one class."""
    annotations = [annotation | {"category_id": 1} for annotation in content["annotations"]]
    return content | {"categories": [{"id": 1, "name": name}], "annotations": annotations}


def _save(image: np.ndarray | ImageFile, folder: Path, index: int) -> tuple[str, tuple[int, int]]:
    """Write an image to ``folder``; return the name of its file, its width and its height."""
    if isinstance(image, ImageFile):
        (folder / image.name).write_bytes(image.content)
        with Image.open(io.BytesIO(image.content)) as opened:
            return image.name, opened.size
    file_name = f"{index:06d}.png"
    Image.fromarray(image).save(folder / file_name)
    return file_name, image.shape[1::-1]
