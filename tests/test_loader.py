"""The training loader: every batch is a function of (seed, iteration)."""

import copy
import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, get_detection_dataset_dicts
from detectron2.structures import BoxMode
from detectron2.utils import comm
from miniature import LONG, SHORT, TRAIN, mini_datasets

from scopenet.data.loader import (
    GROUP_SIZE,
    SeededBatchSampler,
    build_train_loader,
    repeat_factors_of,
    seeded_rng,
    shuffled_indices,
)

SIZE = 7  # images; a batch of 2 or 4 does not divide it


def draws() -> tuple[float, float, float]:
    """The next number of each global generator."""
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def draw(dataset_dict: dict) -> dict:
    """A mapper whose result shows the image and the state of the three generators."""
    return {"index": dataset_dict["index"], "draws": draws()}


def plain_dataset(size: int = SIZE, is_wide=lambda i: True) -> list[dict]:
    return [{"index": i, "width": 2 if is_wide(i) else 1, "height": 1} for i in range(size)]


def drawing_loader(size: int = SIZE, *, start_iter: int = 0, **options):
    options = {"total_batch_size": 2, "seed": 3} | options
    loader = build_train_loader(plain_dataset(size), mapper=draw, **options)
    loader.batch_sampler.start_iter = start_iter
    return loader


def batches(loader, count: int) -> list:
    return list(islice(loader, count))


def share(monkeypatch, rank: int, num_workers: int) -> None:
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: num_workers)


@pytest.fixture(scope="module")
def image_dicts(tmp_path_factory) -> list[dict]:
    with mini_datasets(tmp_path_factory.mktemp("images"), num_images=SIZE):
        return get_detection_dataset_dicts(TRAIN)


def augmented_batches(image_dicts, count: int, *, start_iter: int = 0, **options) -> list:
    """Batches of (file name, pixels, boxes); the size of an image and its flip are random."""
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (SHORT // 2, SHORT, 2 * SHORT)
    loader = build_train_loader(
        copy.deepcopy(image_dicts),
        mapper=DatasetMapper(cfg, is_train=True),
        total_batch_size=2,
        **{"seed": 0} | options,
    )
    loader.batch_sampler.start_iter = start_iter
    return [
        [(x["file_name"], x["image"], x["instances"].gt_boxes.tensor) for x in batch]
        for batch in islice(loader, count)
    ]


def assert_equal_batches(actual: list, expected: list) -> None:
    assert len(actual) == len(expected)
    for batch, expected_batch in zip(actual, expected, strict=True):
        assert [name for name, *_ in batch] == [name for name, *_ in expected_batch]
        for (_, *tensors), (_, *expected_tensors) in zip(batch, expected_batch, strict=True):
            assert all(map(torch.equal, tensors, expected_tensors))


def test_each_epoch_is_another_permutation():
    indices = list(islice(shuffled_indices(SIZE, 0), 3 * SIZE))
    epochs = [tuple(indices[i : i + SIZE]) for i in range(0, 3 * SIZE, SIZE)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(SIZE))] * 3
    assert len(set(epochs)) == 3


def test_seed_decides_on_order_and_augmentation():
    assert batches(drawing_loader(), 4) == batches(drawing_loader(), 4)
    assert batches(drawing_loader(), 4) != batches(drawing_loader(seed=4), 4)


def test_an_image_is_augmented_anew_every_time():
    in_order = [x for batch in batches(drawing_loader(), 2 * SIZE) for x in batch]
    assert len({x["draws"] for x in in_order}) == len(in_order) == 4 * SIZE
    # The three generators are seeded apart: equal streams would make augmentations depend.
    assert all(len(set(x["draws"])) == 3 for x in in_order)


def test_two_images_of_a_batch_are_augmented_differently():
    (first, second), *_ = batches(drawing_loader(), 1)
    assert first["draws"] != second["draws"]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_loader_processes_change_nothing(num_workers):
    expected = batches(drawing_loader(), 8)
    assert batches(drawing_loader(num_workers=num_workers), 8) == expected


