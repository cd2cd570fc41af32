"""scopenet check --against: what two data sets have in common is found, and nothing else."""

import json
import shutil
import sys
from pathlib import Path

import imagehash
import numpy as np
import pytest
from miniature import TINY, write_split
from PIL import Image
from zoos import refusal

from scopenet import cli
from scopenet.data.check import command as program
from scopenet.data.check import leaks
from scopenet.data.check.findings import Finding
from scopenet.data.check.leaks import (
    MAX_DISTANCE,
    NUM_BITS,
    Look,
    find_leaks,
    look_at,
    look_at_all,
    nearest,
)
from scopenet.data.coco_json import parse_json


def name(number: int) -> str:
    return f"{number:012d}.png"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two sets of six and of five images that have nothing in common."""
    write_split(tmp_path / "train.json", tmp_path / "train", num_images=6)
    write_split(tmp_path / "val.json", tmp_path / "val", num_images=5, seed=1)
    return tmp_path


def found(folder: Path, max_distance: int = MAX_DISTANCE) -> list[Finding]:
    return list(find_leaks(look(folder, "train"), look(folder, "val"), max_distance))


def look(folder: Path, split: str) -> list[Look]:
    return look_at_all(parse_json(folder / f"{split}.json")["images"], str(folder / split))


def test_different_images_are_none(folder):
    assert found(folder) == []


def test_equal_files_and_near_copies(folder):
    shutil.copy(folder / "train" / name(2), folder / "val" / name(4))
    photo = Image.open(folder / "train" / name(5))
    copy = folder / "val" / name(1)
    photo.resize((72, 48)).save(copy, "JPEG", quality=50)
    same, near = found(folder)
    assert same == Finding("image of both sets", name(2), "images", 2, name(4))
    distance = imagehash.phash(photo, 16) - imagehash.phash(Image.open(copy), 16)
    assert 0 < distance < 48 and near == Finding(
        "near copy of an image of the other set", name(5), "images", 5,
        f"{name(1)}, {distance} of 256 bits differ",
    )  # fmt: skip
    assert {same.severity, near.severity} == {"error"}
    assert found(folder, distance) == [same, near] and found(folder, distance - 1) == [same]


def test_a_turned_copy_is_seen_as_training_sees_it(folder):
    tags = Image.Exif()
    tags[0x0112] = 6
    lying = Image.open(folder / "train" / name(3)).transpose(Image.Transpose.ROTATE_90)
    lying.save(folder / "val" / name(2), exif=tags)
    (near,) = found(folder, 0)
    assert near.file == name(3) and near.detail == f"{name(2)}, 0 of 256 bits differ"


def test_files_without_pixels_are_compared_by_their_bytes(folder):
    for side, number in (("train", 1), ("val", 3)):
        Image.new("I;16", (8, 8), 1000).save(folder / side / name(number))
    for side, content in (("train", b"one"), ("val", b"two")):
        (folder / side / name(5)).write_bytes(content)
    (folder / "train" / name(6)).unlink()
    assert [(x.kind, x.id, x.detail) for x in found(folder, 127)][:1] == [
        ("image of both sets", 1, name(3))
    ]
    assert 5 not in {x.id for x in found(folder, 127)} and 6 not in {x.id for x in found(folder)}


def test_the_nearest_of_all_by_imagehash_itself(folder, monkeypatch):
    ours, theirs = (look(folder, x) for x in ("train", "val"))
    hashes = [
        [imagehash.phash(Image.open(folder / x / name(1 + i)), 16) for i in range(n)]
        for x, n in (("train", 6), ("val", 5))
    ]
    expected = [min((a - b, j) for j, b in enumerate(hashes[1])) for a in hashes[0]]
    for block in (1, 4, 100):
        monkeypatch.setattr(leaks, "BLOCK", block)
        assert list(nearest(ours, theirs)) == expected
    assert list(nearest(ours, [])) == [(128, 0)] * 6 and list(nearest([], theirs)) == []


def test_a_slightly_cropped_photograph_is_near_and_a_mirrored_one_is_not(tmp_path):
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((640, 480))
    copies = {
        "photo": photo,
        "cropped": photo.crop((6, 5, 633, 474)),
        "mirrored": photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    }
    for key, copy in copies.items():
        copy.save(tmp_path / f"{key}.jpg")
    bits = {key: look_at(str(tmp_path / f"{key}.jpg"))[1] for key in copies}
    apart = {key: (NUM_BITS - bits["photo"] @ x) / 2 for key, x in bits.items()}
    assert apart["photo"] == 0 < apart["cropped"] < 48 and 96 < apart["mirrored"]


def arguments(folder: Path, *more: str) -> list[str]:
    paths = ["--json", folder / "train.json", "--images", folder / "train"]
    paths += ["--output", folder / "out", "--against", folder / "val.json"]
    return [*map(str, paths), "--num-samples", "1", *more, *TINY]


def test_the_program_and_the_copy_without_leaks(folder, capsys):
    images = "--against-images", str(folder / "val")
    assert cli.run("check", arguments(folder, *images)) == 0
    shutil.copy(folder / "train" / name(2), folder / "val" / name(4))
    fixed = folder / "fixed.json"
    assert cli.run("check", arguments(folder, *images, "--fix", str(fixed))) == 1
    assert "| image of both sets" in capsys.readouterr().out
    assert [x["id"] for x in json.loads(fixed.read_text())["images"]] == [1, 3, 4, 5, 6]
    # Without a folder of their own the others are in that of --images, here under the same names.
    assert cli.run("check", arguments(folder, "--fix", str(fixed))) == 1
    assert [x["id"] for x in json.loads(fixed.read_text())["images"]] == [6]


def test_what_cannot_be_compared_is_said(folder, monkeypatch):
    def said(*more: str) -> str:
        return refusal(program.check, program.parser().parse_args(arguments(folder, *more)))

    assert "other.json" in said("--against", "other.json")
    assert said("--against-images", "none") == "The image folder none does not exist."
    monkeypatch.setitem(sys.modules, "imagehash", None)
    monkeypatch.setattr(program, "check_images", None)  # images are not read before
    assert 'pip install "scopenet[check]"' in said()
