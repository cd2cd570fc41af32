"""Test-time augmentation: views, mirroring and merging worked by hand; the model and the runs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import build_scopenet, spread_out_head
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances
from miniature import TINY, job, lazy_overrides, mini_datasets, mini_overrides, one_thread
from test_detection import FIELDS
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from scopenet import ConfigError, ScopeNetWithTTA, load_config
from scopenet.engine.command import main, prepare
from scopenet.modeling.test_time_augmentation import merge, mirror, views

ONE_X = "ScopeNet_R_50_FPN_1x.yaml"


def detections(*rows: tuple, size: tuple[int, int] = (100, 200)) -> Instances:
    """Of one view; rows are (box, p_cls, border scores, class)."""
    boxes, p_cls, borders, classes = zip(*rows, strict=True) if rows else ([], [], [], [])
    p_cls, borders = torch.tensor(p_cls), torch.tensor(borders).reshape(-1, 4)
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4).float()),
        scores=p_cls * borders.mean(1),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
        cls_scores=p_cls,
        loc_scores=borders.mean(1),
        border_scores=borders,
    )


def merged(*found: Instances, **options) -> Instances:
    options = {"score_thresh": 0.05, "nms_thresh": 0.5, "max_detections": 100} | options
    return merge(list(found), **options)


def assert_equal(first: Instances, second: Instances):
    assert first.image_size == second.image_size and len(first) == len(second)
    assert set(first.get_fields()) == set(second.get_fields()) == FIELDS
    for name in FIELDS:
        ours, theirs = (getattr(x.get(name), "tensor", x.get(name)) for x in (first, second))
        assert torch.equal(ours, theirs), name


# Views


def test_views_have_the_asked_for_sizes_and_mirrored_twins():
    image = torch.arange(3 * 40 * 60).reshape(3, 40, 60).float()
    found = list(views(image, min_sizes=(20, 40, 80), max_size=90, flip=True))
    # 80 x 120 would be longer than 90.
    sizes = [(20, 30), (20, 30), (40, 60), (40, 60), (60, 90), (60, 90)]
    assert [tuple(x.shape[1:]) for x, _ in found] == sizes
    assert [is_mirrored for _, is_mirrored in found] == [False, True] * 3
    assert torch.equal(found[2][0], image)
    assert all(
        torch.equal(a.flip(2), b) for (a, _), (b, _) in zip(found[::2], found[1::2], strict=True)
    )
    assert len(list(views(image, min_sizes=(20, 40), max_size=90, flip=False))) == 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_smaller_view_averages_what_it_leaves_out(dtype):
    """One white column in four; sampling alone would see all of it or nothing."""
    image = torch.zeros(3, 64, 64, dtype=dtype)
    image[:, :, ::4] = 200
    ((view, _),) = views(image, min_sizes=(16,), max_size=100, flip=False)
    assert view[:, 2:-2, 2:-2].sub(50).abs().max() < 15


def test_mirroring_swaps_left_and_right_of_boxes_and_border_scores():
    found = detections(([10.0, 20, 60, 90], 0.5, [0.6, 0.7, 0.8, 0.9], 2))
    twin = mirror(found)
    assert twin.pred_boxes.tensor.tolist() == [[140.0, 20, 190, 90]]
    assert twin.border_scores.tolist() == found.border_scores[:, [2, 1, 0, 3]].tolist()
    assert twin.scores.equal(found.scores) and twin.pred_classes.tolist() == [2]
    assert_equal(mirror(twin), found)


# Merging


def test_borders_are_weighted_by_score_and_own_confidence_and_scores_averaged():
    first = detections(([10.0, 10, 50, 50], 0.8, [0.5, 1.0, 0.5, 1.0], 1))  # p_box 0.6
    second = detections(([14.0, 12, 54, 50], 0.4, [1.0, 0.5, 0.5, 0.0], 1))  # p_box 0.2
    result = merged(first, second)
    # l (0.3 * 10 + 0.2 * 14) / 0.5; t (0.6 * 10 + 0.1 * 12) / 0.7; r (0.3 * 50 + 0.1 * 54) / 0.4
    expected = [[11.6, 7.2 / 0.7, 51.0, 50.0]]
    torch.testing.assert_close(result.pred_boxes.tensor, torch.tensor(expected))
    torch.testing.assert_close(result.scores, torch.tensor([0.4]))
    torch.testing.assert_close(result.cls_scores, torch.tensor([0.6]))
    torch.testing.assert_close(result.loc_scores, torch.tensor([0.625]))
    torch.testing.assert_close(result.border_scores, torch.tensor([[0.75, 0.75, 0.5, 0.5]]))
    assert result.pred_classes.tolist() == [1]


def test_a_view_that_sees_nothing_lowers_the_scores_and_not_the_confidences():
    seen = detections(([10.0, 10, 50, 50], 0.8, [0.5, 1.0, 0.5, 1.0], 1))
    result = merged(detections(), seen, detections())
    assert result.pred_boxes.tensor.equal(seen.pred_boxes.tensor)
    # In one of three views: between a third and all of it.
    torch.testing.assert_close(result.scores, torch.tensor([0.6 / 3**0.5]))
    torch.testing.assert_close(result.cls_scores, torch.tensor([0.8 / 3**0.5]))
    assert result.loc_scores.equal(seen.loc_scores)
    assert result.border_scores.equal(seen.border_scores)


def test_only_the_nearest_box_of_the_same_class_votes():
    sure = [1.0, 1.0, 1.0, 1.0]
    first = detections(([0.0, 0, 40, 40], 0.9, sure, 0))
    second = detections(
        ([0.0, 0, 40, 30], 0.7, sure, 0),  # IoU 0.75
        ([0.0, 0, 40, 36], 0.5, sure, 0),  # IoU 0.9: this one
        ([0.0, 0, 40, 40], 0.8, sure, 1),  # of another class, a detection of its own
        ([20.0, 0, 60, 40], 0.3, sure, 0),  # IoU 1/3, too
    )
    result = merged(first, second)
    # Ranked by the mean scores.
    assert result.pred_classes.tolist() == [0, 1, 0]
    # Two votes, and a single one of two views.
    torch.testing.assert_close(result.scores, torch.tensor([0.7, 0.8 / 2**0.5, 0.3 / 2**0.5]))
    bottom = (0.9 * 40 + 0.5 * 36) / 1.4
    boxes = [[0.0, 0, 40, bottom], [0.0, 0, 40, 40], [20.0, 0, 60, 40]]
    torch.testing.assert_close(result.pred_boxes.tensor, torch.tensor(boxes))


def test_threshold_and_limit_hold_for_the_merged_scores():
    sure = [1.0, 1.0, 1.0, 1.0]
    boxes = [[0.0, 0, 10, 10], [20.0, 0, 30, 10], [40.0, 0, 50, 10]]
    first = detections(*((box, p, sure, 0) for box, p in zip(boxes, (0.9, 0.5, 0.2), strict=True)))
    second = detections((boxes[1], 0.7, sure, 0))
    scores = [0.9 / 2**0.5, 0.6, 0.2 / 2**0.5]
    torch.testing.assert_close(merged(first, second).scores, torch.tensor(scores))
    thresholded = merged(first, second, score_thresh=0.1415).scores
    torch.testing.assert_close(thresholded, torch.tensor(scores[:2]))
    best = merged(first, second, max_detections=1)
    assert best.pred_boxes.tensor.tolist() == [boxes[0]]


def test_views_that_agree_change_nothing():
    found = detections(
        ([10.1, 10.7, 50.3, 50.9], 0.83, [0.51, 0.97, 0.53, 0.91], 1),
        ([90.2, 10.3, 120.7, 50.1], 0.31, [0.61, 0.77, 0.53, 0.81], 0),
    )
    assert_equal(merged(found), found)
    assert_equal(merged(found, found), found)


def test_no_detections_at_all():
    assert_equal(merged(detections(), detections()), detections())


def test_scores_that_vanish_leave_the_box_where_it_is():
    found = detections(([10.0, 10, 50, 50], 1e-45, [0.3, 0.3, 0.3, 0.3], 1))
    result = merged(found, found, score_thresh=-1.0)
    assert result.pred_boxes.tensor.equal(found.pred_boxes.tensor)


# The model


@pytest.fixture
def model_and_input():
    model = build_scopenet().eval()
    image = torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(1))
    x = {"image": image.to(torch.uint8), "height": 192, "width": 200}
    with torch.no_grad():
        spread_out_head(model, [x])
    return model, x


def with_views(model, *min_sizes: int, flip: bool = False) -> ScopeNetWithTTA:
    return ScopeNetWithTTA(model=model, min_sizes=min_sizes, max_size=4000, flip=flip)


@torch.no_grad()
def test_a_view_of_the_same_size_is_the_plain_model(model_and_input):
    model, x = model_and_input
    (plain,) = model([x])
    (ours,) = with_views(model, 96)([x])
    assert len(plain["instances"]) > 20
    assert_equal(ours["instances"], plain["instances"])
    (twice,) = with_views(model, 96, 96)([x])
    assert_equal(twice["instances"], plain["instances"])


@torch.no_grad()
def test_a_mirrored_image_gives_mirrored_detections(model_and_input):
    """The network is given the same views of both, so nothing but the frame differs."""
    model, x = model_and_input
    tta = with_views(model, 80, 96, flip=True)
    (found,) = tta([x])
    (twin,) = tta([x | {"image": x["image"].flip(2)}])
    expected = mirror(twin["instances"])
    assert len(expected) == len(found["instances"]) > 20
    for name in ("pred_boxes", "scores", "border_scores", "loc_scores"):
        ours, theirs = (
            getattr(y.get(name), "tensor", y.get(name)) for y in (found["instances"], expected)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    (plain,) = model([x])
    assert not found["instances"].scores.equal(plain["instances"].scores)


@torch.no_grad()
def test_every_image_has_its_own_frame_and_a_missing_one_is_that_of_the_image(model_and_input):
    model, x = model_and_input
    tta = with_views(model, 96, 120, flip=True)
    found = tta([x, {"image": x["image"]}])
    assert [y["instances"].image_size for y in found] == [(192, 200), (96, 128)]
    assert_equal(found[0]["instances"], tta([x])[0]["instances"])


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (300, 1)])
def test_images_of_one_pixel_are_answered(model_and_input, size):
    model, _ = model_and_input
    tta = ScopeNetWithTTA(model=model, min_sizes=(8, 16), max_size=64, flip=True)
    (result,) = tta([{"image": torch.full((3, *size), 200, dtype=torch.uint8)}])
    assert result["instances"].image_size == size
    boxes = result["instances"].pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes <= torch.tensor([size[1], size[0]] * 2)).all()


@torch.no_grad()
def test_no_detections_in_any_view(model_and_input):
    model, x = model_and_input
    model.test_score_thresh = 0.9999
    (result,) = with_views(model, 80, 96, flip=True)([x])
    assert len(result["instances"]) == 0 and result["instances"].border_scores.shape == (0, 4)


def test_views_are_resized_on_the_device_of_the_model():
    """The device "meta" stands for a GPU."""

    class Elsewhere(nn.Module):
        device = torch.device("meta")
        test_score_thresh, test_nms_thresh, max_detections_per_image = 0.05, 0.5, 100

        def forward(self, inputs):
            seen.append(inputs[0]["image"])
            return [{"instances": detections()}]

    seen = []
    with_views(Elsewhere().eval(), 48, 96, flip=True)([{"image": torch.zeros(3, 96, 128)}])
    assert [(x.device.type, x.shape[1:]) for x in seen] == [
        *[("meta", (48, 64))] * 2,
        *[("meta", (96, 128))] * 2,
    ]


def test_in_place_of_the_model_of_detectron2s_predictor():
    """The two lines of docs/test_time_augmentation.md; the predictor's float image is no view."""
    cfg = load_config(ONE_X, [*TINY, "INPUT.MIN_SIZE_TEST", "0", "TEST.AUG.MIN_SIZES", "(48,64)"])
    cfg.MODEL.SCOPENET.SCORE_THRESH_TEST = 0.0
    predictor = DefaultPredictor(cfg)
    predictor.model = ScopeNetWithTTA(cfg, predictor.model)
    sizes = []
    predictor.model.model.backbone.register_forward_pre_hook(
        lambda module, inputs: sizes.append(tuple(inputs[0].shape[2:]))
    )
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    instances = predictor(image)["instances"]
    assert len(instances) == 100 and set(instances.get_fields()) == FIELDS
    assert len(sizes) == 4


