"""The Cards and Cells data sets, from made-up repositories of a few small photographs."""

import hashlib
import io
import json
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from miniature import registered
from PIL import Image

import prepare_cards
import prepare_cells
import voc_repository
from scopenet.data.builtin import CLASS_NAMES
from scopenet.errors import ConfigError

SIZE = (32, 24)  # px, width and height of every photograph
CARD, KING = ("nine", (1, 2, 11, 22)), ("king", (5, 6, 30, 24))  # XYXY
CARDS = {  # name of the photograph -> objects
    "IMG_2485.JPG": [CARD],
    "IMG_2486.JPG": [KING],
    "IMG_2513.JPG": [CARD, ("ace", (4, 4, 4, 20))],  # the ace has no area
    "cam_image1.jpg": [KING, CARD],
    "cam_image38.jpg": [],
}
CELLS = {
    "BloodImage_00000.jpg": [("RBC", (0, 0, 8, 8)), ("WBC", (3, 3, 20, 20))],
    "BloodImage_00001.jpg": [("Platelets", (1, 1, 5, 4))],
    "BloodImage_00007.jpg": [("RBC", (0, 0, 8, 8))],  # of no split: the source's test image
}
LISTS = {"train": "BloodImage_00001\n", "val": "BloodImage_00000\n"}


def voc(objects) -> bytes:
    """A Pascal VOC annotation whose file name and size are wrong, as some are."""
    parts = [
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
        f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for name, (x0, y0, x1, y1) in objects
    ]
    head = "<filename>other.jpg</filename><size><width>1</width><height>1</height></size>"
    return f"<annotation>{head}{''.join(parts)}</annotation>".encode()


def jpeg(name: str) -> bytes:
    """Noise, another for every name."""
    rng = np.random.default_rng(list(name.encode()))
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)).save(file, "JPEG")
    return file.getvalue()


def cards_files() -> dict[str, bytes]:
    files = {}
    for name, objects in CARDS.items():
        files[f"images/train/{name}"] = jpeg(name)
        files[f"images/train/{Path(name).stem}.xml"] = voc(objects)
    return files


def cells_files() -> dict[str, bytes]:
    files = {f"BCCD/ImageSets/Main/{k}.txt": x.encode() for k, x in LISTS.items()}
    for name, objects in CELLS.items():
        files[f"BCCD/JPEGImages/{name}"] = jpeg(name)
        files[f"BCCD/Annotations/{Path(name).stem}.xml"] = voc(objects)
    return files


@dataclass
class Made:
    """A made-up repository, whose manifest passes for the real one."""

    source: voc_repository.Source
    files: dict[str, bytes]
    folder: Path
    root: Path  # of the data sets

    def prepare(self, **options) -> dict[str, int]:
        return voc_repository.prepare(self.source, self.root, folder=self.folder, **options)

    def read(self, name: str) -> dict:
        path = self.root / self.source.dataset / f"annotations/instances_{name}.json"
        return json.loads(path.read_text())

    def written(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.root.rglob("*")}


def make(source, files: dict[str, bytes], tmp_path: Path, monkeypatch) -> Made:
    folder = tmp_path / "checkout"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    lines = [f"{hashlib.sha256(x).hexdigest()}  {path}\n" for path, x in files.items()]
    manifest = tmp_path / "manifest.sha256"
    manifest.write_text("".join(lines))
    monkeypatch.setattr(voc_repository.Source, "manifest", manifest)
    (tmp_path / "root").mkdir()
    return Made(source, files, folder, tmp_path / "root")


@pytest.fixture
def cards(tmp_path, monkeypatch):
    return make(prepare_cards.SOURCE, cards_files(), tmp_path, monkeypatch)


@pytest.fixture
def cells(tmp_path, monkeypatch):
    return make(prepare_cells.SOURCE, cells_files(), tmp_path, monkeypatch)


