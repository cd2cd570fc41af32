"""Detectron2's ``DefaultPredictor`` for exported detectors."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from .backends import Backend, load_backend
from .metadata import PRECISIONS
from .resize import network_size, resize
from .results import rescale, to_instances


def check_image(image: np.ndarray) -> None:
    """Refuse what is no image, e.g. what ``cv2.imread`` returns for a file it cannot read.

    Raises:
        ValueError: it is no BGR image.
    """
    is_array = isinstance(image, np.ndarray)
    if not (is_array and image.dtype == np.uint8 and image.shape[2:] == (3,) and image.size):
        found = f"{image.dtype} of shape {image.shape}" if is_array else type(image).__name__
        raise ValueError(f"An image is an array (H, W, 3) of uint8, BGR, not {found}.")


def predict(backend: Backend, image: np.ndarray) -> dict:
    """Detect objects in one image: resize it, run the network, scale back; see
    :class:`Predictor`."""
    check_image(image)
    size = image.shape[:2]
    scaled_to = network_size(*size, backend.metadata.min_size, backend.metadata.max_size)
    outputs = backend(np.ascontiguousarray(resize(image, *scaled_to)))
    return {"instances": to_instances(rescale(outputs, scaled_to, size), size)}


class Predictor:
    """Does what Detectron2's ``DefaultPredictor`` does, with its resizing and results, and takes a
    list of images, too.

    Without Detectron2 the instances are :class:`~scopenet.runtime.results.ArrayInstances`.

    Args:
        path: an exported .onnx or .xml file.
        device: "cpu", or what onnxruntime ("cuda", "tensorrt") or OpenVINO ("gpu") has here.
        precision: "float32" or "bfloat16" in place of the one of an OpenVINO file.
        batch_size: how many images of a list are worked on at a time; they share the threads.
        num_threads: for computing; by default as many as the library thinks best.

    Attributes:
        metadata: what the file says of itself; its ``class_names`` are here, too.

    Raises:
        ConfigError: the file is missing, was not exported by this project, or cannot be run so.
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
        self._backend = load_backend(
            Path(path),
            device=device,
            precision=precision,
            num_streams=batch_size,
            num_threads=num_threads,
        )
        self._pool = ThreadPoolExecutor(batch_size) if batch_size > 1 else None
        self.metadata = self._backend.metadata
        self.class_names = self.metadata.class_names

    def __call__(self, images: np.ndarray | Sequence[np.ndarray]) -> dict | list[dict]:
        """Detect objects in an image or in each of a list.

        Args:
            images: (H, W, 3) uint8 BGR, as ``cv2.imread`` gives it, or a list of such images.

        Returns:
            {"instances": detections in px of the image}, or a list of such dicts.

        Raises:
            ValueError: an image is none.
        """
        if isinstance(images, np.ndarray):
            return predict(self._backend, images)
        run = map if self._pool is None else self._pool.map
        return list(run(partial(predict, self._backend), images))