@torch.no_grad()
def test_a_model_of_a_distributed_training_is_unwrapped_and_keeps_its_mode(model_and_input):
    model, x = model_and_input
    dist = torch.distributed
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        tta = with_views(DistributedDataParallel(model), 96)
    finally:
        dist.destroy_process_group()
    assert tta.model is model
    assert not tta.training and with_views(model.train(), 96).training


def test_sizes_that_make_no_sense_are_refused_by_the_wrapper_too(model_and_input):
    with pytest.raises(ConfigError, match="MIN_SIZES is empty"):
        with_views(model_and_input[0])


# The runs


AUG = ["TEST.AUG.ENABLED", "True", "TEST.AUG.MIN_SIZES", "(64,96)", "TEST.AUG.FLIP", "False"]


def results_in(folder: Path) -> list[dict]:
    """The detections that an evaluation has written."""
    return json.loads((folder / "inference" / "coco_instances_results.json").read_text())


@pytest.mark.slow
def test_at_the_end_of_a_training_and_alone(tmp_path):
    out, again = tmp_path / "out", tmp_path / "again"
    overrides = [*AUG, "MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0"]
    with mini_datasets(tmp_path / "data"), one_thread():
        trained = main(job(ONE_X, *mini_overrides(out, *overrides)))
        overrides += ["MODEL.WEIGHTS", str(out / "model_final.pth"), "INPUT.MIN_SIZE_TEST", "32"]
        alone = main(job(ONE_X, "--eval-only", *mini_overrides(again, *overrides)))
    assert set(trained) == set(alone) == {"bbox", "bbox_TTA"}
    written = (out / "metrics.json").read_text().splitlines()
    assert "bbox_TTA/AP" in json.loads(written[-1])
    # Views are made of the images themselves, whatever size they are tested at otherwise.
    assert results_in(out / "TTA") == results_in(again / "TTA") != []
    assert results_in(out) != results_in(again)
    assert results_in(out) != results_in(out / "TTA")


