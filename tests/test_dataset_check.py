"""scopenet check: each thing that can be wrong is found, and a cleaned copy has none of it."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import build_scopenet
from detectron2.structures import Boxes, Instances
from miniature import LONG, SHORT, TINY, write_split
from PIL import Image

import scopenet
from scopenet import ConfigError, cli, load_config
from scopenet.data.check import command as program
from scopenet.data.check.borders import build_scopenet as build
from scopenet.data.check.borders import count_borders, find_narrow
from scopenet.data.check.findings import NOTES, Finding, check_annotations, check_image
from scopenet.data.coco_json import clean, parse_json
from scopenet.modeling.bins import target_bins

CONFIG = "OwnData-ScopeNet_R_50_FPN_GN.yaml"
ROOT = Path(scopenet.__file__).parents[1]


# Images


def save(path: Path, mode: str = "RGB", size=(8, 6), **options) -> None:
    Image.new(mode, size).save(path, **options)


def kinds(folder: Path, name: str, width: int = 8, height: int = 6) -> list[str]:
    image = {"id": 1, "file_name": name, "width": width, "height": height}
    return [x.kind for x in check_image(image, str(folder))]


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize(
    "name, options, expected",
    [
        ("a.png", {}, []),
        ("a.JPG", {"format": "JPEG"}, []),
        ("a.tiff", {}, []),
        ("a.jpg", {"format": "PNG"}, ["wrong suffix"]),
        ("a", {"format": "PNG"}, ["wrong suffix"]),
        ("a.jpg", {"mode": "CMYK"}, ["CMYK image"]),
        ("a.png", {"mode": "L"}, ["greyscale image"]),
        ("a.png", {"mode": "RGBA"}, ["image with alpha"]),
        ("a.png", {"mode": "LA"}, ["image with alpha"]),
        ("a.png", {"mode": "I;16"}, ["16-bit image"]),
        ("a.png", {"mode": "P"}, []),
        ("a.jpg", {"exif": exif(1)}, []),
        ("a.jpg", {"exif": exif(3)}, ["EXIF rotation"]),
        ("a.jpg", {"exif": exif(6), "size": (6, 8)}, ["EXIF rotation"]),
        ("a.jpg", {"exif": exif(6)}, ["EXIF rotation", "other size"]),
        ("a.png", {"size": (6, 8)}, ["other size"]),
    ],
)
def test_image_file(tmp_path, name, options, expected):
    save(tmp_path / name, **options)
    assert kinds(tmp_path, name) == expected


def test_files_that_cannot_be_read(tmp_path):
    assert kinds(tmp_path, "none.png") == ["missing file"]
    (tmp_path / "empty.png").write_bytes(b"")
    assert kinds(tmp_path, "empty.png") == ["empty file"]
    (tmp_path / "text.png").write_text("no image")
    assert kinds(tmp_path, "text.png") == ["unreadable file"]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("a.png", "a.jpg"):
        Image.fromarray(noise).save(tmp_path / name)
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        assert kinds(tmp_path, name, 64, 64) == ["truncated file"]


def test_detail_of_a_size_that_is_only_turned(tmp_path):
    save(tmp_path / "a.jpg", exif=exif(6))
    image = {"id": 1, "file_name": "a.jpg", "width": 8, "height": 6}
    *_, finding = check_image(image, str(tmp_path))
    assert finding.detail == "json 8x6, file 6x8, as without its EXIF rotation"


# Json


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data")
    write_split(path / "labels.json", path / "images", num_images=6, without_boxes=(5,))
    return path


def check(content: dict) -> list[Finding]:
    return list(check_annotations(content, "labels.json"))


def is_error(finding: Finding) -> bool:
    return finding.severity == "error"


def test_a_good_json_has_notes_only(folder):
    found = check(parse_json(folder / "labels.json"))
    assert not any(map(is_error, found))
    assert ("image without boxes", "images", 6) in {(x.kind, x.part, x.id) for x in found}


SPOILT = [
    ({"bbox": [1, 1, float("nan"), 5]}, "box with NaN, infinity or what is no number"),
    ({"bbox": [1, 1, 0, 5]}, "box with a zero or negative side"),
    ({"bbox": [1, 1, 5, -1]}, "box with a zero or negative side"),
    ({"bbox": [500, 1, 5, 5]}, "box outside of the image"),
    ({"bbox": [1, 1, 500, 5]}, "box partly outside of the image"),
    ({"bbox": []}, "no box of four numbers"),
    ({"category_id": 77}, "unknown category id"),
    ({"image_id": 77}, "unknown image id"),
    ({"id": None}, "missing field"),
    ({"id": 2}, "duplicate id"),
]


@pytest.mark.parametrize("fields, kind", SPOILT)
def test_annotation(folder, fields, kind):
    content = parse_json(folder / "labels.json")
    before = {x.kind for x in check(content)}
    annotation = content["annotations"][0] | {"id": 1} | fields
    content["annotations"][0] = annotation
    found = [x for x in check(content) if x.kind not in before]
    assert [x.kind for x in found] == [kind]
    assert found[0].part == "annotations" and found[0].id == annotation["id"]


def test_ids_names_and_unused_categories(folder):
    content = parse_json(folder / "labels.json")
    content["images"].append(content["images"][0])
    content["categories"] += [{"id": 3, "name": "red"}, {"id": 9, "name": "rare"}]
    found = {(x.kind, x.part, x.id) for x in check(content)}
    assert {
        ("duplicate id", "images", 1),
        ("duplicate id", "categories", 3),
        ("duplicate name", "categories", "red"),
        ("category never used", "categories", 9),
    } <= found


def test_ids_of_any_kind_are_survived(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "data")
    content = parse_json(root / "labels.json")
    content["images"][0]["id"] = [1]
    content["annotations"][0]["image_id"] = {}
    content["categories"][0]["id"] = "1"
    (root / "labels.json").write_text(json.dumps(content))
    found = {x.kind for x in program.check(arguments(root))}
    assert {"missing field", "unknown category id"} <= found


def test_boxes_and_ids_as_deep_as_json_goes(folder):
    content, deep = parse_json(folder / "labels.json"), []
    for _ in range(2000):
        deep = [deep]
    content["annotations"][0]["bbox"] = deep
    content["annotations"][1]["id"] = deep
    found = check(content)
    assert {"no box of four numbers", "missing field"} <= {x.kind for x in found}
    assert "(annotations [[[" in program.summary(found)


def test_images_that_are_too_narrow():
    cfg = load_config(CONFIG, TINY)
    images = [{"id": i, "file_name": "x", "width": LONG * k, "height": 1}
              for i, k in enumerate((1, 2, 3))]  # fmt: skip
    # The shorter side of the last one would become less than half a pixel.
    (found,) = find_narrow(images, cfg)
    assert (found.kind, found.id, is_error(found)) == ("too narrow image", 2, True)
    assert found.detail == f"{3 * LONG}x1 becomes {LONG}x0"


def test_what_training_leaves_out_is_an_error():
    assert NOTES.isdisjoint(kind for _, kind in SPOILT if kind != "box partly outside of the image")
    assert NOTES.isdisjoint({"missing file", "empty file", "truncated file", "unreadable file",
                             "other size", "16-bit image"})  # fmt: skip


@pytest.mark.parametrize(
    "sizes, text",
    [
        ("(256,)", "Judged with the shorter side of images at 256 px (INPUT.MIN_SIZE_TRAIN), "),
        ("(64, 400, 200)", "at 200 px, the middle of 64, 400, 200 (INPUT.MIN_SIZE_TRAIN), the "),
        ("(0,)", "Judged with images in their own size"),
    ],
)
def test_the_size_that_boxes_are_judged_at_is_told(folder, tmp_path, capsys, sizes, text):
    root = shutil.copytree(folder, tmp_path / "data")
    paths = ["--json", root / "labels.json", "--images", root / "images", "--output", root / "out"]
    size = ["--num-samples", "0", *TINY, "INPUT.MIN_SIZE_TRAIN", sizes]
    cli.run("check", [*map(str, paths), *size])
    assert text in capsys.readouterr().out


# Borders


@pytest.fixture(scope="module")
def counted():
    """Of hand-made boxes in an image of 256 px, which is not resized."""
    overrides = [*TINY, "INPUT.MIN_SIZE_TRAIN", "(256,)", "INPUT.MAX_SIZE_TRAIN", "512"]
    cfg = load_config(CONFIG, overrides)
    model = build(cfg)

    def count(*boxes, crowd: int = 0):
        image = {"id": 1, "file_name": "x", "width": 256, "height": 256}
        annotations = [
            {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": list(x), "iscrowd": crowd}
            for i, x in enumerate(boxes)
        ]
        content = {"images": [image], "annotations": annotations,
                   "categories": [{"id": 1, "name": "x"}]}  # fmt: skip
        return count_borders(clean(content)[0], cfg, model)

    return count


def test_boxes_between_the_locations_are_missed(counted):
    # Locations of p3 are at 4, 12, 20, ...: the first box has none inside, the second has one.
    counts = counted((5, 5, 6, 6), (1, 1, 6, 6))
    assert counts.is_missed.tolist() == [True, False]
    assert counts.positives.tolist() == [1, 0, 0, 0, 0]
    # (3, 3, 3, 3) px from (4, 4): the first bin of p3 is nominally 2 to 4 px.
    assert counts.bins[0].tolist() == [4, 0, 0, 0, 0] and counts.bins.sum() == 4
    assert counts.outside == 0


def test_a_long_thin_box_is_missed(counted):
    # 200 px long, so left to p5 (stride 32) at least, whose locations are at 16, 48, ...
    assert counted((20, 50, 200, 6)).is_missed.tolist() == [True]
    assert counted((20, 50, 40, 10)).is_missed.tolist() == [False]


def test_borders_beyond_the_nominal_edges(counted):
    counts = counted((3, 3, 10, 10))  # from (4, 4): 1, 1, 9, 9 px; from (12, 12): 9, 9, 1, 1
    assert counts.positives[0] == 4 and counts.outside == 8


def test_boxes_do_not_compete_and_crowds_do_not_count(counted):
    one = counted((50, 50, 40, 40))
    twice = counted((50, 50, 40, 40), (50, 50, 40, 40))
    assert (twice.bins == 2 * one.bins).all() and not twice.is_missed.any()
    assert len(counted((50, 50, 40, 40), crowd=1).sizes) == 0


def test_counts_are_those_of_training(counted):
    """Beside the targets of the model's own losses, of a box by itself."""
    model = build_scopenet()
    box = torch.tensor([[30.0, 40, 130, 100]])
    maps = [torch.zeros(1, 1, 256 // s, 256 // s) for s in model.strides]
    positives = model.label_locations((maps,), [Instances((256, 256), gt_boxes=Boxes(box))])
    centers = positives.centers(model.strides)
    distances = torch.cat([centers - box[:, :2], box[:, 2:] - centers], 1)
    bins = target_bins(distances, model.bin_edges[positives.level])
    counts = counted((30, 40, 100, 60))
    assert counts.sizes.tolist() == [[100, 60]]
    for level in range(5):
        expected = bins[positives.level == level].flatten().bincount(minlength=5)
        assert counts.bins[level].tolist() == expected.tolist()


def test_boxes_are_scaled_as_in_training(folder):
    cfg = load_config(CONFIG, [*TINY, "INPUT.MIN_SIZE_TRAIN", f"({2 * SHORT},)",
                               "INPUT.MAX_SIZE_TRAIN", str(2 * LONG)])  # fmt: skip
    content, _ = clean(parse_json(folder / "labels.json"))
    counts = count_borders(content, cfg, build(cfg))
    expected = sorted([2.0 * x["bbox"][2], 2.0 * x["bbox"][3]] for x in content["annotations"])
    assert sorted(counts.sizes.tolist()) == expected


def test_a_detector_without_bins_is_refused():
    with pytest.raises(ConfigError, match="only ScopeNet has bins"):
        build(load_config("peers/RetinaNet_R_50_FPN_1x.yaml"))


# The program


@pytest.fixture
def spoilt(folder, tmp_path) -> Path:
    """With everything of SPOILT, and with every unusable kind of file."""
    root = shutil.copytree(folder, tmp_path / "data")
    content = parse_json(root / "labels.json")
    good = content["annotations"][-1]
    for i, (fields, _) in enumerate(SPOILT):
        content["annotations"].append(good | {"id": 100 + i} | fields)
    files = sorted((root / "images").iterdir())
    files[0].write_bytes(b"")
    files[1].unlink()
    content["images"][2]["width"] = 7
    (root / "labels.json").write_text(json.dumps(content))
    return root


def arguments(root: Path, *more: str):
    return program.parser().parse_args(
        ["--json", str(root / "labels.json"), "--images", str(root / "images"),
         "--output", str(root / "out"), "--num-samples", "2", *more, *TINY]
    )  # fmt: skip


def test_the_copy_is_clean_and_the_input_as_it_was(spoilt, capsys):
    before = (spoilt / "labels.json").read_bytes()
    findings = program.check(arguments(spoilt, "--fix", str(spoilt / "new" / "clean.json")))
    assert (spoilt / "labels.json").read_bytes() == before
    shown = capsys.readouterr().out
    for kind in {x.kind for x in findings}:
        assert kind in shown
    assert {kind for _, kind in SPOILT} | {"empty file", "missing file", "other size"} <= {
        x.kind for x in findings
    }
    with (spoilt / "out" / "findings.csv").open(newline="") as f:
        rows = list(csv.DictReader(f))
    assert [x["kind"] for x in rows] == [x.kind for x in findings]
    assert {x["severity"] for x in rows} == {"error", "note"}
    with Image.open(spoilt / "out" / "boxes.png") as picture:
        assert picture.size == (1320, 960)
    assert len(list((spoilt / "out" / "samples").iterdir())) == 2

    shutil.copy(spoilt / "new" / "clean.json", spoilt / "labels.json")
    again = program.check(arguments(spoilt))
    assert not any(map(is_error, again))
    kept = parse_json(spoilt / "labels.json")
    assert [x["id"] for x in kept["images"]] == [4, 5, 6]
    assert "Boxes that no location of any level can represent: " in capsys.readouterr().out


def test_images_that_are_too_narrow_are_not_in_the_copy(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "data")
    content = parse_json(root / "labels.json")
    content["images"][0] |= {"width": 3 * LONG, "height": 1}
    save(root / "images" / content["images"][0]["file_name"], size=(3 * LONG, 1))
    (root / "labels.json").write_text(json.dumps(content))
    found = program.check(arguments(root, "--fix", str(root / "clean.json")))
    assert ("too narrow image", 1) in {(x.kind, x.id) for x in found}
    assert [x["id"] for x in parse_json(root / "clean.json")["images"]] == [2, 3, 4, 5, 6]


@pytest.mark.parametrize("link", ["same", "dots", "symlink", "hardlink"])
def test_the_copy_never_replaces_the_input(folder, tmp_path, link):
    root = shutil.copytree(folder, tmp_path / "data")
    source = root / "labels.json"
    target = root / "other.json"
    if link == "symlink":
        target.symlink_to(source)
    if link == "hardlink":
        target.hardlink_to(source)
    target = {"same": source, "dots": root / "images" / ".." / "labels.json"}.get(link, target)
    before = source.read_bytes()
    with pytest.raises(ConfigError, match="is the file to check"):
        program.check(arguments(root, "--fix", str(target)))
    assert source.read_bytes() == before


def test_a_copy_that_would_still_be_unusable_is_not_written(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "data")
    content = parse_json(root / "labels.json")
    content["categories"][1]["name"] = content["categories"][0]["name"]
    (root / "labels.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="by hand"):
        program.check(arguments(root, "--fix", str(root / "clean.json")))
    assert [x.name for x in root.iterdir() if "clean" in x.name] == []


def test_a_copy_without_usable_boxes_is_not_written(folder, tmp_path):
    root = shutil.copytree(folder, tmp_path / "data")
    content = parse_json(root / "labels.json")
    for x in content["annotations"]:
        x["iscrowd"] = 1
    (root / "labels.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="crowds only: .*clean.json is not written"):
        program.check(arguments(root, "--fix", str(root / "clean.json")))
    assert not (root / "clean.json").exists()


@pytest.mark.parametrize("name", ["$^$", "\ud800"])
def test_texts_of_any_kind_are_printed_and_drawn(folder, tmp_path, name, monkeypatch):
    root = shutil.copytree(folder, tmp_path / "data")
    content = parse_json(root / "labels.json")
    content["categories"][0] = {"id": 1, "name": name}
    content["images"][5]["id"] = "\ud800"
    (root / "labels.json").write_text(json.dumps(content))
    paths = ["--json", root / "labels.json", "--images", root / "images", "--output", root / "out"]
    printed = io.TextIOWrapper(io.BytesIO(), "utf-8")  # strict, as it is outside of tests
    monkeypatch.setattr(sys, "stdout", printed)
    code = cli.run("check", [*map(str, paths), "--num-samples", "1", *TINY])
    printed.flush()
    assert code == 1 and b"(images \\ud800)" in printed.buffer.getvalue()
    assert len(list((root / "out" / "samples").iterdir())) == 1


def run_command(*argv) -> subprocess.CompletedProcess:
    command = [sys.executable, "-W", "ignore", "-m", "scopenet", "check", *argv]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_exit_codes(folder, spoilt):
    def code(root: Path, *more) -> int:
        paths = ["--json", root / "labels.json", "--images", root / "images"]
        return run_command(*paths, "--output", root / "out", *more, *TINY).returncode

    assert code(folder) == 0
    assert code(spoilt) == 1
    done = run_command("--json", folder / "nothing.json", "--images", folder)
    assert done.returncode == 2 and done.stderr.strip().startswith("error: ")
