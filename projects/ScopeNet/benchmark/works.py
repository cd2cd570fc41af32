"""What is measured of a detector: a function for each part that makes its :class:`Work`."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils.events import EventStorage
from torch import Tensor

from scopenet.engine.precision import losses_in_float32

from .bounds import RecordConvolutions, fold_frozen_norms
from .contestants import Contestant
from .measure import Laps, Work


def autocast(model: DenseDetector, precision: torch.dtype):
    """Run the forward pass in ``precision``; do nothing for float32."""
    enabled = precision != torch.float32
    return torch.autocast(model.device.type, precision, enabled=enabled)


def in_mode(model: DenseDetector, training: bool) -> DenseDetector:
    """Return the model for training or for inference. It is told so only where it is not yet:
    ScopeNet then forgets the weights that it keeps folded from image to image."""
    return model if model.training == training else model.train(training)


@contextmanager
def marked(model: DenseDetector, laps: Laps) -> Iterator[None]:
    """Mark the laps "preprocessing", "backbone" and "head" of a forward pass."""
    with ExitStack() as handles:
        before = model.backbone.register_forward_pre_hook
        handles.enter_context(before(lambda *_: laps.mark("preprocessing")))
        for name in ("backbone", "head"):
            after = getattr(model, name).register_forward_hook
            handles.enter_context(after(lambda *_, name=name: laps.mark(name)))
        yield


def labels(contestant: Contestant, inputs: list[dict]) -> Work:
    """Measure label assignment alone."""
    with torch.no_grad():
        _, features, predictions = contestant.predict(inputs)
    gt_instances = [x["instances"] for x in inputs]

    def run(laps: Laps) -> None:
        contestant.label(features, predictions, gt_instances)
        laps.mark("labels")

    return Work(run)


def losses(contestant: Contestant, inputs: list[dict]) -> Work:
    """Measure from the head's raw outputs to their gradients: labels, losses, backward."""
    with torch.no_grad():
        images, features, predictions = contestant.predict(inputs)
    gt_instances = [x["instances"] for x in inputs]

    def leaves() -> tuple[list[list[Tensor]]]:
        return ([[x.detach().requires_grad_() for x in maps] for maps in predictions],)

    def run(laps: Laps, predictions: list[list[Tensor]]) -> None:
        model = in_mode(contestant.model, True)
        with EventStorage():
            found = model.forward_training(images, features, predictions, gt_instances)
        laps.mark("labels and losses")
        sum(found.values()).backward()
        laps.mark("their backward")

    return Work(run, leaves)


def detections(contestant: Contestant, inputs: list[dict]) -> Work:
    """Measure from the head's raw outputs to detections."""
    with torch.no_grad():
        images, features, predictions = contestant.predict(inputs)

    def copies() -> tuple[list[list[Tensor]]]:
        # Detectron2's FCOS takes sigmoids in place.
        return ([[x.clone() for x in maps] for maps in predictions],)

    @torch.no_grad()
    def run(laps: Laps, predictions: list[list[Tensor]]) -> None:
        in_mode(contestant.model, False).forward_inference(images, features, predictions)
        laps.mark("detections")

    return Work(run, copies)


def inference(contestant: Contestant, inputs: list[dict], precision: torch.dtype) -> Work:
    """Measure images to detections, as a predictor calls it."""

    @torch.no_grad()
    def run(laps: Laps) -> None:
        model = in_mode(contestant.model, False)
        with marked(model, laps), autocast(model, precision):
            model(inputs)
        laps.mark("detections")

    return Work(run)


def training_step(contestant: Contestant, inputs: list[dict], precision: torch.dtype) -> Work:
    """Measure everything of an iteration but loading: forward, backward, optimizer."""
    parameters = [x for x in contestant.model.parameters() if x.requires_grad]
    # Random weights must stay what they are: the rate is 0, the work the same.
    optimizer = torch.optim.SGD(parameters, lr=0.0, momentum=0.9)

    def run(laps: Laps) -> None:
        model = in_mode(contestant.model, True)
        in_float32 = losses_in_float32(model)
        with EventStorage(), marked(model, laps), in_float32, autocast(model, precision):
            found = model(inputs)
        laps.mark("labels and losses")
        optimizer.zero_grad()
        sum(found.values()).backward()
        laps.mark("backward")
        optimizer.step()
        laps.mark("optimizer")

    return Work(run)


def network(contestant: Contestant, inputs: list[dict], precision: torch.dtype) -> Work:
    """Bound inference from below: backbone and head alone, frozen normalization folded."""
    model = contestant.model.eval()
    with torch.no_grad():
        images = model.preprocess_image(inputs)
    backbone, head = fold_frozen_norms(model.backbone), model.head

    @torch.no_grad()
    def forward() -> None:  # frees its tensors before the lap ends
        features = backbone(images.tensor)
        head([features[name] for name in model.head_in_features])

    def run(laps: Laps) -> None:
        with autocast(model, precision):
            forward()
        laps.mark("network")

    return Work(run)


def convolutions(work: Work, device: torch.device) -> Work:
    """Bound ``work`` from below: the convolutions it computes, and nothing else."""
    with RecordConvolutions() as record:
        work.run(Laps(device), *work.prepare())

    def run(laps: Laps) -> None:
        record.replay()
        laps.mark("convolutions")

    return Work(run)