@pytest.mark.slow
def test_of_a_lazy_config(tmp_path):
    config = tmp_path / "lazy.py"
    config.write_text(
        "from detectron2.config import LazyConfig\n"
        "from scopenet.config_file import find_config\n"
        "globals().update(LazyConfig.load(find_config('ScopeNet_R_50_FPN_1x.py')))\n"
        "model.test_score_thresh = 0.0\n"
    )
    options = ["train.test_aug.enabled=True", "train.test_aug.flip=False", "train.max_iter=1"]
    options += ["train.test_aug.min_sizes=[64]"]  # the images' own size
    small = "dataloader.test.mapper.augmentations.0.short_edge_length=32"
    out, again = tmp_path / "out", tmp_path / "again"
    with mini_datasets(tmp_path / "data"), one_thread():
        results = main(job(str(config), *lazy_overrides(out, *options)))
        options += [f"train.init_checkpoint={out / 'model_final.pth'}", small]
        main(job(str(config), "--eval-only", *lazy_overrides(again, *options)))
    assert set(results) == {"bbox", "bbox_TTA"}
    assert results_in(out) == results_in(out / "TTA") == results_in(again / "TTA") != []
    assert results_in(again) != results_in(out)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["TEST.AUG.MIN_SIZES", "()"], "MIN_SIZES is empty"),
        (["TEST.AUG.MIN_SIZES", "(0,64)"], "must be px, 1 or more each"),
        (["TEST.AUG.MAX_SIZE", "95"], "MAX_SIZE 95, .* side of TEST.AUG.MIN_SIZES, 96; raise it"),
        (["MODEL.META_ARCHITECTURE", "FCOS"], "FCOS has no test-time augmentation"),
    ],
)
def test_keys_that_make_no_sense_get_one_sentence(tmp_path, overrides, expected):
    with mini_datasets(tmp_path / "data"):
        arguments = mini_overrides(tmp_path / "out", *AUG, *overrides)
        with pytest.raises(ConfigError, match=expected) as caught:
            prepare(job(ONE_X, *arguments))
        arguments[arguments.index("TEST.AUG.ENABLED") + 1] = "False"
        prepare(job(ONE_X, *arguments))
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and text.endswith(".")
