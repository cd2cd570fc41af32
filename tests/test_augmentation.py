"""Augmentation by config keys: what it does to pixels and boxes, and on what it depends."""

from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from miniature import LONG, SHORT, TINY_IMAGES
from PIL import Image

from scopenet import ConfigError, load_config
from scopenet.data.augmentation import MIN_VISIBLE, LargeScaleJitter, VisibleCrop, train_mapper
from scopenet.data.loader import build_train_loader, seeded_rng

JITTER = ["INPUT.LARGE_SCALE_JITTER", "(0.5, 2.0)"]
COLOR = ["INPUT.COLOR_JITTER", "0.4"]


def config(*overrides: str):
    return load_config("OwnData-ScopeNet_R_50_FPN_GN.yaml", [*TINY_IMAGES, *overrides])


@pytest.fixture(scope="module")
def samples(tmp_path_factory) -> list[dict]:
    """Grey images of twice the size of training, each with two boxes in colours of their own."""
    folder, found = tmp_path_factory.mktemp("images"), []
    for i in range(5):
        height, width = 2 * SHORT, 2 * LONG
        pixels = np.full((height, width, 3), 100, np.uint8)
        boxes = [[20 + 4 * i, 30, 60 + 4 * i, 90], [100, 40 + 4 * i, 180, 80 + 4 * i]]  # XYXY
        for (x0, y0, x1, y1), value in zip(boxes, (200, 20), strict=True):
            pixels[y0:y1, x0:x1] = value
        path = folder / f"{i}.png"
        Image.fromarray(pixels).save(path)
        box = {"bbox_mode": BoxMode.XYXY_ABS, "iscrowd": 0}
        annotations = [box | {"bbox": b, "category_id": k} for k, b in enumerate(boxes)]
        size = {"height": height, "width": width}
        found.append({"file_name": str(path), "image_id": i, **size, "annotations": annotations})
    return found


def mapped(sample: dict, seed: int, *overrides: str) -> dict:
    with seeded_rng(seed):
        return train_mapper(config(*overrides))(sample)


def test_without_keys_it_is_detectron2s(samples):
    cfg = config()
    ours, theirs = (str(x.augmentations) for x in (train_mapper(cfg), DatasetMapper(cfg, True)))
    assert ours == theirs
    with seeded_rng(3):
        expected = DatasetMapper(cfg, True)(samples[0])
    assert torch.equal(mapped(samples[0], 3)["image"], expected["image"])


def test_boxes_lie_on_their_pixels_whatever_the_factor(samples):
    sizes, numbers = set(), set()
    for seed in range(40):
        sample = mapped(samples[seed % 5], seed, *JITTER)
        image, instances = sample["image"].float().mean(0), sample["instances"]
        sizes.add(tuple(image.shape))
        numbers.add(len(instances))
        assert image.shape[0] <= SHORT and image.shape[1] <= LONG
        for box, label in zip(instances.gt_boxes.tensor, instances.gt_classes, strict=True):
            x0, y0, x1, y1 = box.round().int().tolist()
            inside = image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2]
            assert inside.numel() == 0 or (inside - (200, 20)[label]).abs().max() < 12
            # Nothing of the colour is left outside.
            outside = image.clone()
            outside[max(0, y0 - 2) : y1 + 2, max(0, x0 - 2) : x1 + 2] = 100
            assert not ((outside - (200, 20)[label]).abs() < 12).any()
    assert (SHORT, LONG) in sizes and len(sizes) > 10  # enlarged ones are cut, others smaller
    assert numbers == {0, 1, 2} or numbers == {1, 2}


def test_factor_and_place_of_the_cut_vary():
    image = np.zeros((2 * SHORT, 2 * LONG, 3), np.uint8)
    jitter = LargeScaleJitter(T.ResizeShortestEdge([SHORT], LONG, "choice"), 1.5, 2.5)
    with seeded_rng(0):
        found = [jitter.get_transform(image).transforms for _ in range(200)]
    factors = [resize.new_h / SHORT for resize, _ in found]
    assert min(factors) < 1.6 and max(factors) > 2.4
    assert {(crop.h, crop.w) for _, crop in found} == {(SHORT, LONG)}
    places = [(crop.x0 / (r.new_w - LONG), crop.y0 / (r.new_h - SHORT)) for r, crop in found]
    x, y = np.transpose(places)
    assert min(x.min(), y.min()) < 0.05 and max(x.max(), y.max()) > 0.95
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.3  # not along the diagonal


