"""A detector run over labelled images, as tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd
import torch
from detectron2.data import build_detection_test_loader
from detectron2.structures import Instances
from torch import Tensor
from tqdm import tqdm

from ..modeling import ScopeNet
from .borders import DIRECTIONS, borders_table, positives_table, predict_borders
from .detector import Detector
from .ground_truth import BOX, add_shape

BORDER_SCORES = [f"p_{x}" for x in DIRECTIONS]


@dataclass(frozen=True)
class Bins:
    """The bins and anchors of a ScopeNet, and how it uses them; N may be 1."""

    level_names: list[str]
    edges: Tensor  # (L, N+1) px, nominal
    start: Tensor  # (L, N) log2 px, anchors before training
    learned: Tensor  # (L, N) log2 px
    uncertainty: bool  # whether sigma^2 is in use
    guided_score: bool  # whether detections are ranked by p_box
    borders: pd.DataFrame | None = None  # see `borders_table`; None for N = 1
    positives: pd.DataFrame | None = None  # see `positives_table`; None for N = 1

    @property
    def num_bins(self) -> int:
        return self.start.shape[1]


@dataclass(frozen=True)
class Run:
    """What a detector found; ``bins`` is None unless it is a ScopeNet."""

    detector: Detector
    detections: pd.DataFrame
    bins: Bins | None = None

    @property
    def name(self) -> str:
        return self.detector.name

    @property
    def score_columns(self) -> list[str]:
        """The scores worth comparing: all three of equation 3 where there are bins."""
        has_p_loc = self.bins is not None and self.bins.num_bins > 1
        return ["p_cls", "p_loc", "p_box"] if has_p_loc else ["score"]


def detections_table(instances: Instances, image: int) -> pd.DataFrame:
    """The detections of one image (COCO's id), see :mod:`scopenet.analysis` for the columns."""
    instances = instances.to("cpu")
    columns = {"label": instances.pred_classes, "score": instances.scores}
    columns |= dict(zip(BOX, instances.pred_boxes.tensor.unbind(1), strict=True))
    if instances.has("border_scores"):
        p_cls, p_loc = instances.cls_scores, instances.loc_scores
        columns |= {"p_cls": p_cls, "p_loc": p_loc, "p_box": p_cls * p_loc}
        columns |= dict(zip(BORDER_SCORES, instances.border_scores.unbind(1), strict=True))
    table = pd.DataFrame({name: x.double().numpy() for name, x in columns.items()})
    return table.assign(image=image, label=table.label.astype(int))


@dataclass
class _BorderRecorder:
    """Looks at the head's raw outputs of a forward pass that is made anyway."""

    model: ScopeNet
    predictions: tuple = ()
    borders: list[pd.DataFrame] = field(default_factory=list)
    positives: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self):
        self.model.head.register_forward_hook(self._keep)

    def _keep(self, module, inputs, output) -> None:
        self.predictions = output

    def record(self, batch: list[dict]) -> None:
        gt_instances = [x["instances"].to(self.model.device) for x in batch]
        borders = predict_borders(self.model, self.predictions, gt_instances)
        self.borders.append(borders_table(borders, self.model.bin_edges))
        self.positives.append(positives_table(borders))


def _bins(model: ScopeNet, recorder: _BorderRecorder | None) -> Bins:
    return Bins(
        level_names=list(model.head_in_features),
        edges=model.bin_edges.cpu(),
        start=model.log2_anchor_start.cpu(),
        learned=model.log2_anchors.detach().cpu(),
        uncertainty=model.uncertainty,
        guided_score=model.guided_score,
        borders=pd.concat(recorder.borders, ignore_index=True) if recorder else None,
        positives=pd.concat(recorder.positives, ignore_index=True) if recorder else None,
    )


@torch.no_grad()
def run_detector(detector: Detector, dataset_dicts: Sequence[dict]) -> Run:
    """Detect in all images, one by one so that no padding depends on the neighbours.

    Args:
        dataset_dicts: labelled images in Detectron2's format, at least one.
    """
    model = detector.model
    is_scopenet = isinstance(model, ScopeNet)
    recorder = _BorderRecorder(model) if is_scopenet and model.num_bins > 1 else None
    loader = build_detection_test_loader(
        list(dataset_dicts), mapper=detector.mapper, num_workers=detector.num_workers
    )
    tables = []
    for batch in tqdm(loader, desc=detector.name, unit="image", mininterval=1.0):
        (output,) = model(batch)
        tables.append(detections_table(output["instances"], batch[0]["image_id"]))
        if recorder:
            recorder.record(batch)
    detections = add_shape(pd.concat(tables, ignore_index=True))
    return Run(detector, detections, _bins(model, recorder) if is_scopenet else None)
