"""The Digits data set: what is drawn, which box it gets, and when files are written."""

import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog
from detectron2.data.datasets import load_coco_json
from PIL import Image
from sklearn.datasets import load_digits

import scopenet
from scopenet.data import digits
from scopenet.data.builtin import register_builtin_datasets
from scopenet.errors import ConfigError

SIZE = 160  # px
SCRIPT = Path(scopenet.__file__).parents[1] / "datasets/prepare_digits.py"


@pytest.fixture(scope="module")
def sources():
    return {split: digits.load_sources(split, SIZE, seed=0) for split in ("train", "val")}


@pytest.fixture(scope="module")
def samples(sources):
    return list(digits.generate(sources["train"], "train", 60, SIZE, seed=0))


@pytest.fixture
def prepared(tmp_path):
    assert digits.prepare_digits(tmp_path, train=3, val=2) == ["train", "val"]
    return tmp_path


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def read_json(root: Path, split: str) -> dict:
    return json.loads((root / f"digits/annotations/instances_{split}.json").read_text())


def boxes_by_image(content: dict, num_images: int) -> list[list]:
    return [
        [(a["category_id"], a["bbox"]) for a in content["annotations"] if a["image_id"] == i]
        for i in range(num_images)
    ]


# What is in a picture


def test_digits_are_inside_and_apart(samples):
    for sample in samples:
        assert sample.image.shape == (SIZE, SIZE, 3) and sample.image.dtype == np.uint8
        assert 1 <= len(sample.boxes) == len(sample.labels) <= 6
        covered = np.zeros((SIZE, SIZE), int)
        for x, y, w, h in sample.boxes:
            assert min(x, y) >= 0 and max(x + w, y + h) <= SIZE
            covered[y : y + h, x : x + w] += 1
        assert covered.max() == 1
    assert {len(sample.boxes) for sample in samples} == {1, 2, 3, 4, 5, 6}
    assert {label for sample in samples for label in sample.labels} == set(range(10))


def test_sizes_are_log_uniform():
    rng = np.random.default_rng(0)
    boxes = np.array([digits.random_box(SIZE, [], rng) for _ in range(2000)])
    w, h = boxes[:, 2], boxes[:, 3]
    scale, aspect = np.sqrt(w * h), w / h
    # Half a pixel of rounding on sides of 12 e^-0.5 = 7.3 px and more.
    assert 11.5 < scale.min() < 12.5 and 93 < scale.max() < 96.5  # 0.6 * 160 = 96
    assert 1 / 3 < aspect.min() < 0.4 and 2.5 < aspect.max() < 3
    # The mean of log U(12, 96) is log sqrt(12 * 96) = log 33.94; that of log aspect is 0.
    assert np.log(scale).mean() == pytest.approx(math.log(33.94), abs=0.05)
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.05)
    assert ((boxes[:, 0] + w).max(), (boxes[:, 1] + h).max()) == (SIZE, SIZE)


def test_overlaps():
    box = (10, 10, 4, 5)  # to column 14, row 15
    assert all(digits.overlaps(box, o) for o in [(13, 14, 3, 3), (11, 11, 1, 1), (0, 0, 99, 99)])
    assert not any(digits.overlaps(box, o) for o in [(14, 10, 3, 3), (10, 15, 4, 2), (11, 1, 1, 9)])


def test_crop_to_ink():
    scan = np.zeros((8, 8))
    scan[2, 3], scan[5, 6] = 0.15, 1.0
    scan[0, 0] = scan[7, 7] = 0.14  # too faint
    assert np.array_equal(digits.crop_to_ink(scan), scan[2:6, 3:7])


@pytest.mark.parametrize("box", [(20, 30, 7, 20), (3, 4, 20, 7), (5, 6, 12, 12), (0, 0, 96, 96)])
@pytest.mark.parametrize("level", [0, 175])
def test_boxes_are_tight(sources, box, level):
    # On a flat background and at the least contrast, 80, it changes pixels on all four sides.
    x, y, w, h = box
    for glyph in sources["val"].glyphs[::2]:
        image = np.full((SIZE, SIZE, 3), level, np.uint8)
        digits.draw_glyph(image, glyph, box, np.full(3, level + 80))
        assert (image.min(), image.max() <= level + 80) == (level, True)  # no overshoot
        rows, columns = np.nonzero((image != level).any(axis=2))
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max() + 1, rows.max() + 1) == (x + w, y + h)


def test_draw_glyph_by_hand():
    image = np.full((4, 5, 3), 100, np.uint8)
    half = digits.OPAQUE / 2
    glyph, colour = np.array([[1.0, 0.0], [half, 1.0]]), np.array([200, 0, 50])
    digits.draw_glyph(image, glyph, (2, 1, 2, 2), colour)
    expected = np.full((4, 5, 3), 100)
    expected[1, 2] = expected[2, 3] = (200, 0, 50)
    expected[2, 2] = (150, 50, 75)  # halfway
    assert np.array_equal(image, expected)


