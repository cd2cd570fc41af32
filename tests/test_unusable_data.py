"""Unreadable images and unusable boxes in the loaders: replaced by rule, counted, bounded."""

import logging
import zipfile
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest
import torch
from addresses import put_elsewhere
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, get_detection_dataset_dicts
from detectron2.structures import BoxMode
from miniature import LONG, SHORT, TRAIN, mini_datasets
from PIL import Image

from scopenet import ConfigError
from scopenet.data.loader import build_train_loader, build_validation_loader
from scopenet.data.unusable import UNREADABLE, drop_unusable_boxes, unreadable_image

SIZE = 7
BROKEN = 2  # of SIZE
LOGGER = "scopenet.data.loader"


@pytest.fixture(scope="module")
def dicts(tmp_path_factory) -> list[dict]:
    with mini_datasets(tmp_path_factory.mktemp("images"), num_images=SIZE):
        dicts = get_detection_dataset_dicts(TRAIN)
    truncated, other = (Path(x["file_name"]) for x in dicts[:BROKEN])
    truncated.write_bytes(truncated.read_bytes()[:300])
    other.write_bytes(b"no image")
    return dicts


def mapper(is_train: bool = True) -> DatasetMapper:
    cfg = get_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN = (SHORT // 2, SHORT, 2 * SHORT)
    return DatasetMapper(cfg, is_train=is_train)


def batches(dicts, count: int, *, start_iter: int = 0, max_unreadable: int = BROKEN, **options):
    options = {"mapper": mapper(), "total_batch_size": 2, "seed": 0} | options
    loader = build_train_loader(dicts, max_unreadable=max_unreadable, **options)
    loader.batch_sampler.start_iter = start_iter
    return list(islice(loader, count))


def files_and_pixels(batches) -> list:
    return [[(x["file_name"], x["image"].tolist()) for x in batch] for batch in batches]


def test_broken_images_are_replaced_by_seed_and_iteration(dicts):
    expected = batches(dicts, 8)
    used = {x["file_name"] for batch in expected for x in batch}
    assert used == {x["file_name"] for x in dicts[BROKEN:]}
    assert all(len(batch) == 2 and UNREADABLE not in x for batch in expected for x in batch)
    expected = files_and_pixels(expected)
    torch.manual_seed(5)  # no state but the seed's may matter
    assert files_and_pixels(batches(dicts, 8)) == expected
    assert files_and_pixels(batches(dicts, 5, start_iter=3)) == expected[3:]
    assert files_and_pixels(batches(dicts, 8, num_workers=2)) == expected


def test_images_in_place_of_a_broken_one_vary(dicts):
    mostly_broken = [dicts[0]] * 40 + dicts[BROKEN:]
    used = [x["file_name"] for batch in batches(mostly_broken, 20) for x in batch]
    assert len(used) == 40
    assert max(Counter(used).values()) < 20


@pytest.mark.parametrize("num_workers", [0, 1])
def test_each_broken_file_is_reported_once(dicts, caplog, num_workers):
    caplog.set_level(logging.WARNING, LOGGER)
    batches(dicts, 12, num_workers=num_workers)
    reports = [x.getMessage() for x in caplog.records if x.name == LOGGER]
    assert len(reports) == BROKEN
    for i in range(BROKEN):
        assert sum(dicts[i]["file_name"] in x for x in reports) == 1
    assert "These are 1 so far, 2 may be" in reports[0] and "These are 2 so far" in reports[1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_more_than_the_limit_stop_the_training(dicts, num_workers):
    with pytest.raises(ConfigError, match="2 images cannot be read, .*MAX_UNREADABLE_IMAGES, now"):
        batches(dicts, 12, max_unreadable=1, num_workers=num_workers)


def test_nothing_but_broken_images(dicts):
    with pytest.raises(ConfigError, match="No image of the training set can be read"):
        batches(dicts[:BROKEN], 1, max_unreadable=10)


def test_other_errors_are_not_swallowed(dicts):
    def fail(sample):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        batches(dicts[BROKEN:], 1, mapper=fail)
    with pytest.raises(RuntimeError, match="a bug"):
        next(iter(build_validation_loader(dicts[BROKEN:], mapper=fail)))


def test_evaluation_sees_every_image(dicts, caplog):
    loader = build_validation_loader(dicts, mapper=mapper(False), max_unreadable=BROKEN)
    samples = [x for batch in loader for x in batch]
    assert [x["image_id"] for x in samples] == [x["image_id"] for x in dicts]
    blank = samples[0]
    assert (blank["height"], blank["width"]) == (dicts[0]["height"], dicts[0]["width"])
    assert blank["image"].unique().tolist() == [0] and "annotations" not in blank
    assert samples[-1]["image"].unique().numel() > 1
    assert caplog.text.count("cannot be read") == BROKEN


def test_evaluation_is_bounded_too(dicts):
    loader = build_validation_loader(dicts, mapper=mapper(False), max_unreadable=1)
    with pytest.raises(ConfigError, match="2 images cannot be read"):
        list(loader)


def test_why_an_image_is_unreadable(dicts, tmp_path):
    assert "truncated" in unreadable_image(dicts[0])
    assert unreadable_image(dicts[1]) == "no known image format"
    assert unreadable_image(dicts[-1]) == ""
    assert unreadable_image({"file_name": str(tmp_path / "x.png")}) == "No such file or directory"
    height, width = dicts[-1]["height"], dicts[-1]["width"]
    other_size = dicts[-1] | {"width": width + 1}
    assert unreadable_image(other_size) == f"{width}x{height} px instead of {width + 1}x{height}"


def test_image_of_another_size_is_replaced(dicts):
    assert {SHORT, LONG} == {dicts[-1]["height"], dicts[-1]["width"]}
    changed = [dicts[-1] | {"width": 7, "height": 7}, *dicts[BROKEN:-1]]
    used = {x["file_name"] for batch in batches(changed, 8) for x in batch}
    assert used == {x["file_name"] for x in dicts[BROKEN:-1]}


def test_png_of_which_only_the_beginning_can_be_decoded(dicts, tmp_path):
    path = tmp_path / "damaged.png"
    content = bytearray(Path(dicts[-1]["file_name"]).read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    damaged = dicts[-1] | {"file_name": str(path)}
    assert "data stream" in unreadable_image(damaged)
    used = {x["file_name"] for batch in batches([damaged, *dicts[BROKEN:-1]], 8) for x in batch}
    assert used == {x["file_name"] for x in dicts[BROKEN:-1]}
    (blank,) = next(iter(build_validation_loader([damaged], mapper=mapper(), max_unreadable=1)))
    assert not blank["image"].any()


def test_png_with_a_wrong_checksum_only_is_used(dicts, tmp_path):
    path = tmp_path / "checksum.png"
    content = bytearray(Path(dicts[-1]["file_name"]).read_bytes())
    content[-13] ^= 1  # of the chunk of pixels, before 12 bytes that end the file
    path.write_bytes(content)
    with pytest.raises(SyntaxError), Image.open(path) as image:
        image.verify()
    assert unreadable_image(dicts[-1] | {"file_name": str(path)}) == ""


def test_image_of_which_resizing_leaves_nothing_is_replaced(dicts, tmp_path):
    path = tmp_path / "narrow.png"
    Image.new("RGB", (1, 5000)).save(path)
    narrow = dicts[-1] | {"file_name": str(path), "width": 1, "height": 5000}
    used = {x["file_name"] for batch in batches([narrow, *dicts[BROKEN:-1]], 8) for x in batch}
    assert used == {x["file_name"] for x in dicts[BROKEN:-1]}
    assert unreadable_image(narrow) == "1x5000 px, too narrow to be resized"


@pytest.mark.parametrize("num_workers", [0, 1])
def test_images_that_have_addresses(dicts, caplog, num_workers):
    prefix = put_elsewhere(Path(dicts[0]["file_name"]).parent)
    moved = [x | {"file_name": prefix + Path(x["file_name"]).name} for x in dicts]
    options = {"num_workers": num_workers}
    there, here = batches(moved, 6, **options), batches(dicts, 6, **options)
    assert [x["file_name"] for batch in there for x in batch] == [
        prefix + Path(x["file_name"]).name for batch in here for x in batch
    ]
    pixels = [[[x["image"] for x in batch] for batch in one] for one in (there, here)]
    assert all(
        torch.equal(*x) for pair in zip(*pixels, strict=True) for x in zip(*pair, strict=True)
    )
    reports = [x.getMessage() for x in caplog.records if prefix in x.getMessage()]
    assert len(reports) == BROKEN and any("truncated" in x for x in reports)


class ArchiveMapper:
    """Reads images of a zip file, whose names are no paths."""

    def __init__(self, archive: Path, folder: Path):
        self.archive, self.folder, self.map = archive, folder, mapper(False)

    def __call__(self, sample):
        if "spoilt" in sample:
            raise KeyError("a bug")
        with zipfile.ZipFile(self.archive) as archive:
            path = archive.extract(sample["file_name"].removeprefix("zip@"), self.folder)
        return self.map(sample | {"file_name": path}) | {"file_name": sample["file_name"]}


def test_images_that_only_the_mapper_can_read(dicts, tmp_path, caplog):
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for x in dicts:
            archive.write(x["file_name"], Path(x["file_name"]).name)
    archived = [x | {"file_name": f"zip@{Path(x['file_name']).name}"} for x in dicts]
    map_archived = ArchiveMapper(tmp_path / "images.zip", tmp_path)
    options = {"mapper": map_archived, "max_unreadable": BROKEN}
    samples = [x for batch in build_validation_loader(archived, **options) for x in batch]
    assert [bool(x["image"].any()) for x in samples] == [False] * BROKEN + [True] * (SIZE - BROKEN)
    assert caplog.text.count("cannot be read") == BROKEN and "truncated" in caplog.text
    with pytest.raises(KeyError, match="a bug"):
        list(build_validation_loader([archived[-1] | {"spoilt": True}], **options))


def annotation(*box: float, mode=BoxMode.XYWH_ABS) -> dict:
    return {"bbox": list(box), "bbox_mode": mode, "category_id": 0}


def test_unusable_boxes_are_dropped_and_counted(caplog):
    good = [annotation(1, 1, 5, 5), annotation(3, 3, 9, 9, mode=BoxMode.XYXY_ABS)]
    bad = [
        annotation(1, 1, float("nan"), 5),
        annotation(1, 1, 0, 5),
        annotation(1, 1, -2, 5),
        annotation(40, 1, 5, 5),
        annotation(9, 9, 3, 12, mode=BoxMode.XYXY_ABS),
    ]
    sample = {"width": 30, "height": 20, "annotations": [*good, *bad]}
    plain = {"width": 1, "height": 1}
    kept = drop_unusable_boxes([sample, plain])
    assert kept == [sample | {"annotations": good}, plain]
    assert len(sample["annotations"]) == 7
    assert "3 annotations left out: box with a zero or negative side" in caplog.text
    assert "1 annotations left out: box with NaN" in caplog.text
    assert "1 annotations left out: box outside of the image" in caplog.text


def test_the_training_loader_drops_them(dicts):
    # Clipped to the image, this one would look like any other box.
    endless = annotation(1, 1, float("inf"), 5)
    spoilt = [x | {"annotations": [*x["annotations"], endless]} for x in dicts[BROKEN:]]
    numbers = {x["file_name"]: len(x["annotations"]) for x in dicts}
    for batch in batches(spoilt, 4):
        for x in batch:
            assert len(x["instances"]) == numbers[x["file_name"]]