@pytest.mark.parametrize(
    "box, expected",
    [
        ([10, 10, 30, 30], [0, 5, 20, 25]),
        ([0, 10, 40, 30], [0, 5, 20, 25]),  # half of it
        ([0, 0, 40, 10], [0, 0, 20, 5]),  # a quarter
        ([0, 0, 40, 9], [0, 0, 0, 0]),
        ([0, 0, 10, 30], [0, 0, 0, 0]),  # touches
        ([90, 90, 99, 99], [0, 0, 0, 0]),
    ],
)
def test_what_a_crop_leaves_of_a_box(box, expected):
    crop = VisibleCrop(10, 5, 20, 25, 100, 100)
    assert MIN_VISIBLE == 0.25
    assert crop.apply_box(np.array([box, box], float)).tolist() == [expected] * 2


def test_images_in_their_own_size_are_jittered_too(samples):
    own = ["INPUT.MIN_SIZE_TRAIN", "(0,)"]
    sample = mapped(samples[0], 0, *own, "INPUT.LARGE_SCALE_JITTER", "(0.5, 0.5)")
    assert sample["image"].shape == (3, SHORT, LONG)


def test_colours(samples):
    plain = mapped(samples[0], 0, "INPUT.RANDOM_FLIP", "none")["image"].float()
    changes = []
    for seed in range(30):
        image = mapped(samples[0], seed, *COLOR, "INPUT.RANDOM_FLIP", "none")["image"].float()
        changes.append(image.mean() / plain.mean())
    assert 0.55 < min(changes) < 0.8 and 1.2 < max(changes) < 1.45
    weak = mapped(samples[0], 0, "INPUT.COLOR_JITTER", "0.01", "INPUT.RANDOM_FLIP", "none")
    assert 0 < (weak["image"].float() - plain).abs().mean() < 8


def stream(samples: list[dict], start_iter: int, number: int, num_workers: int) -> list:
    sizes = ["INPUT.MIN_SIZE_TRAIN", "(48, 64)"]
    mapper = train_mapper(config(*JITTER, *COLOR, *sizes))
    options = {"total_batch_size": 2, "seed": 1, "num_workers": num_workers}
    loader = build_train_loader(samples, mapper=mapper, **options)
    loader.batch_sampler.start_iter = start_iter
    batches = islice(loader, number)
    return [(x["image_id"], x["image"], x["instances"].gt_boxes.tensor) for b in batches for x in b]


@pytest.mark.parametrize("start_iter, num_workers", [(0, 2), (5, 0), (5, 2)])
def test_it_depends_on_seed_iteration_and_index_only(samples, start_iter, num_workers):
    expected = stream(samples, 0, 9, 0)[2 * start_iter :]
    found = stream(samples, start_iter, 9 - start_iter, num_workers)
    assert [x[0] for x in found] == [x[0] for x in expected]
    for (_, *tensors), (_, *wanted) in zip(found, expected, strict=True):
        assert all(map(torch.equal, tensors, wanted))


@pytest.mark.parametrize(
    "overrides, part",
    [
        (["INPUT.COLOR_JITTER", "1.0"], "INPUT.COLOR_JITTER is 1.0, but must be in"),
        (["INPUT.COLOR_JITTER", "-0.1"], "INPUT.COLOR_JITTER is -0.1"),
        (["INPUT.LARGE_SCALE_JITTER", "(0.5,)"], "INPUT.LARGE_SCALE_JITTER is (0.5,), but is"),
        (["INPUT.LARGE_SCALE_JITTER", "(2.0, 0.5)"], "(least, largest)"),
        (["INPUT.LARGE_SCALE_JITTER", "(0.0, 2.0)"], "(least, largest)"),
    ],
)
def test_values_out_of_range(overrides, part):
    with pytest.raises(ConfigError) as raised:
        train_mapper(config(*overrides))
    assert part in str(raised.value)