def boxes(content: dict) -> list[tuple]:
    """File name, class name and XYWH of every box."""
    files = {x["id"]: x["file_name"] for x in content["images"]}
    names = {x["id"]: x["name"] for x in content["categories"]}
    return [
        (files[a["image_id"]], names[a["category_id"]], *a["bbox"]) for a in content["annotations"]
    ]


# What is written


def test_cards(cards):
    assert cards.prepare() == {"train": 1, "val": 0}  # the ace
    train, val = cards.read("train"), cards.read("val")
    assert [x["file_name"] for x in train["images"]] == [
        "IMG_2485.JPG",
        "IMG_2513.JPG",
        "cam_image38.jpg",
    ]
    assert boxes(train) == [
        ("IMG_2485.JPG", "nine", 1, 2, 10, 20),
        ("IMG_2513.JPG", "nine", 1, 2, 10, 20),
    ]
    assert boxes(val) == [
        ("IMG_2486.JPG", "king", 5, 6, 25, 18),
        ("cam_image1.jpg", "king", 5, 6, 25, 18),
        ("cam_image1.jpg", "nine", 1, 2, 10, 20),
    ]
    assert {(x["width"], x["height"]) for x in val["images"]} == {SIZE}
    assert [x["name"] for x in train["categories"]] == list(CLASS_NAMES["cards"])
    assert val["licenses"][0]["name"] == "Apache-2.0" and val["images"][0]["license"] == 1
    assert prepare_cards.SOURCE.commit in val["info"]["sources"][0]


def test_photographs_are_stored_as_they_are(cards):
    cards.prepare()
    for split in ("train", "val"):
        for path in (cards.root / "cards" / split).iterdir():
            assert path.read_bytes() == cards.files[f"images/train/{path.name}"]


def test_cells_have_the_splits_of_their_source(cells):
    assert cells.prepare() == {"train": 0, "val": 0}
    assert boxes(cells.read("train")) == [("BloodImage_00001.jpg", "Platelets", 1, 1, 4, 3)]
    assert boxes(cells.read("val")) == [
        ("BloodImage_00000.jpg", "RBC", 0, 0, 8, 8),
        ("BloodImage_00000.jpg", "WBC", 3, 3, 17, 17),
    ]
    assert "2017 shenggan" in cells.read("val")["licenses"][0]["name"]


def test_all_classes_as_one(cells):
    cells.prepare()
    content, one = cells.read("val"), cells.read("one_val")
    assert boxes(one) == [(file, "cell", *box) for file, _, *box in boxes(content)]
    assert one["categories"] == [{"id": 1, "name": "cell"}]
    assert one["images"] == content["images"] and one["licenses"] == content["licenses"]


def test_detectron2_reads_them(cards):
    assert MetadataCatalog.get("cards_one_val").thing_classes == ["card"]  # before there are files
    cards.prepare()
    folder = cards.root / "cards"
    labels = {}
    for split in ("val", "one_val"):
        path = MetadataCatalog.get(f"cards_{split}").json_file
        assert path.endswith(f"cards/annotations/instances_{split}.json")
        with registered({"read_back": (folder / f"annotations/{Path(path).name}", folder / "val")}):
            dicts = DatasetCatalog.get("read_back")
        assert all(Path(x["file_name"]).is_file() for x in dicts)
        labels[split] = [a["category_id"] for x in dicts for a in x["annotations"]]
    assert labels == {"val": [4, 4, 0], "one_val": [0, 0, 0]}  # king, king, nine


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("IMG_2485", "train"),
        ("IMG_2486", "val"),
        ("IMG_2512", "val"),
        ("IMG_2513", "train"),
        ("IMG_2596", "val"),
        ("IMG_2615", "val"),
        ("IMG_2616", "train"),
        ("cam_image1", "val"),
        ("cam_image3", "train"),
        ("cam_image38", "train"),
        ("cam_image39", "val"),
    ],
)
def test_split_of_a_card(stem, split):
    assert prepare_cards.split_of(stem) == split