def test_loader_processes_change_no_pixel(image_dicts):
    expected = augmented_batches(image_dicts, 6)
    shapes = {image.shape for batch in expected for _, image, _ in batch}
    assert len(shapes) > 2  # the random sizes do differ, or the comparison would show little
    assert_equal_batches(augmented_batches(image_dicts, 6, num_workers=2), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("start_iter", [1, 3, 9])
def test_start_iter_continues_the_stream(start_iter, num_workers):
    expected = batches(drawing_loader(), 12)[start_iter:]
    resumed = drawing_loader(start_iter=start_iter, num_workers=num_workers)
    assert batches(resumed, len(expected)) == expected


def test_start_iter_continues_the_stream_of_pixels(image_dicts):
    expected = augmented_batches(image_dicts, 9)[5:]
    assert_equal_batches(augmented_batches(image_dicts, 4, start_iter=5), expected)


def test_what_the_process_did_before_changes_no_batch():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = batches(drawing_loader(), 3)
    draws()
    assert batches(drawing_loader(), 3) == expected


@pytest.mark.parametrize("num_workers", [2, 4])
def test_workers_share_each_batch(monkeypatch, num_workers):
    options = {"size": 11, "total_batch_size": 4, "start_iter": 2}
    whole = batches(drawing_loader(**options), 9)
    parts = []
    for rank in range(num_workers):
        share(monkeypatch, rank, num_workers)
        parts.append(batches(drawing_loader(**options), 9))
    for batch, *shares in zip(whole, *parts, strict=True):
        assert {len(part) for part in shares} == {4 // num_workers}
        # Together they hold what one worker has, augmented alike, and nothing twice.
        assert sorted(x["draws"] for part in shares for x in part) == sorted(
            x["draws"] for x in batch
        )


def indices_of(sampler: SeededBatchSampler, count: int) -> list[list[int]]:
    return [[index for _, _, index in batch] for batch in islice(sampler, count)]


@pytest.mark.parametrize("batch_size, group_size", [(6, 2), (6, 3), (3, 3), (3, 2)])
def test_groups_hold_one_orientation_and_lose_nothing(batch_size, group_size):
    size = 13
    is_wide = [i % 3 == 0 for i in range(size)]
    sampler = SeededBatchSampler(size, batch_size, 5, is_wide, group_size)
    indices = sum(indices_of(sampler, 60), [])
    groups = [indices[i : i + group_size] for i in range(0, len(indices), group_size)]
    assert all(len({is_wide[i] for i in group}) == 1 for group in groups)
    # Each orientation comes in the order of the shuffled stream, with no image left out.
    # A group that is not full yet holds some images back.
    stream = list(islice(shuffled_indices(size, 5), 60 * batch_size))
    for orientation in (False, True):
        seen = [i for i in indices if is_wide[i] == orientation]
        expected = [i for i in stream if is_wide[i] == orientation]
        assert abs(len(expected) - len(seen)) < group_size
        shorter = min(len(expected), len(seen))
        assert seen[:shorter] == expected[:shorter]
    epochs = 60 * batch_size / size
    assert all(abs(n - epochs) <= 2 for n in Counter(indices).values())


def test_batches_mix_orientations_as_often_as_their_groups_do():
    is_wide = [i % 100 >= 27 for i in range(1000)]
    batches = indices_of(SeededBatchSampler(1000, 16, 0, is_wide), 600)
    tall = [sum(not is_wide[i] for i in batch) for batch in batches]
    assert np.mean(tall) / 16 == pytest.approx(0.27, abs=0.005)
    # Were the eight groups independent, all would be wide with a probability of 0.73^8, 8 %.
    assert 0 < np.mean([x in (0, 16) for x in tall]) < 0.08


@pytest.mark.parametrize("num_workers", [2, 4, 8])
def test_workers_have_whole_groups(monkeypatch, num_workers):
    is_wide = [i % 3 == 0 for i in range(50)]
    for rank in range(num_workers):
        share(monkeypatch, rank, num_workers)
        for mine in indices_of(SeededBatchSampler(50, 16, 0, is_wide), 20):
            pairs = [mine[i : i + GROUP_SIZE] for i in range(0, len(mine), GROUP_SIZE)]
            assert all(is_wide[a] == is_wide[b] for a, b in pairs)


def test_square_images_come_as_they_are_shuffled():
    sampler = SeededBatchSampler(11, 4, 2, [False] * 11)
    assert sum(indices_of(sampler, 9), []) == list(islice(shuffled_indices(11, 2), 36))


def test_grouping_is_optional():
    dataset = plain_dataset(8, is_wide=lambda i: i < 4)
    options = {"mapper": draw, "total_batch_size": 4, "group_size": 4, "seed": 0}
    grouped = build_train_loader(dataset, **options)
    mixed = build_train_loader(dataset, aspect_ratio_grouping=False, **options)
    orientations = [
        {len({x["index"] < 4 for x in batch}) for batch in batches(loader, 6)}
        for loader in (grouped, mixed)
    ]
    assert orientations == [{1}, {2}]  # orientations in a batch
    assert [x["index"] for batch in batches(mixed, 2) for x in batch] == list(
        islice(shuffled_indices(8, 0), 8)
    )


# Repeat factors


def test_without_factors_the_stream_is_that_of_permutations():
    expected = [np.random.default_rng((4, epoch)).permutation(SIZE) for epoch in range(3)]
    for factors in (None, [1.0] * SIZE):
        stream = list(islice(shuffled_indices(SIZE, 4, factors), 3 * SIZE))
        assert stream == np.concatenate(expected).tolist()


def test_an_index_comes_as_often_as_its_factor_says():
    factors = [1.0, 2.0, 3.25, 1.5]
    epochs, number = [], 0
    stream = shuffled_indices(4, 0, factors)
    for epoch in range(400):  # rounded as the docstring says
        is_up = np.random.default_rng((0, epoch, 1)).random(4) < [0, 0, 0.25, 0.5]
        length = int(sum([1, 2, 3, 1] + is_up))
        epochs.append(Counter(islice(stream, length)))
        number += length
    assert {x[0] for x in epochs} == {1} and {x[1] for x in epochs} == {2}
    assert {x[2] for x in epochs} == {3, 4} and {x[3] for x in epochs} == {1, 2}
    assert np.mean([x[2] for x in epochs]) == pytest.approx(3.25, abs=0.07)
    assert np.mean([x[3] for x in epochs]) == pytest.approx(1.5, abs=0.08)


def with_rare_class(size: int = 16) -> list[dict]:
    """Two of the images have class 1, of which one has no boxes of class 0, and one has none."""
    classes = [[0]] * size
    classes[3], classes[8], classes[12] = [0, 1], [1], []
    box = {"bbox": [1, 1, 5, 5], "bbox_mode": BoxMode.XYWH_ABS}
    return [
        {"index": i, "width": 8, "height": 8, "annotations": [box | {"category_id": k} for k in x]}
        for i, x in enumerate(classes)
    ]


def test_factors_are_those_of_detectron2(caplog):
    caplog.set_level("INFO", "scopenet")
    factors = repeat_factors_of(with_rare_class(), 0.5, sqrt=True)
    # Class 1 is in 2 of 16 images: sqrt(0.5 / 0.125) is 2.
    assert factors == [2.0 if i in (3, 8) else 1.0 for i in range(16)]
    assert repeat_factors_of(with_rare_class(), 0.5, sqrt=False)[3] == 4.0
    assert "2 of 16 images have a class that is in less than 0.5 of all images" in caplog.text
    assert "come up to 2.0 times an epoch, which is 18 images" in caplog.text


def repeating(**options):
    options = {"total_batch_size": 2, "seed": 3, "repeat_threshold": 0.3} | options
    start_iter = options.pop("start_iter", 0)
    loader = build_train_loader(with_rare_class(), mapper=draw, **options)
    loader.batch_sampler.start_iter = start_iter
    return loader


def test_images_of_rare_classes_come_more_often():
    counts = Counter(x["index"] for batch in batches(repeating(), 800) for x in batch)
    rare, others = [counts.pop(3), counts.pop(8)], counts.values()
    assert np.mean(rare) / np.mean(list(others)) == pytest.approx((0.3 / 0.125) ** 0.5, rel=0.03)
    assert set(counts) == {*range(16)} - {3, 8}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resume_repeats_the_same_images(num_workers):
    expected = batches(repeating(), 40)
    for start_iter in range(0, 36, 1 if num_workers == 0 else 17):
        resumed = repeating(start_iter=start_iter, num_workers=num_workers)
        assert batches(resumed, 4) == expected[start_iter : start_iter + 4]


def test_workers_share_what_is_repeated(monkeypatch):
    whole, parts = batches(repeating(total_batch_size=4), 20), []
    for rank in range(2):
        share(monkeypatch, rank, 2)
        parts.append(batches(repeating(total_batch_size=4), 20))
    assert whole == [a + b for a, b in zip(*parts, strict=True)]


def test_orientation_of_images(image_dicts):
    shapes = {
        image.shape[1] < image.shape[2] for _, image, _ in augmented_batches(image_dicts, 1)[0]
    }
    assert len(shapes) == 1
    assert {(x["height"], x["width"]) for x in image_dicts} == {(LONG, SHORT), (SHORT, LONG)}


def test_batch_larger_than_the_set():
    (batch,) = batches(drawing_loader(size=3, total_batch_size=7), 1)
    assert Counter(Counter(x["index"] for x in batch).values()) == Counter({2: 2, 3: 1})


@pytest.mark.parametrize("batch_size, num_workers", [(3, 2), (2, 4), (0, 1), (-2, 1)])
def test_batch_that_cannot_be_shared(monkeypatch, batch_size, num_workers):
    share(monkeypatch, 0, num_workers)
    message = f"SOLVER.IMS_PER_BATCH {batch_size} must be .* {num_workers}\\.$"
    with pytest.raises(ValueError, match=message):
        drawing_loader(total_batch_size=batch_size)


def test_no_images():
    with pytest.raises(ValueError, match="has no images"):
        drawing_loader(size=0)


def test_seeded_rng_leaves_the_global_state():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    expected = [draws() for _ in range(3)]
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    actual = [draws()]
    with seeded_rng(1, 2, 3):
        inside = draws()
    actual.append(draws())
    with pytest.raises(RuntimeError), seeded_rng(1, 2, 3):
        assert draws() == inside
        raise RuntimeError
    actual.append(draws())
    assert actual == expected
    assert inside not in expected


def test_seeded_rng_uses_the_whole_key():
    def first(*key):
        with seeded_rng(*key):
            return draws()

    assert len({first(0, 1, 2), first(1, 0, 2), first(0, 2, 1), first(0, 1), first(0, 0, 3)}) == 5


def test_seeded_rng_leaves_gpus_alone(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with seeded_rng(1, 2, 3):
        drawn = torch.rand(2)
    with seeded_rng(1, 2, 3):
        assert torch.equal(torch.rand(2), drawn)
    assert seeded == []
