"""Whether an exported file finds what its original finds, seen on images before it may be used."""

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances, pairwise_iou
from tqdm import tqdm

from ..engine.checks import check_datasets
from ..engine.evaluator import CocoEvaluator
from ..engine.network import Network
from ..errors import ConfigError
from ..images import images_in, read_image
from ..runtime.backends import Backend
from ..runtime.predictor import predict, rescale, resize, to_instances
from .graph import longest_side

SCORE_THRESH = 0.1  # detections below need no counterpart
MIN_IOU = 0.9
# Of float32, where only the order of additions differs.
MAX_BOX_DIFFERENCE = 0.5  # px
MAX_SCORE_DIFFERENCE = 1e-3
# Height and width of inputs that are not resized, px; the first has fewer locations than any
# TOPK_CANDIDATES_TEST and coarse levels of one cell.
SIZES = ((33, 47), (96, 256), (333, 250), (480, 640))
IMAGES_PER_SIZE = 8
# Share of the detections. With fewer bits close choices between two bins turn over, and the one
# border that they decide on jumps: the more of them, the less a detector is sure of its bins, while
# AP stays (docs/deployment.md). Below these something is broken.
MIN_MATCHED = {"float32": 0.99, "bfloat16": 0.8, "int8": 0.5}
MAX_AP_LOSS = {"float32": 0.1, "bfloat16": 0.2, "int8": 0.4}  # in percent


@dataclass(frozen=True)
class Agreement:
    """How much of what two detectors find is the same."""

    detections: int = 0  # above SCORE_THRESH, of both detectors
    matched: int = 0  # those with a counterpart in the other detector's
    max_box_difference: float = 0.0  # between counterparts, px
    max_score_difference: float = 0.0  # between counterparts, of any of their scores

    def __add__(self, other: "Agreement") -> "Agreement":
        counts = self.detections + other.detections, self.matched + other.matched
        boxes = max(self.max_box_difference, other.max_box_difference)
        scores = max(self.max_score_difference, other.max_score_difference)
        return Agreement(*counts, boxes, scores)

    @property
    def share(self) -> float:
        return self.matched / self.detections if self.detections else 1.0


@dataclass(frozen=True)
class Verification:
    """What the comparison of an exported file with its original saw."""

    images: int  # that were compared
    on_images: Agreement  # resized as usual
    at_sizes: Agreement  # at those of SIZES that the model takes
    ap: float | None  # box AP on the images, in percent; None without annotations
    exported_ap: float | None

    def describe(self) -> str:
        both = self.on_images + self.at_sizes
        text = (
            f"{both.matched} of {both.detections} detections on {self.images} images and at "
            f"other sizes agree (boxes to {both.max_box_difference:.2g} px, scores to "
            f"{both.max_score_difference:.2g})"
        )
        return text if self.ap is None else f"{text}; AP {self.ap:.2f} -> {self.exported_ap:.2f}"

    def check(self, precision: str) -> None:
        """Raise a ConfigError for a file that does not find what the original finds."""
        both, min_matched = self.on_images + self.at_sizes, MIN_MATCHED[precision]
        lost = 0.0 if self.ap is None or self.exported_ap is None else self.ap - self.exported_ap
        if not (both.share >= min_matched and lost <= MAX_AP_LOSS[precision]):
            raise ConfigError(
                f"The exported model does not find what the original finds: {self.describe()}; "
                f"{min_matched:.0%} must agree, and AP may fall by {MAX_AP_LOSS[precision]}."
            )
        if not (self.on_images.detections and self.at_sizes.detections):
            raise ConfigError(
                "The verification compared nothing: the model finds too little in the images; "
                "give others with --images, or train it for longer."
            )


def find_samples(source: str, count: int) -> list[dict[str, Any]]:
    """List at most ``count`` images (0: all), evenly spread, of a registered data set or a folder,
    as Detectron2's dataset dicts; of a folder only "file_name". No images are a ConfigError."""
    if source in DatasetCatalog.list():
        check_datasets((source,))
        found = DatasetCatalog.get(source)
    elif Path(source).is_dir():
        found = [{"file_name": str(x)} for x in images_in(Path(source))]
    else:
        raise ConfigError(f"{source} is neither a registered data set nor a folder of images.")
    if not found:
        raise ConfigError(f"{source} has no images.")
    return spread(found, count or len(found))


