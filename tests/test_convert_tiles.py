"""`scopenet convert tiles`: large images, and their boxes, cut for training."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scopenet import ConfigError, cli
from scopenet.data.tiles import cut

WIDTH, HEIGHT = 100, 60  # px, of the image: two tiles of 60 px that share 20


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with an image, and a json of it with boxes of every kind."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (tmp_path / "deep").mkdir()
    Image.fromarray(pixels).save(tmp_path / "deep/a.png")
    boxes = [
        (7, [10, 10, 20, 20], 0),  # in the left tile only
        (9, [50, 10, 40, 10], 0),  # a quarter in the left one, whole in the right one
        (7, [58, 40, 10, 10], 0),  # a fifth in the left one
        (9, [70, 30, 20, 20], 1),  # a crowd
        (7, [5, 5, 0.5, 0.5], 0),  # below 1 px²
        (7, [95, 0, 25, 10], 0),  # a fifth, all that is in the image
    ]
    write(tmp_path, boxes, WIDTH, HEIGHT)
    return tmp_path


def write(folder: Path, boxes: list, width: int, height: int) -> None:
    annotations = [
        {"id": i, "image_id": 4, "category_id": category, "bbox": box, "iscrowd": crowd}
        for i, (category, box, crowd) in enumerate(boxes)
    ]
    image = {"id": 4, "file_name": "deep/a.png", "width": width, "height": height}
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    content = {"images": [image], "annotations": annotations, "categories": categories}
    (folder / "a.json").write_text(json.dumps(content))


def tiles_of(folder: Path, **options) -> dict:
    options = {"tile": 60, "overlap": 20, "output": folder / "tiles"} | options
    cut(json=folder / "a.json", images=folder, **options)
    return json.loads((options["output"] / "annotations.json").read_text())


def test_boxes_are_clipped_to_the_tiles_that_show_enough_of_them(folder):
    content = tiles_of(folder)
    assert content["categories"] == [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    assert [(x["id"], x["width"], x["height"]) for x in content["images"]] == [
        (1, 60, 60),
        (2, 60, 60),
    ]
    assert all(x["segmentation"] == [] for x in content["annotations"])
    found = [
        (x["id"], x["image_id"], x["category_id"], x["bbox"], x["area"], x["iscrowd"])
        for x in content["annotations"]
    ]
    assert found == [
        (1, 1, 7, [10, 10, 20, 20], 400, 0),
        (2, 1, 9, [50, 10, 10, 10], 100, 0),
        (3, 2, 9, [10, 10, 40, 10], 400, 0),
        (4, 2, 7, [18, 40, 10, 10], 100, 0),
        (5, 2, 9, [30, 30, 20, 20], 400, 1),
        (6, 2, 7, [55, 0, 5, 10], 50, 0),
    ]


def test_tiles_hold_the_pixels_of_the_image(folder):
    files = [folder / "tiles/images" / x["file_name"] for x in tiles_of(folder)["images"]]
    left, right = (np.asarray(Image.open(x)) for x in files)
    pixels = np.asarray(Image.open(folder / "deep/a.png"))
    assert np.array_equal(left, pixels[:, :60]) and np.array_equal(right, pixels[:, 40:])


def test_an_image_that_is_turned_is_cut_upright(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned right by whoever shows it
    Image.open(folder / "deep/a.png").save(folder / "deep/a.png", exif=exif)
    write(folder, [(7, [0, 80, 10, 10], 0)], HEIGHT, WIDTH)
    content = tiles_of(folder)
    assert [(x["image_id"], x["bbox"]) for x in content["annotations"]] == [(2, [0, 40, 10, 10])]
    lower = np.asarray(Image.open(folder / "tiles/images" / content["images"][1]["file_name"]))
    assert np.array_equal(lower, np.rot90(np.asarray(Image.open(folder / "deep/a.png")), -1)[40:])


@pytest.mark.parametrize(
    "tile, overlap, starts",
    [(40, None, [0, 30, 60]), (40, 0, [0, 40, 60]), (50, 29, [0, 21, 42, 50])],
)
def test_neighbours_share_the_overlap(folder, tile, overlap, starts):
    """A quarter of the tile if none is given; the last tile ends where the image does."""
    names = [x["file_name"] for x in tiles_of(folder, tile=tile, overlap=overlap)["images"]]
    assert sorted({int(x.split("_")[2]) for x in names}) == starts


def test_the_command_gives_what_training_can_use(folder, capsys):
    argv = ["tiles", "--json", folder / "a.json", "--images", folder, "--tile", 60]
    cli.run("convert", list(map(str, [*argv, "--output", folder / "tiles"])))
    written = f"Written to {folder}/tiles: 2 images, 6 annotations, 2 categories.\n"
    assert capsys.readouterr().out == written
    check = ["--json", folder / "tiles/annotations.json", "--images", folder / "tiles/images"]
    assert cli.run("check", list(map(str, [*check, "--output", folder / "check"]))) == 0


@pytest.mark.parametrize("overlap", [-1, 60])
def test_tiles_that_would_not_cover_an_image(folder, overlap):
    with pytest.raises(ConfigError, match=r"--overlap must be in \[0, 60\)"):
        tiles_of(folder, overlap=overlap)


def test_nothing_is_written_over(folder):
    tiles_of(folder)
    with pytest.raises(ConfigError, match="is there already"):
        tiles_of(folder)


def test_an_image_of_another_size_than_in_the_json(folder):
    write(folder, [], HEIGHT, WIDTH)
    with pytest.raises(ConfigError, match="a.png has another size than in .*a.json"):
        tiles_of(folder)
    assert not (folder / "tiles/annotations.json").exists()


def test_without_sahi(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "sahi", None)
    with pytest.raises(ConfigError, match=r'pip install "scopenet\[tiles\]"'):
        tiles_of(folder)
