"""YOLO and Pascal VOC folders as COCO json."""

import json
from pathlib import Path

import pytest
from PIL import Image

from scopenet import ConfigError, cli
from scopenet.data.coco_json import clean, read_coco_json
from scopenet.data.convert import convert, read_names

pytest.importorskip("globox")

VOC = """<annotation><filename>another.jpg</filename>
<size><width>7</width><height>7</height><depth>3</depth></size>
<object><name>{}</name><bndbox><xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>25</ymax></bndbox>
</object></annotation>"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "images" / "deep").mkdir(parents=True)
    (tmp_path / "labels" / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.jpg", "empty.png"):
        Image.new("RGB", (100, 50)).save(tmp_path / "images" / name)
    (tmp_path / "labels" / "a.txt").write_text("1 0.5 0.5 0.2 0.4\n0 0.1 0.1 0.1 0.1\n")
    (tmp_path / "labels" / "deep" / "b.txt").write_text("1 0.25 0.5 0.5 1\n")
    (tmp_path / "labels" / "a.xml").write_text(VOC.format("dog"))
    (tmp_path / "names.txt").write_text("cat\ndog\n\n")
    return tmp_path


def run(folder: Path, kind: str, **options) -> dict:
    options = {"names": None, "like": None, "output": folder / "out" / "x.json"} | options
    convert(kind, labels=folder / "labels", images=folder / "images", **options)
    return json.loads(options["output"].read_text())


def test_yolo(folder):
    content = run(folder, "yolo", names=folder / "names.txt")
    assert content["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert [(x["id"], x["file_name"], x["width"], x["height"]) for x in content["images"]] == [
        (1, "a.png", 100, 50),
        (2, "deep/b.jpg", 100, 50),
        (3, "empty.png", 100, 50),
    ]
    boxes = [(x["id"], x["image_id"], x["category_id"], x["bbox"]) for x in content["annotations"]]
    assert boxes == [
        (1, 1, 2, pytest.approx([40, 15, 20, 20])),
        (2, 1, 1, pytest.approx([5, 2.5, 10, 5])),
        (3, 2, 2, pytest.approx([0, 0, 50, 50])),
    ]
    assert not clean(read_coco_json(folder / "out" / "x.json"))[1]


def test_the_command_says_what_it_has_written(folder, capsys):
    flags = {x: str(folder / x) for x in ("labels", "images", "names.txt", "out.json")}
    argv = ["yolo", "--labels", flags["labels"], "--images", flags["images"]]
    argv += ["--names", flags["names.txt"], "--output", flags["out.json"]]
    assert cli.run("convert", argv) == 0
    written = f"Written to {folder}/out.json: 3 images, 3 annotations, 2 categories.\n"
    assert capsys.readouterr().out == written
    assert len(read_coco_json(folder / "out.json")["images"]) == 3
    with pytest.raises(SystemExit) as end:
        cli.run("convert", [*argv[:3], "--images", str(folder / "nowhere"), *argv[5:]])
    assert end.value.code == f"error: The folder {folder}/nowhere does not exist."


def test_voc_is_sized_and_named_by_the_image_itself(folder):
    content = run(folder, "voc")
    assert content["categories"] == [{"id": 1, "name": "dog"}]
    assert content["images"][0] == {"id": 1, "file_name": "a.png", "width": 100, "height": 50}
    (annotation,) = content["annotations"]
    assert annotation["bbox"] == [10, 5, 20, 20] and annotation["image_id"] == 1


def test_categories_of_another_json(folder):
    like = folder / "train.json"
    names = [{"id": 9, "name": "dog"}, {"id": 4, "name": "bird"}]
    image = {"id": 1, "file_name": "x", "width": 1, "height": 1}
    like.write_text(json.dumps({"images": [image], "annotations": [], "categories": names}))
    content = run(folder, "voc", like=like)
    assert [x["name"] for x in content["categories"]] == ["bird", "dog"]
    assert content["annotations"][0]["category_id"] == 2
    (folder / "labels" / "a.xml").write_text(VOC.format("cow"))
    with pytest.raises(ConfigError, match="have no name: cow"):
        run(folder, "voc", like=like)


def test_image_that_is_turned_by_exif(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50)).save(folder / "images" / "a.png", exif=exif)
    image = run(folder, "yolo", names=folder / "names.txt")["images"][0]
    assert (image["width"], image["height"]) == (50, 100)


@pytest.mark.parametrize("text", ["names: [cat, dog]", "names: {0: cat, 1: dog}"])
def test_names_of_a_yolo_file(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    assert read_names(path) == ["cat", "dog"]


@pytest.mark.parametrize(
    "text", ["names: 3", "nc: 3", "names: {1: dog}", "!!python/object:x {}", "["]
)
def test_names_that_are_none(tmp_path, text):
    path = tmp_path / "data.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="names no classes"):
        read_names(path)


@pytest.mark.parametrize("line", ["1 0.5 0.5", "1 x 0.5 0.5 0.5", "7 0.5 0.5 0.5 0.5"])
def test_malformed_labels_write_nothing(folder, line):
    (folder / "labels" / "a.txt").write_text(line)
    with pytest.raises(ConfigError, match="a.txt cannot be read|have no name: 7"):
        run(folder, "yolo", names=folder / "names.txt")
    assert not (folder / "out").exists()


def test_what_is_missing(folder):
    with pytest.raises(ConfigError, match="give the class names"):
        run(folder, "yolo")
    (folder / "images" / "empty.png").write_bytes(b"")
    with pytest.raises(ConfigError, match="empty.png cannot be read"):
        run(folder, "voc")
    with pytest.raises(ConfigError, match="does not exist"):
        run(folder / "nowhere", "voc")
