"""The Trees data set, from a made-up wheel of two small photographs."""

import hashlib
import io
import itertools
import json
import runpy
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import prepare_trees as trees
from scopenet.errors import ConfigError

TILE = 10  # px
PHOTOS = {  # random pixels of shape (H, W, 3)
    "train": np.random.default_rng(0).integers(0, 256, (10, 20, 3), dtype=np.uint8),
    "val": np.random.default_rng(1).integers(0, 256, (12, 10, 3), dtype=np.uint8),
}
BOXES = {  # XYXY in the photograph
    "train": [
        (2, 2, 6, 8),  # in the left one of the two tiles
        (7, 5, 17, 9),  # 3 columns of 10 in the left tile, 7 in the right one
        (8, 0, 12, 4),  # 2 columns of 4 in each
        (15, 0, 20, 3),  # to the very edge
    ],
    "val": [(1, 0, 4, 1)],
}


def voc(boxes) -> str:
    """A Pascal VOC annotation, laid out as in the real wheel."""
    objects = (
        f"<object><name>Tree</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1 in boxes
    )
    return f"<annotation><segmented>0</segmented>{''.join(objects)}</annotation>"


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """The file, which passes for the real wheel."""
    path = tmp_path / "deepforest.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for split, pixels in PHOTOS.items():
            picture = io.BytesIO()
            Image.fromarray(pixels).save(picture, "PNG")
            archive.writestr(f"deepforest/data/{split}_photo.png", picture.getvalue())
            archive.writestr(f"deepforest/data/{split}_photo.xml", voc(BOXES[split]))
        archive.writestr("deepforest/data/example.csv", "incomplete")
        archive.writestr("deepforest/__init__.py", "raise AssertionError('executed')")
    photographs = {s: trees.Photograph(f"{s}_photo", len(BOXES[s])) for s in PHOTOS}
    monkeypatch.setattr(trees, "PHOTOGRAPHS", photographs)
    monkeypatch.setattr(trees, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def read_json(root: Path, split: str) -> dict:
    return json.loads((root / f"trees/annotations/instances_{split}.json").read_text())


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


# Tiles


@pytest.mark.parametrize(
    ("length", "expected"),
    [(10, [0]), (20, [0, 10]), (30, [0, 10, 20]), (12, [0, 2]), (19, [0, 9]), (24, [0, 7, 14])],
)
def test_tile_starts(length, expected):
    assert trees.tile_starts(length, 10) == expected


@pytest.mark.parametrize(("length", "tile"), [(2299, 400), (2472, 400), (1249, 400), (1035, 7)])
def test_tiles_cover_everything(length, tile):
    starts = trees.tile_starts(length, tile)
    assert starts[0] == 0 and starts[-1] + tile == length
    assert all(0 < b - a <= tile for a, b in itertools.pairwise(starts))


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((102, 203, 105, 207), [(2, 3, 3, 4)]),  # inside
        ((100, 200, 110, 210), [(0, 0, 10, 10)]),  # the tile itself
        ((98, 202, 102, 204), [(0, 2, 2, 2)]),  # 2 of 4 columns
        ((97, 202, 102, 204), []),  # 2 of 5 columns
        ((108, 202, 112, 204), [(8, 2, 2, 2)]),  # on the other side
        ((103, 208, 105, 213), []),  # 2 of 5 rows
        ((103, 207, 105, 213), [(3, 7, 2, 3)]),  # 3 of 6 rows
        ((97, 197, 107, 207), []),  # 7 of 10 columns and rows: 49 of 100 pixels
        ((98, 197, 108, 207), [(0, 0, 8, 7)]),  # 56 of 100 pixels
        ((105, 205, 115, 215), []),  # one corner of four
        ((95, 195, 115, 215), []),  # all around: 100 of 400 pixels
        ((110, 202, 114, 204), []),  # touches it from outside
        ((20, 20, 24, 24), []),
    ],
)
def test_box_in_tile(box, expected):
    assert trees.boxes_in_tile(np.array([box]), x=100, y=200, tile=TILE) == expected


def test_no_boxes():
    _, boxes = trees.read_objects(voc([]).encode())
    assert boxes.shape == (0, 4)
    assert trees.boxes_in_tile(boxes, 0, 0, TILE) == []


# Files