@pytest.mark.parametrize(
    ("source", "numbers"),
    [(prepare_cards.SOURCE, (240, 56)), (prepare_cells.SOURCE, None)],
    ids=["cards", "cells"],
)
def test_real_manifest(source, numbers):
    manifest = voc_repository.read_manifest(source.manifest)
    assert all(len(digest) == 64 for digest in manifest.values())
    assert not any("test" in path for path in manifest)  # the source's test images stay out
    suffixes = [Path(path).suffix.lower() for path in manifest]
    assert suffixes.count(".jpg") == suffixes.count(".xml") > 200
    if numbers:
        assert tuple(len(list(source.pairs(manifest, x))) for x in ("train", "val")) == numbers


def test_second_run_does_nothing(cards):
    cards.prepare()
    before = cards.written()
    cards.folder.rename(cards.folder.with_name("elsewhere"))
    assert cards.prepare() == {} and cards.written() == before


@pytest.mark.parametrize("name", ["train", "one_train"])
def test_half_written_is_redone(cards, name):
    cards.prepare()
    expected = cards.read(name)
    (cards.root / f"cards/annotations/instances_{name}.json").unlink()
    assert cards.prepare() == {"train": 1} and cards.read(name) == expected


# Where it comes from


def archive(files: dict[str, bytes]) -> bytes:
    """A zip file as GitHub makes it, with a file besides that is not used."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zip_file:
        for path, content in (files | {"images/test/IMG_1.JPG": b"", "README.md": b""}).items():
            zip_file.writestr(f"Name-abc/{path}", content)
    return buffer.getvalue()


def serve(monkeypatch, answer) -> list[str]:
    """Let every download give ``answer``, or raise it; return the list of addresses asked for."""
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_download(cards, monkeypatch):
    asked = serve(monkeypatch, archive(cards.files))
    assert voc_repository.prepare(cards.source, cards.root) == {"train": 1, "val": 0}
    downloaded = cards.read("val")
    assert asked == [
        "https://codeload.github.com/EdjeElectronics/TensorFlow-Object-Detection-API-Tutorial-"
        f"Train-Multiple-Objects-Windows-10/zip/{prepare_cards.SOURCE.commit}"
    ]
    (cards.root / "cards/annotations/instances_val.json").unlink()
    cards.prepare()
    assert cards.read("val") == downloaded


# What can go wrong: one sentence, and nothing is written


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (urllib.error.URLError("no route"), "could not be fetched: no route; .*--source"),
        (b"<html>", "could not be fetched: File is not a zip file"),
        (archive({}), "images/train/IMG_2485.JPG of https://.* missing there"),
    ],
)
def test_download_fails(cards, monkeypatch, answer, reason):
    serve(monkeypatch, answer)
    with pytest.raises(ConfigError, match=reason):
        voc_repository.prepare(cards.source, cards.root)
    assert cards.written() == {}


@pytest.mark.parametrize("suffix", [".JPG", ".xml"])
def test_other_file_is_refused(cards, suffix):
    path = cards.folder / f"images/train/IMG_2513{suffix}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1  # a single bit
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"IMG_2513{suffix} of .*checkout is not the file of "):
        cards.prepare()
    assert cards.written() == {}


def test_missing_file(cells):
    (cells.folder / "BCCD/JPEGImages/BloodImage_00001.jpg").unlink()
    with pytest.raises(ConfigError, match="BloodImage_00001.jpg cannot be read: No such file.*at "):
        cells.prepare()
    assert cells.written() == {}


def test_program(cards, monkeypatch, capsys):
    arguments = ["--source", str(cards.folder), "--output", str(cards.root)]
    monkeypatch.setattr("sys.argv", ["prepare_cards.py", *arguments])
    for state in ("wrote train and val, without 1 empty boxes", "complete, nothing to do"):
        voc_repository.main(cards.source, "about")
        assert capsys.readouterr().out == f"{cards.root / 'cards'}: {state}\n"