def spread(items: Sequence, count: int) -> list:
    """Take at most ``count`` of the items, evenly spaced, the first among them."""
    count = min(count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def verify(network: Network, backend: Backend, source: str, records: list[dict]) -> Verification:
    """Compare an exported file with its original on the images that :func:`find_samples` has found
    in ``source``, in AP, too, if these have annotations in COCO's format."""
    expected, found, on_images = [], [], Agreement()
    for record in tqdm(records, desc="verifying", leave=False):
        image = read_image(record["file_name"])
        expected.append(network(image)["instances"].to("cpu"))
        found.append(predict(backend, image)["instances"])
        on_images += compare(expected[-1], found[-1], precision=backend.metadata.precision)
    at_sizes = _compare_at_sizes(network, backend, records)
    is_labelled = source in DatasetCatalog.list() and MetadataCatalog.get(source).get("json_file")
    aps = (_ap(source, records, x) if is_labelled else None for x in (expected, found))
    return Verification(len(records), on_images, at_sizes, *aps)


def compare(expected: Instances, found: Instances, *, precision: str) -> Agreement:
    """Compare the detections of one image.

    A counterpart may itself score a little less than ``SCORE_THRESH``; in float32 it must be nearly
    the same box with nearly the same scores.
    """
    agreement = Agreement(sum((x.scores > SCORE_THRESH).sum().item() for x in (expected, found)))
    for i, j in _counterparts(expected, found):
        counted = sum(x > SCORE_THRESH for x in (expected.scores[i], found.scores[j]))
        boxes, scores = _differences(expected[i], found[j])
        is_same = boxes <= MAX_BOX_DIFFERENCE and scores <= MAX_SCORE_DIFFERENCE
        if counted and (is_same or precision != "float32"):
            agreement += Agreement(0, int(counted), boxes, scores)
    return agreement


def _counterparts(expected: Instances, found: Instances) -> list[tuple[int, int]]:
    """Pair detections of one class with an IoU of at least ``MIN_IOU``, one to one, best first."""
    ious = pairwise_iou(expected.pred_boxes, found.pred_boxes)
    ious[expected.pred_classes[:, None] != found.pred_classes] = 0
    pairs, is_free = [], np.ones(len(found), bool)
    for i, row in enumerate(ious.numpy()):
        candidates = np.where(is_free, row, 0)
        if candidates.size and candidates.max() >= MIN_IOU:
            pairs.append((i, int(candidates.argmax())))
            is_free[pairs[-1][1]] = False
    return pairs


def _differences(expected: Instances, found: Instances) -> tuple[float, float]:
    """Return the largest between two counterparts, of the boxes in px and of the scores."""
    boxes = expected.pred_boxes.tensor - found.pred_boxes.tensor
    names = ("scores", "cls_scores", "loc_scores", "border_scores")
    scores = (expected.get(x) - found.get(x) for x in names)
    return boxes.abs().max().item(), max(x.abs().max().item() for x in scores)


def _compare_at_sizes(network: Network, backend: Backend, records: Sequence[dict]) -> Agreement:
    """Compare at inputs of ``SIZES``, several images each: few objects are left in a small one."""
    agreement = Agreement()
    for record in spread(records, IMAGES_PER_SIZE):
        for size in (x for x in SIZES if max(x) <= longest_side(network.model)):
            image = resize(read_image(record["file_name"]), *size)
            expected = network.detect([network.as_input(image, size)])[0]["instances"].to("cpu")
            found = to_instances(rescale(backend(image), size, size), size)
            agreement += compare(expected, found, precision=backend.metadata.precision)
    return agreement


def _ap(dataset_name: str, records: Sequence[dict], detections: Sequence[Instances]) -> float:
    """Compute box AP on these images of the data set, in percent."""
    evaluator = CocoEvaluator(dataset_name)
    evaluator.reset()
    for record, instances in zip(records, detections, strict=True):
        evaluator.process([record], [{"instances": instances}])
    logging.disable(logging.INFO)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return evaluator.evaluate([x["image_id"] for x in records])["bbox"]["AP"]
    finally:
        logging.disable(logging.NOTSET)