@pytest.mark.parametrize("level", [0, 90, 127, 128, 170, 255])
def test_colours_can_be_seen(level):
    rng = np.random.default_rng(0)
    image = np.full((40, 40, 3), 255 - level, np.uint8)
    image[10:20, 5:25] = level  # only what is behind the digit counts
    for _ in range(20):
        colour = digits.random_colour(image, (5, 10, 20, 10), rng)
        luma = Image.new("RGB", (1, 1), tuple(map(int, colour))).convert("L").getpixel((0, 0))
        assert abs(luma - level) >= 79  # Pillow rounds


def test_bright_digits_are_five_larger_rounder_and_brighter_than_what_is_behind(tmp_path):
    dark = digits.load_sources("train", SIZE, seed=0)
    bright = digits.load_sources("train", SIZE, seed=0, style=digits.BRIGHT)
    for before, after in zip(dark.photos, bright.photos, strict=True):
        assert np.array_equal(after, before // 2)
    samples = list(digits.generate(bright, "train", 60, SIZE, seed=0))
    assert max(len(sample.boxes) for sample in samples) == 8
    assert {label for sample in samples for label in sample.labels} == {0, 1, 2, 3, 4}
    boxes = np.array([box for sample in samples for box in sample.boxes])
    scale, aspect = np.sqrt(boxes[:, 2] * boxes[:, 3]), boxes[:, 2] / boxes[:, 3]
    assert 19 < scale.min() < 22 and 60 < scale.max() < 65  # 0.4 * 160 = 64; sides are rounded
    assert 0.57 < aspect.min() < 0.68 and 1.47 < aspect.max() < 1.75  # e^-0.5 and e^0.5

    rng = np.random.default_rng(0)
    for level in (0, 90, 127):
        image = np.full((40, 40, 3), level, np.uint8)
        colours = [digits.random_colour(image, (5, 10, 20, 10), rng, digits.BRIGHT) for _ in "123"]
        assert all(colour @ digits.LUMA - level >= 80 for colour in colours)

    assert digits.prepare_digits(tmp_path, dataset="bright_digits", train=2, val=1) == [
        "train", "val"]  # fmt: skip
    content = json.loads((tmp_path / "bright_digits/annotations/instances_train.json").read_text())
    assert [x["name"] for x in content["categories"]] == list("01234")
    written = np.asarray(Image.open(tmp_path / "bright_digits/train/000001.png"))
    assert np.array_equal(written, samples[1].image)
    assert not (tmp_path / "digits").exists()


# Training against validation


def test_splits_share_no_scan(sources):
    target = load_digits().target
    train, val = (set(digits.split_scans(target, s, 0).tolist()) for s in ("train", "val"))
    assert not train & val and train | val == set(range(1797))
    for label in range(10):
        members = set(np.flatnonzero(target == label).tolist())
        assert len(members & val) == pytest.approx(len(members) / 5, abs=1)
    assert val != set(digits.split_scans(target, "val", 1).tolist())
    for split, indices in (("train", train), ("val", val)):
        assert sources[split].labels == target[sorted(indices)].tolist()
        assert len(sources[split].glyphs) == len(indices)


def test_splits_share_no_part_of_a_photo(sources):
    photo = np.tile(np.arange(640)[None, :, None], (427, 1, 3))
    columns = [np.unique(digits.photo_part(photo, s)).tolist() for s in ("train", "val")]
    assert columns == [list(range(426)), list(range(426, 640))]
    assert {p.shape for p in sources["train"].photos} == {(427, 426, 3)}
    assert {p.shape for p in sources["val"].photos} == {(427, 214, 3)}


def test_random_crops_reach_everywhere():
    rng = np.random.default_rng(0)
    photo = np.stack(np.mgrid[:12, :14], axis=2)  # every pixel holds its row and column
    crops = [digits.random_crop(photo, 10, rng) for _ in range(200)]
    assert {crop.shape for crop in crops} == {(10, 10, 2)}
    assert {tuple(crop[0, 0]) for crop in crops} == {(y, x) for y in range(3) for x in range(5)}
    assert all(np.array_equal(c - c[0, 0], photo[:10, :10]) for c in crops)


# What is written


def test_same_seed_same_bytes(prepared, tmp_path_factory):
    again, other = (tmp_path_factory.mktemp(name) for name in ("again", "other"))
    digits.prepare_digits(again, train=3, val=2)
    digits.prepare_digits(other, train=3, val=2, seed=1)
    assert len(files(prepared)) == 7
    assert files(prepared) == files(again)
    assert not files(prepared).items() & files(other).items()


def test_more_images_change_none(prepared, tmp_path_factory):
    more = tmp_path_factory.mktemp("more")
    digits.prepare_digits(more, train=5, val=4)
    pictures = {name: data for name, data in files(prepared).items() if name.endswith(".png")}
    assert pictures.items() <= files(more).items()
    for split, count in (("train", 3), ("val", 2)):
        few, many = (boxes_by_image(read_json(root, split), count) for root in (prepared, more))
        assert few == many and all(few)


def test_files_hold_what_was_drawn(prepared, samples):
    content = read_json(prepared, "train")
    assert content["categories"] == [{"id": i + 1, "name": str(i)} for i in range(10)]
    for index, image in enumerate(content["images"]):
        assert (image["id"], image["file_name"]) == (index, f"00000{index}.png")
        path = prepared / "digits/train" / image["file_name"]
        assert (image["width"], image["height"]) == (SIZE, SIZE)
        assert np.array_equal(np.asarray(Image.open(path)), samples[index].image)
    assert boxes_by_image(content, 3) == [
        [(label + 1, list(box)) for label, box in zip(s.labels, s.boxes, strict=True)]
        for s in samples[:3]
    ]
    for annotation in content["annotations"]:
        assert annotation["area"] == annotation["bbox"][2] * annotation["bbox"][3]
        assert annotation["iscrowd"] == 0 and "segmentation" not in annotation
    assert [a["id"] for a in content["annotations"][:2]] == [1, 2]


def test_class_names_before_and_after_reading(prepared):
    register_builtin_datasets()  # again: the import of scopenet was the first time
    assert MetadataCatalog.get("trees_val").thing_classes == ["tree"]
    json_file = str(prepared / "digits/annotations/instances_val.json")
    try:
        dicts = load_coco_json(json_file, str(prepared / "digits/val"), "digits_of_test")
        names = MetadataCatalog.get("digits_of_test").thing_classes
    finally:
        MetadataCatalog.remove("digits_of_test")
    assert len(dicts) == 2
    assert MetadataCatalog.get("digits_val").thing_classes == names == list("0123456789")


# When it is written


def test_second_run_does_nothing(prepared, monkeypatch):
    before = times(prepared)
    monkeypatch.setattr(digits, "load_sources", None)  # not even loaded
    assert digits.prepare_digits(prepared, train=3, val=2) == []
    assert times(prepared) == before


@pytest.mark.parametrize("damage", ["json missing", "json cut off", "picture missing"])
def test_half_written_is_redone(prepared, damage):
    whole = files(prepared)
    path = prepared / "digits/annotations/instances_train.json"
    if damage == "json missing":
        path.unlink()
    elif damage == "json cut off":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        (prepared / "digits/train/000001.png").unlink()
    assert digits.prepare_digits(prepared, train=3, val=2) == ["train"]
    assert files(prepared) == whole


def test_interrupted_run_leaves_no_json(prepared, monkeypatch):
    compose = digits.compose

    def interrupt(*args):
        monkeypatch.setattr(digits, "compose", interrupted)
        return compose(*args)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "compose", interrupt)
    with pytest.raises(KeyboardInterrupt):
        digits.prepare_digits(prepared, train=4, val=2)
    left = files(prepared)
    assert "digits/train/000000.png" in left
    assert "digits/annotations/instances_train.json" not in left
    monkeypatch.setattr(digits, "compose", compose)
    assert digits.prepare_digits(prepared, train=4, val=2) == ["train"]


