"""A detector run over labelled images, as tables."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from detectron2.config import CfgNode
from detectron2.structures import Boxes, Instances
from detectron2.structures.boxes import matched_pairwise_iou
from tqdm import tqdm

from ..data.loader import build_validation_loader
from ..data.unusable import drop_unusable_boxes
from ..detector import Detector
from ..engine.checks import check_config
from ..errors import ConfigError
from ..modeling import ScopeNet, ScopeNetWithTTA
from .borders import DIRECTIONS, border_tables
from .coco_evaluation import evaluate, matches
from .dataset import BOX, Dataset, add_shape

BORDER_SCORES = [f"p_{x}" for x in DIRECTIONS]
BORDER_STDS = [f"std_{x}" for x in DIRECTIONS]  # px


@dataclass(frozen=True)
class Run:
    """What a detector found in a data set."""

    name: str
    model: Any  # a ScopeNet where there are borders
    dataset: Dataset
    detections: pd.DataFrame  # by row number
    borders: Any = None  # see `border_tables`; None without a choice of bins
    positives: Any = None

    @property
    def score_columns(self) -> list[str]:
        """The scores worth comparing: all three of equation 3 where there are bins."""
        return ["score"] if self.borders is None else ["p_cls", "p_loc", "p_box"]

    @cached_property
    def overlaps(self) -> pd.DataFrame:
        """Each detection beside each ground truth of its image; one row per pair: ``detection``
        (row number), ``truth`` (id), ``iou`` in [0, 1] and ``same_class``."""
        found = self.detections[["image", "label", *BOX]].rename_axis("detection").reset_index()
        true = self.dataset.truths.rename(columns={"id": "truth"})
        pairs = found.merge(true, on="image", suffixes=("", "_true"))
        both = BOX, [f"{x}_true" for x in BOX]
        boxes = (Boxes(torch.tensor(pairs[columns].to_numpy(float))) for columns in both)
        pairs["iou"] = matched_pairwise_iou(*boxes).numpy().astype(float)
        pairs["same_class"] = pairs.label == pairs.label_true
        return pairs[["detection", "truth", "iou", "same_class"]]

    def best_overlaps(self, *, same_class: bool) -> pd.DataFrame:
        """Find the ground truth of the same or of another class that each detection overlaps most:
        ``truth`` and ``iou`` by row number; 0 where there is none."""
        pairs = self.overlaps[(self.overlaps.same_class == same_class) & (self.overlaps.iou > 0)]
        best = pairs.loc[pairs.groupby("detection").iou.idxmax(), ["detection", "truth", "iou"]]
        return best.set_index("detection").reindex(range(len(self.detections)), fill_value=0)

    @cached_property
    def true_ious(self) -> np.ndarray:
        """The IoU of each detection with the best ground truth of its class, (K,) in [0, 1]."""
        return self.best_overlaps(same_class=True).iou.to_numpy(float)

    @cached_property
    def matched(self) -> pd.DataFrame:
        """The detections that count, at IoU 0.5, with the columns of :func:`.matches`."""
        matched = matches(evaluate(self.dataset, self.detections, iou_thresholds=[0.5]))
        return self.detections.join(matched[~matched.ignored], how="inner")

    def above(self, threshold: float) -> "Run":
        """Return the run with the detections from a score upwards only."""
        kept = self.detections[self.detections.score >= threshold]
        return replace(self, detections=kept.reset_index(drop=True))


def choose_dataset(detector: Detector, dataset_name: str) -> str:
    """Let ``dataset_name``, or else the config's test set, be what is tested on; return its name.
    More than one, and one that cannot be read or does not fit the config, are a ConfigError."""
    network = detector.network
    assert network is not None  # as in an exported one
    config = network.config
    if dataset_name and isinstance(config, CfgNode):
        config.DATASETS.TEST = (dataset_name,)
    elif dataset_name:
        config.dataloader.test.dataset.names = dataset_name
    names = network.settings.DATASETS.TEST
    if len(names) != 1:
        raise ConfigError(f"{detector.name} has {len(names)} test sets; choose one with --dataset.")
    check_config(config, training=False)
    return names[0]


def detections_table(instances: Instances, image: int) -> pd.DataFrame:
    """Make a table of the detections of one image (COCO's id), see :mod:`scopenet.analysis`."""
    instances = instances.to("cpu")
    columns = {"label": instances.pred_classes, "score": instances.scores}
    columns |= dict(zip(BOX, instances.pred_boxes.tensor.unbind(1), strict=True))
    if instances.has("border_scores"):
        p_cls, p_loc = instances.cls_scores, instances.loc_scores
        columns |= {"p_cls": p_cls, "p_loc": p_loc, "p_box": p_cls * p_loc}
        columns |= dict(zip(BORDER_SCORES, instances.border_scores.unbind(1), strict=True))
    if instances.has("border_stds"):
        columns |= dict(zip(BORDER_STDS, instances.border_stds.unbind(1), strict=True))
    table = pd.DataFrame({name: x.double().numpy() for name, x in columns.items()})
    return table.assign(image=image, label=table.label.astype(int))


@torch.no_grad()
def run_detector(detector: Detector, dataset: Dataset, name: str) -> Run:
    """Detect in all images as evaluation does, one by one so that no padding depends on the
    neighbours; a detector, ``name`` in legends, that knows classes which the data set has not, and
    too many unreadable images are a ConfigError."""
    network = detector.network
    assert network is not None
    model: Any = network.model
    model = model.model if isinstance(model, ScopeNetWithTTA) else model  # its single view
    has_choice = isinstance(model, ScopeNet) and model.num_bins > 1
    data = network.trainer.test_data(network.settings, dataset.name, labelled=True)
    loader = build_validation_loader(
        **data | {"dataset": drop_unusable_boxes(dataset.dicts)},
        max_unreadable=network.settings.DATALOADER.MAX_UNREADABLE_IMAGES,
    )
    found, borders, predictions = [], [], []
    if has_choice:  # the head's raw outputs of the very pass that makes the detections
        hook = model.head.register_forward_hook(lambda _, __, output: predictions.append(output))
    for batch in tqdm(loader, desc=name, unit="image", mininterval=1.0):
        (output,) = model(batch)
        found.append(detections_table(output["instances"], batch[0]["image_id"]))
        if has_choice:
            of_batch = predictions.pop()
            if "instances" in batch[0]:  # it is readable
                gt_instances = [x["instances"].to(model.device) for x in batch]
                borders.append(border_tables(model, of_batch, gt_instances))
    if has_choice:
        hook.remove()
    detections = add_shape(pd.concat(found, ignore_index=True))
    label, num_classes = detections.label.max(), len(dataset.class_names)
    if label >= num_classes:
        where = f"data set {dataset.name} has {num_classes} classes"
        raise ConfigError(f"{name} has found class {label}, but {where}.")
    tables = (pd.concat(x, ignore_index=True) for x in zip(*borders, strict=True))
    return Run(name, model, dataset, detections, *tables)
