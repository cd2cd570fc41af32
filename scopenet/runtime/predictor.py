"""Detectron2's ``DefaultPredictor`` for exported detectors."""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
from PIL import Image

from ..errors import ConfigError, import_extra
from ..streams import map_ahead
from .backends import Backend, Options, load_backend
from .metadata import PRECISIONS, Outputs

if TYPE_CHECKING:
    from detectron2.structures import Instances
    from supervision import Detections


@dataclass(frozen=True)
class ArrayInstances:
    """Detectron2's ``Instances`` of a ScopeNet as plain arrays, see :class:`Outputs`."""

    image_size: tuple[int, int]  # height and width, px
    pred_boxes: np.ndarray
    scores: np.ndarray
    pred_classes: np.ndarray
    cls_scores: np.ndarray
    loc_scores: np.ndarray
    border_scores: np.ndarray
    border_stds: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.scores)


def check_image(image: np.ndarray) -> None:
    """Raise a ValueError for what is no BGR image, e.g. what ``cv2.imread`` returns for a file that
    it cannot read."""
    is_array = isinstance(image, np.ndarray)
    if not (is_array and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size):
        found = f"{image.dtype} of shape {image.shape}" if is_array else type(image).__name__
        raise ValueError(f"An image is an array (H, W, 3) of uint8, BGR, not {found}.")


def network_size(height: int, width: int, min_size: int, max_size: int) -> tuple[int, int]:
    """Compute height and width after ``ResizeShortestEdge(min_size, max_size)``, px."""
    if min_size == 0:
        return height, width
    scale = min_size / min(height, width)
    if scale * max(height, width) > max_size:
        scale = max_size / max(height, width)
    return max(int(height * scale + 0.5), 1), max(int(width * scale + 0.5), 1)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 as Detectron2 does it. OpenCV's filters do not average when they
    shrink an image, and a detector that was trained otherwise then finds other scores."""
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def rescale(outputs: Outputs, input_size: tuple[int, int], image_size: tuple[int, int]) -> Outputs:
    """Bring boxes from px of the network input to px of the image, clip them to it and drop those
    that are empty then. The sizes are height and width."""
    height, width = image_size
    scale = np.asarray([width / input_size[1], height / input_size[0]] * 2, np.float32)
    limits = np.asarray([width, height] * 2, np.float32)
    boxes = np.clip(outputs.boxes * scale, 0, limits)
    stds = None if outputs.border_stds is None else outputs.border_stds * scale
    is_nonempty = np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    return outputs._replace(boxes=boxes, border_stds=stds).take(is_nonempty)


def to_instances(outputs: Outputs, image_size: tuple[int, int]) -> "Instances | ArrayInstances":
    """Make Detectron2's ``Instances`` where it is installed, otherwise :class:`ArrayInstances`."""
    fields = {name: x for name, x in outputs._asdict().items() if x is not None}
    fields = {"pred_boxes": fields.pop("boxes"), "pred_classes": fields.pop("classes")} | fields
    if not (find_spec("torch") and find_spec("detectron2")):
        return ArrayInstances(image_size, **fields)
    import torch
    from detectron2.structures import Boxes, Instances

    tensors = {name: torch.from_numpy(x) for name, x in fields.items()}
    boxes = Boxes(tensors.pop("pred_boxes"))
    return Instances(image_size, pred_boxes=boxes, **tensors)


def to_supervision(found: dict, class_names: Sequence[str] = ()) -> "Detections":
    """Make supervision's ``Detections`` of what a detector has found in an image, with PyTorch or
    without. Their ``data`` are what else is known of each object, e.g. ``border_scores`` (N, 4),
    and, of given ``class_names``, its ``class_name``."""
    library = import_extra("supervision", "supervision")
    instances = found["instances"]
    fields = vars(instances) if isinstance(instances, ArrayInstances) else instances.get_fields()
    given = {k: x for k, x in fields.items() if k != "image_size" and x is not None}
    data = {k: np.asarray(getattr(x, "tensor", x)) for k, x in given.items()}
    boxes, scores, classes = (data.pop(k) for k in ("pred_boxes", "scores", "pred_classes"))
    if class_names:
        data["class_name"] = np.array(class_names)[classes]
    return library.Detections(boxes, confidence=scores, class_id=classes.astype(int), data=data)


def predict(backend: Backend, image: np.ndarray) -> dict:
    """Detect objects in one image, see :class:`Predictor`."""
    check_image(image)
    height, width = size = image.shape[:2]
    scaled_to = network_size(height, width, backend.metadata.min_size, backend.metadata.max_size)
    outputs = backend(resize(image, *scaled_to))
    return {"instances": to_instances(rescale(outputs, scaled_to, size), size)}


class Predictor:
    """Does what Detectron2's ``DefaultPredictor`` does, with its resizing and results, and takes a
    list of images, too. A ConfigError says that the file is missing, was not exported by this
    project, or cannot be run so.

    Args:
        path: an exported .onnx or .xml file.
        device: "cpu", or what onnxruntime ("cuda", "tensorrt") or OpenVINO ("gpu") has here.
        precision: "float32" or "bfloat16" in place of the one of an OpenVINO file.
        batch_size: how many images of a list are worked on at a time; they share the threads.
        num_threads: for computing; by default as many as the library thinks best.

    Attributes:
        metadata: what the file says of itself; its ``class_names`` are here, too.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        device: str = "cpu",
        precision: str | None = None,
        batch_size: int = 1,
        num_threads: int | None = None,
    ):
        if precision not in (None, *PRECISIONS):
            raise ConfigError(f'The precision "{precision}" is none of {", ".join(PRECISIONS)}.')
        if batch_size < 1 or (num_threads is not None and num_threads < 1):
            raise ConfigError("batch_size and num_threads must be at least 1.")
        options = Options(device, precision, batch_size, num_threads)
        self._backend = load_backend(Path(path), options)
        self._pool = ThreadPoolExecutor(batch_size) if batch_size > 1 else None
        self._batch_size = batch_size
        self.metadata = self._backend.metadata
        self.class_names = self.metadata.class_names

    @overload
    def __call__(self, images: np.ndarray) -> dict: ...
    @overload
    def __call__(self, images: Sequence[np.ndarray]) -> list[dict]: ...

    def __call__(self, images: np.ndarray | Sequence[np.ndarray]) -> dict | list[dict]:
        """Detect objects in an image (H, W, 3) uint8 BGR, as ``cv2.imread`` gives it, or in each of
        a list; a ValueError says that something is no image.

        Returns:
            {"instances": detections in px of the image}, or a list of such dicts. Without
            Detectron2 these are :class:`ArrayInstances`.
        """
        if isinstance(images, np.ndarray):
            return predict(self._backend, images)
        return list(self.stream(images))

    def stream(self, images: Iterable[np.ndarray]) -> Iterator[dict]:
        """Yield, in the order of any number of images, what calling the predictor with each of them
        returns; few are held at a time."""
        work = partial(predict, self._backend)
        if self._pool is None:
            return map(work, images)
        return map_ahead(work, images, self._pool, ahead=2 * self._batch_size)
