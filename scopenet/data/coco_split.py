"""Writing a data set in COCO format such that an interrupted run never looks like a finished one.

Layout under the root: `<set>/<split>/000000.png` and `<set>/annotations/instances_<split>.json`.
The json is written last and in one step, so that its presence says that the images are there.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..atomic import write_json

Box = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the image; x, y is the top left corner (COCO's XYWH)."""


class Sample(NamedTuple):
    """One annotated image.

    `image` is uint8 RGB of shape (height, width, 3). `boxes[i]` has the class `labels[i]`, an index
    into the class names, starting at 0.
    """

    image: np.ndarray
    boxes: Sequence[Box]
    labels: Sequence[int]


def dataset_root() -> Path:
    """Return the directory of all data sets: `$DETECTRON2_DATASETS`, or `datasets`."""
    return Path(os.getenv("DETECTRON2_DATASETS", "datasets")).expanduser()


@dataclass(frozen=True)
class CocoSplit:
    """A split of a data set in COCO format, on disk or to be written.

    Args:
        folder: the directory of the data set, such as `datasets/digits`.
        name: the split, such as `train`.
        class_names: category i + 1 is called `class_names[i]`.
        info: the COCO field `info`: json values that determine the contents, hence no date.
        licenses: the COCO field `licenses`.
    """

    folder: Path
    name: str
    class_names: Sequence[str]
    info: dict[str, Any]
    licenses: Sequence[dict[str, Any]] = ()

    @property
    def image_dir(self) -> Path:
        return self.folder / self.name

    @property
    def json_path(self) -> Path:
        return self.folder / "annotations" / f"instances_{self.name}.json"

    def is_complete(self) -> bool:
        """Tell whether the split is on disk, with this very `info` and with all of its images."""
        try:
            content = json.loads(self.json_path.read_text())
            file_names = {image["file_name"] for image in content["images"]}
            return content["info"] == self.info and file_names <= set(os.listdir(self.image_dir))
        except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
            return False

    def write(self, samples: Iterable[Sample], total: int | None = None) -> None:
        """Write the images, then the json, in place of any earlier version of the split.

        Args:
            samples: the images in order; image k gets the id k and the file name of k.
            total: how many there are, for the progress bar.
        """
        self._clear()
        images, annotations = [], []
        for index, sample in enumerate(tqdm(samples, desc=str(self.image_dir), total=total)):
            file_name = f"{index:06d}.png"
            Image.fromarray(sample.image).save(self.image_dir / file_name)
            height, width = sample.image.shape[:2]
            size = {"width": width, "height": height}
            images.append({"id": index, "file_name": file_name, **size, "license": 1})
            annotations += _annotations(sample, index, first_id=len(annotations) + 1)
        content = {
            "info": self.info,
            "licenses": list(self.licenses),
            "categories": [{"id": i + 1, "name": n} for i, n in enumerate(self.class_names)],
            "images": images,
            "annotations": annotations,
        }
        write_json(self.json_path, content)

    def _clear(self) -> None:
        # The json goes first: what is left behind by an interruption must not look complete.
        self.json_path.unlink(missing_ok=True)
        self.json_path.parent.mkdir(parents=True, exist_ok=True)
        self.image_dir.mkdir(parents=True, exist_ok=True)
        for path in self.image_dir.glob("*.png"):
            path.unlink()


def _annotations(sample: Sample, image_id: int, first_id: int) -> list[dict]:
    # Ids start at 1: COCOeval takes the id 0 of a matched ground truth for "not matched".
    return [
        {
            "id": first_id + i,
            "image_id": image_id,
            "category_id": label + 1,
            "bbox": list(box),
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for i, (box, label) in enumerate(zip(sample.boxes, sample.labels, strict=True))
    ]