def test_prepare(root, wheel):
    assert trees.prepare_trees(root, tile=TILE, wheel=wheel) == ["train", "val"]
    content = read_json(root, "train")
    assert content["categories"] == [{"id": 1, "name": "tree"}]
    boxes = [(a["image_id"], *a["bbox"]) for a in content["annotations"]]
    assert boxes == [
        (0, 2, 2, 4, 6),
        (0, 8, 0, 2, 4),
        (1, 0, 5, 7, 4),
        (1, 0, 0, 2, 4),
        (1, 5, 0, 5, 3),
    ]
    assert [a["area"] for a in content["annotations"]] == [24, 8, 28, 8, 15]
    for image, x in zip(content["images"], (0, 10), strict=True):
        assert (image["width"], image["height"]) == (TILE, TILE)
        pixels = np.asarray(Image.open(root / "trees/train" / image["file_name"]))
        assert np.array_equal(pixels, PHOTOS["train"][:, x : x + TILE])


def test_second_run_does_nothing(root, wheel, monkeypatch):
    trees.prepare_trees(root, tile=TILE, wheel=wheel)
    before = times(root)
    monkeypatch.setattr(trees, "fetch_wheel", None)
    wheel.unlink()
    assert trees.prepare_trees(root, tile=TILE) == []
    assert times(root) == before


def test_half_written_is_redone(root, wheel):
    trees.prepare_trees(root, tile=TILE, wheel=wheel)
    (root / "trees/annotations/instances_val.json").unlink()
    assert trees.prepare_trees(root, tile=TILE, wheel=wheel) == ["val"]
    assert len(read_json(root, "val")["annotations"]) >= 1


# What can go wrong: one sentence, and nothing is written


def test_other_wheel_is_refused(root, wheel):
    content = bytearray(wheel.read_bytes())
    content[len(content) // 2] ^= 1  # a single bit
    wheel.write_bytes(content)
    with pytest.raises(ConfigError, match="is not the wheel of deepforest==2.1.0"):
        trees.prepare_trees(root, tile=TILE, wheel=wheel)
    assert times(root) == {}


def test_missing_wheel(root, wheel):
    with pytest.raises(ConfigError, match="nowhere.whl cannot be read"):
        trees.prepare_trees(root, tile=TILE, wheel=wheel.with_name("nowhere.whl"))
    assert times(root) == {}


def test_other_number_of_boxes(root, wheel, monkeypatch):
    # Of the last split, by which time the first must not have been written.
    monkeypatch.setitem(trees.PHOTOGRAPHS, "val", trees.Photograph("val_photo", 2))
    with pytest.raises(ConfigError, match=r"val_photo.xml has 1 boxes instead of 2"):
        trees.prepare_trees(root, tile=TILE, wheel=wheel)
    assert times(root) == {}


@pytest.mark.parametrize("tile", [0, 11])
def test_impossible_tile(root, wheel, tile):
    with pytest.raises(ConfigError, match=f"1 to 10 pixels, not {tile}"):
        trees.prepare_trees(root, tile=tile, wheel=wheel)
    assert times(root) == {}


def test_pip_fails(root, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, stdout="", stderr="Looking ...\nERROR: no route\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ConfigError, match="ERROR: no route; .*--wheel"):
        trees.prepare_trees(root, tile=TILE)
    assert times(root) == {}


def test_program(root, wheel, monkeypatch, capsys):
    arguments = ["--tile", str(TILE), "--wheel", str(wheel), "--output", str(root)]
    monkeypatch.setattr("sys.argv", ["prepare_trees.py", *arguments])
    for state in ("wrote train and val", "complete, nothing to do"):
        trees.main()
        assert capsys.readouterr().out == f"{root / 'trees'}: {state}\n"


def test_script_refuses_a_wheel_in_one_sentence(root, wheel, monkeypatch):
    monkeypatch.setattr("sys.argv", ["x", "--wheel", str(wheel), "--output", str(root)])
    with pytest.raises(SystemExit, match=f"error: {wheel} is not the wheel of"):
        runpy.run_path(trees.__file__, run_name="__main__")  # which expects the real wheel


# The real one


@pytest.mark.slow
def test_real_wheel(root, tmp_path):
    wheel = trees.fetch_wheel(tmp_path)
    assert trees.prepare_trees(root, wheel=wheel) == ["train", "val"]
    # Photographs of 2299 x 2472 and 1249 x 1035 pixels
    for split, num_tiles in (("train", 6 * 7), ("val", 4 * 3)):
        content = read_json(root, split)
        assert [(i["width"], i["height"]) for i in content["images"]] == [(400, 400)] * num_tiles
        x, y, w, h = np.array([a["bbox"] for a in content["annotations"]]).T
        assert min(x.min(), y.min()) >= 0 and max((x + w).max(), (y + h).max()) <= 400
        assert 20 < np.median(np.sqrt(w * h)) < 60  # crowns of 2 to 6 m at 10 cm per pixel
