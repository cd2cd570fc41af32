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


def positives_of_levels(name: str, side: float) -> tuple[list[int], float]:
    """Count the positives of a square box of a peer per level, and find the largest distance to its
    centre, in strides."""
    node = load_lazy_config(name).model
    node.num_classes = 1
    model = instantiate(node)
    low, high = 512 - side / 2, 512 + side / 2
    truth = ground_truth([[low, low, high, high]], [0], image_size=(1024, 1024))
    strides = (8, 16, 32, 64, 128)
    anchors = model.anchor_generator([torch.zeros(1, 1, 1024 // x, 1024 // x) for x in strides])
    (labels,), _ = model.label_anchors(anchors, [truth])
    found = [x == 0 for x in labels.split([len(x) for x in anchors])]
    distances = [
        float((boxes.get_centers()[positive] - 512).abs().max()) / stride
        for stride, boxes, positive in zip(strides, anchors, found, strict=True)
        if positive.any()
    ]
    return [int(x.sum()) for x in found], max(distances)


def test_on_finer_levels_boxes_are_where_half_of_them_were():
    fcos, finer_fcos = "peers/FCOS_R_50_FPN_own_start.py", "finer_levels/FCOS.py"
    expected = positives_of_levels(fcos, 200.0)
    assert expected[0][1] > 1 and sum(expected[0]) == expected[0][1]
    assert positives_of_levels(finer_fcos, 400.0) == expected
    assert positives_of_levels(finer_fcos, 200.0)[0][1:] == [0, 0, 0, 0]
    retinanet, finer = "peers/RetinaNet_R_50_FPN_own_start.py", "finer_levels/RetinaNet.py"
    levels, of_half, same = (
        [number > 0 for number in positives_of_levels(name, side)[0]]
        for name, side in ((retinanet, 200.0), (finer, 400.0), (finer, 200.0))
    )
    assert of_half == levels == [False, *same[:-1]] and sum(levels) > 0
