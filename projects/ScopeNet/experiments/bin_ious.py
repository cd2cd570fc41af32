"""How well boxes are decoded from their true and from the chosen bins, on validation images."""

from collections import Counter
from collections.abc import Iterable

import torch
from detectron2.utils import comm
from torch import nn

from scopenet.modeling import ScopeNet
from scopenet.modeling.metrics import localization_metrics

_COLUMNS = {"iou_target_bin": "iou_true_bins", "iou_best_bin": "iou_chosen_bins"}


@torch.no_grad()
def bin_ious(model: nn.Module, batches: Iterable[list[dict]]) -> dict[str, float]:
    """Average the IoU with the ground truth, in percent, of the boxes that a ScopeNet decodes at
    all positives of labelled images; nothing for another detector or without positives.

    All workers call this together, each with its own images.
    """
    if not isinstance(model, ScopeNet):
        return {}
    model.eval()
    totals: Counter[str] = Counter()
    for batch in batches:
        labelled = [x for x in batch if "instances" in x]  # one that cannot be read has none
        if not labelled:
            continue
        _, _, predictions = model.predict(labelled)
        gt_instances = [x["instances"].to(model.device) for x in labelled]
        positives = model.label_locations(predictions, gt_instances)
        borders = model.borders(predictions, gt_instances, positives)
        count = len(borders.gt_bins)
        for name, value in localization_metrics(borders, has_variance=False).items():
            totals[name] += value.item() * count
        totals["count"] += count
    totals = sum(comm.all_gather(totals), Counter())
    count = totals["count"]
    return {c: 100 * totals[name] / count for name, c in _COLUMNS.items()} if count else {}
