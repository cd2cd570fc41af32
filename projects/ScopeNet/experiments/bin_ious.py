"""How well boxes are decoded from their true and from the chosen bins, on validation images."""

from collections import Counter
from collections.abc import Iterable

import torch
from detectron2.utils import comm
from torch import nn

from scopenet.modeling import ScopeNet
from scopenet.modeling.metrics import mean_iou


@torch.no_grad()
def bin_ious(model: nn.Module, batches: Iterable[list[dict]]) -> dict[str, float]:
    """Average the IoU with the ground truth, in percent, of the boxes that a ScopeNet decodes at
    all positives of labelled images, from the true bins ("iou_true_bins") and as it does without
    them ("iou_chosen_bins"); nothing for another detector or without positives.

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
        if count := len(borders.gt_bins):
            from_true = borders.decode(borders.gt_bins)
            from_chosen = borders.predict(model.decoding, borders.log_probs.argmax(-1))
            totals["iou_true_bins"] += count * mean_iou(from_true, borders.gt_distances).item()
            totals["iou_chosen_bins"] += count * mean_iou(from_chosen, borders.gt_distances).item()
            totals["count"] += count
    totals = sum(comm.all_gather(totals), Counter())
    count = totals.pop("count", 0)
    return {name: 100 * total / count for name, total in totals.items()}
