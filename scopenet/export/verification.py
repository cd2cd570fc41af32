"""The verification of an exported file, before it may be used."""

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from detectron2.structures import Instances
from tqdm import tqdm

from ..engine.evaluator import CocoEvaluator
from ..engine.network import Network
from ..errors import ConfigError
from ..images import read_image
from ..runtime.backends import Backend
from ..runtime.predictor import predict
from ..runtime.resize import resize
from ..runtime.results import rescale, to_instances
from .comparison import Agreement, compare
from .samples import spread

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
class Verification:
    """What the comparison of an exported file with its original saw.

    Attributes:
        images: that were compared.
        on_images: resized as usual.
        at_sizes: at ``SIZES``.
        ap, exported_ap: box AP on the images, in percent; None without annotations.
    """

    images: int
    on_images: Agreement
    at_sizes: Agreement
    ap: float | None
    exported_ap: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def describe(self) -> str:
        both = self.on_images + self.at_sizes
        text = (
            f"{both.matched} of {both.detections} detections on {self.images} images and at "
            f"{len(SIZES)} sizes agree (boxes to {both.max_box_difference:.2g} px, scores to "
            f"{both.max_score_difference:.2g})"
        )
        return text if self.ap is None else f"{text}; AP {self.ap:.2f} -> {self.exported_ap:.2f}"

    def check(self, precision: str) -> None:
        """Refuse a file that does not find what the original finds.

        Raises:
            ConfigError: the file is not good enough.
        """
        both, min_matched = self.on_images + self.at_sizes, MIN_MATCHED[precision]
        lost = 0.0 if self.ap is None else self.ap - self.exported_ap
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


def verify(
    network: Network, backend: Backend, records: Sequence[dict], dataset_name: str | None
) -> Verification:
    """Compare an exported file with its original.

    Args:
        records: images, see :func:`~scopenet.export.samples.find_samples`.
        dataset_name: with the annotations of the images, if there are any.
    """
    precision = backend.metadata.precision
    expected, found = [], []
    on_images = Agreement()
    for record in tqdm(records, desc="verifying", leave=False):
        image = read_image(record["file_name"])
        expected.append(network(image)["instances"].to("cpu"))
        found.append(predict(backend, image)["instances"])
        on_images += compare(expected[-1], found[-1], precision=precision)
    at_sizes = _compare_at_sizes(network, backend, records)
    aps = (_ap(dataset_name, records, x) if dataset_name else None for x in (expected, found))
    return Verification(len(records), on_images, at_sizes, *aps)


def _compare_at_sizes(network: Network, backend: Backend, records: Sequence[dict]) -> Agreement:
    """Compare at inputs of ``SIZES``, several images each: few objects are left in a small one."""
    agreement = Agreement()
    for record in spread(records, IMAGES_PER_SIZE):
        for size in SIZES:
            image = resize(read_image(record["file_name"]), *size)
            expected = network.detect(image, size)["instances"].to("cpu")
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
