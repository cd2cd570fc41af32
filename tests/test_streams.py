"""Many images at a time: in their order, few held, batches that change nothing."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from builders import write_training
from miniature import VAL, mini_datasets, one_thread

from scopenet import ConfigError, Detector
from scopenet.errors import ImageError
from scopenet.streams import map_ahead, map_batches


class Taken:
    """Counts 0, 1, 2, ... forever and keeps how far it was asked to go."""

    def __init__(self):
        self.count = 0

    def __iter__(self):
        while True:
            yield self.count
            self.count += 1


# --- in general -----------------------------------------------------------------------------------


def test_mapping_ahead_keeps_the_order_and_takes_few():
    taken = Taken()

    def slow_for_even(x):
        time.sleep(0.01 * (x % 2 == 0))
        return -x

    with ThreadPoolExecutor(3) as pool:
        mapped = map_ahead(slow_for_even, taken, pool, ahead=4)
        for i in range(10):
            assert next(mapped) == -i
            assert taken.count <= i + 4
        mapped.close()
        assert list(map_ahead(slow_for_even, range(5), pool, ahead=1)) == [0, -1, -2, -3, -4]


def test_mapping_ahead_works_at_the_same_time():
    both = threading.Barrier(2, timeout=10)  # one alone would wait for ever
    with ThreadPoolExecutor(2) as pool:
        assert list(map_ahead(lambda x: both.wait() * 0 + x, range(4), pool, ahead=2)) == [
            *range(4)
        ]


def batches_of(items, *, batch_size, ahead):
    """The results of batches by parity, and the batches."""
    seen = []

    def function(batch):
        seen.append(batch)
        return [10 * x for x in batch]

    options = {"key": lambda x: x % 2, "batch_size": batch_size, "ahead": ahead}
    return list(map_batches(function, items, **options)), seen


def test_batches_of_one_key_in_the_order_of_the_items():
    found, seen = batches_of([0, 2, 1, 4, 6, 3, 5], batch_size=2, ahead=100)
    assert found == [0, 20, 10, 40, 60, 30, 50]
    assert seen == [[0, 2], [4, 6], [1, 3], [5]]


def test_a_rare_key_is_not_waited_for():
    # 1 is alone; when four are waiting for it its batch is run as it is.
    found, seen = batches_of([1, 0, 2, 4, 6, 8], batch_size=2, ahead=4)
    assert found == [10, 0, 20, 40, 60, 80]
    assert seen == [[0, 2], [1], [4, 6], [8]]


@pytest.mark.parametrize("batch_size, ahead", [(1, 1), (3, 3), (4, 16)])
def test_batches_take_few_items_ahead(batch_size, ahead):
    taken = Taken()
    options = {"key": lambda x: x % 3, "batch_size": batch_size, "ahead": ahead}
    mapped = map_batches(lambda batch: [-x for x in batch], taken, **options)
    for i in range(100):
        assert next(mapped) == -i
        assert taken.count <= i + ahead


# --- of a detector --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    with mini_datasets(folder), one_thread():
        write_training(folder)
        yield folder


@pytest.fixture(scope="module")
def images(folder):
    """A photograph in five shapes, turned and repeated, as 14 images of three network sizes."""
    photo = cv2.imread(str(folder / VAL / "000000000001.png"))
    shapes = [(64, 96), (96, 64), (128, 192), (64, 64), (90, 90)]
    resized = [cv2.resize(photo, (w, h)) for h, w in shapes]
    return [x[::step] for step in (1, -1) for x in resized] + resized[:4]


def assert_close(found, expected):
    assert len(found) == len(expected) > 0 and found.image_size == expected.image_size
    np.testing.assert_allclose(found.pred_boxes.tensor, expected.pred_boxes.tensor, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
    assert found.pred_classes.tolist() == expected.pred_classes.tolist()


@pytest.mark.parametrize("norm", ["", "GN"])
def test_batches_find_what_single_images_give(folder, images, norm, tmp_path):
    towers = ["MODEL.SCOPENET.NORM", norm, "MODEL.SCOPENET.CONV_DIM", "64"]
    write_training(tmp_path, *towers)
    single, batched = Detector.load(tmp_path), Detector.load(tmp_path, batch_size=4)
    shapes = []
    batched.network.model.register_forward_pre_hook(
        lambda _, inputs: shapes.append([tuple(x["image"].shape) for x in inputs[0]])
    )
    for found, image in zip(batched(images), images, strict=True):
        assert_close(found["instances"], single(image)["instances"])
    assert max(map(len, shapes)) == 4
    assert all(len(set(batch)) == 1 for batch in shapes)


def test_a_stream_takes_few_images_ahead(folder, images):
    detector, taken = Detector.load(folder, batch_size=2), Taken()
    stream = detector.stream(images[i % len(images)] for i in taken)
    for i in range(12):
        next(stream)
        assert taken.count <= i + 8 + 4 + 1  # being detected in, being read, and the next one
    stream.close()


def test_a_damaged_image_is_an_error_in_its_place(folder, images, tmp_path):
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"no image")
    thin = np.zeros((1, 9000, 3), np.uint8)
    detector = Detector.load(folder, batch_size=2)
    first, second, third, fourth = detector.stream([images[0], damaged, thin, images[1]])
    assert isinstance(second, ImageError) and str(second).startswith(f"{damaged} cannot be read")
    assert isinstance(third, ImageError) and "too thin" in str(third)
    for found, image in ((first, images[0]), (fourth, images[1])):
        assert_close(found["instances"], detector(image)["instances"])
    with pytest.raises(ImageError, match="damaged.png cannot be read"):
        detector([images[0], damaged])


def test_a_batch_of_nothing_is_refused(folder):
    with pytest.raises(ConfigError, match="batch size must be at least 1, got 0"):
        Detector.load(folder, batch_size=0)