def test_other_parameters_replace_a_split(prepared, monkeypatch):
    assert digits.prepare_digits(prepared, train=3, val=1) == ["val"]
    assert len(read_json(prepared, "val")["images"]) == 1
    assert [p.name for p in (prepared / "digits/val").iterdir()] == ["000000.png"]
    monkeypatch.setitem(digits.STYLES, "digits", digits.DIGITS._replace(max_digits=2))
    assert digits.prepare_digits(prepared, train=3, val=1) == ["train", "val"]


# What can go wrong


@pytest.mark.parametrize("size", [19, 215])  # 12 px is more than 0.6 of 19; a third of 640 is 213
def test_impossible_size(tmp_path, size):
    with pytest.raises(ConfigError, match=f"20 to .* not {size}"):
        digits.prepare_digits(tmp_path, train=1, val=1, size=size)
    assert files(tmp_path) == {}


def test_without_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ConfigError, match=r'pip install "scopenet\[data\]"'):
        digits.prepare_digits(tmp_path, train=1, val=1)
    assert files(tmp_path) == {}


def test_script(tmp_path, monkeypatch, capsys):
    arguments = ["prepare_digits.py", "--train", "2", "--val", "1", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*arguments, "--size", "64"])
    for state in ("wrote train and val", "complete, nothing to do"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
        assert capsys.readouterr().out == f"{tmp_path / 'digits'}: {state}\n"
    assert read_json(tmp_path, "train")["images"][1]["width"] == 64
    monkeypatch.setattr("sys.argv", [*arguments, "--size", "500"])
    with pytest.raises(SystemExit, match="not 500"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
