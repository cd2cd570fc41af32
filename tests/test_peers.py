"""What experiments measure of ScopeNet alone, and Detectron2's detectors as peers."""

import pandas as pd
import pytest
import torch
from builders import build_scopenet, ground_truth, random_ground_truth, spread_out_head
from detectron2.config import instantiate
from detectron2.utils.events import EventStorage
from torch import nn

from experiments.bin_ious import bin_ious
from scopenet.analysis.bin_choice import iou_figures
from scopenet.analysis.borders import border_tables
from scopenet.config_file import load_lazy_config


def image(instances) -> dict:
    """A labelled image of noise."""
    height, width = instances.image_size
    pixels = torch.rand(3, height, width, generator=torch.Generator().manual_seed(len(instances)))
    return {"image": 255 * pixels, "height": height, "width": width, "instances": instances}


def test_bin_ious_are_means_over_all_positives():
    model = build_scopenet(num_classes=3)
    few, many = (image(random_ground_truth(n, 3, 160, 192, seed=n)) for n in (1, 9))
    spread_out_head(model, [few, many])
    tables = [border_tables(model, model.predict([x])[2], [x["instances"]])[1] for x in (few, many)]
    assert 0 < len(tables[0]) < len(tables[1])
    expected = iou_figures(pd.concat(tables)).loc["all"]
    unlabelled = {k: x for k, x in few.items() if k != "instances"}
    found = bin_ious(model, [[few], [unlabelled], [many]])
    assert found == pytest.approx(
        {
            "iou_true_bins": expected["IoU, true bins"],
            "iou_chosen_bins": expected["IoU, chosen bins"],
        },
        rel=1e-5,
    )
    assert found["iou_true_bins"] > found["iou_chosen_bins"] + 1


def test_there_are_no_bin_ious_of_other_detectors_and_without_positives():
    assert bin_ious(nn.Linear(1, 1), [[{}]]) == {}
    assert bin_ious(build_scopenet(), [[image(ground_truth([], []))]]) == {}


@pytest.mark.parametrize("name", ["FCOS", "RetinaNet"])
def test_loss_normalizer_starts_at_the_first_batch(name):
    torch.manual_seed(0)
    node = load_lazy_config(f"peers/{name}_R_50_FPN_own_start.py").model
    node.num_classes = 3
    model = instantiate(node)
    boxes, classes = [[10, 10, 80, 90], [30, 5, 120, 100]], [0, 2]
    with EventStorage() as storage:
        for number in (1, 2):
            model([image(ground_truth(boxes[:number], classes[:number]))])
            storage.step()
        first, second = (x for x, _ in storage.history("num_pos_anchors").values())
    assert 0 < first < second < 100
    # Detectron2's own moving average would be at 270 (RetinaNet: 90) after the first batch.
    assert model.loss_normalizer == pytest.approx(0.9 * first + 0.1 * second)
