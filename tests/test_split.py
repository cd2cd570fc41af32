"""scopenet split: one COCO json as two."""

import json
from pathlib import Path

import pytest

from scopenet import cli
from scopenet.data.coco_json import read_coco_json
from scopenet.data.split import split


def content_of(number: int) -> dict:
    return {
        "info": {"year": 2020},
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "images": [
            {"id": 10 + i, "file_name": f"{i}.png", "width": 8, "height": 8} for i in range(number)
        ],
        "annotations": [
            {"id": 1 + i, "image_id": 10 + i // 2, "category_id": 3, "bbox": [0, 0, 4, 4]}
            for i in range(2 * number - 2)  # none in the last image
        ],
    }


def names(part: dict) -> set[str]:
    return {x["file_name"] for x in part["images"]}


def test_every_image_goes_one_way_with_its_boxes():
    content = content_of(300)
    train, val = split(content, share=0.2, seed=0)
    assert names(train) | names(val) == names(content) and not names(train) & names(val)
    assert 40 <= len(val["images"]) <= 80
    assert len(train["annotations"]) + len(val["annotations"]) == len(content["annotations"])
    for part in (train, val):
        assert {x["image_id"] for x in part["annotations"]} <= {x["id"] for x in part["images"]}
        assert part["categories"] == content["categories"] and part["info"] == content["info"]
    assert len(split(content, share=0.5, seed=0)[1]["images"]) > 120


def test_images_that_are_added_leave_the_others_where_they_were():
    for seed in (0, 1):
        few, more = (split(content_of(n), share=0.2, seed=seed)[1] for n in (100, 200))
        assert names(few) == {x for x in names(more) if int(x.removesuffix(".png")) < 100}
    assert names(split(content_of(100), share=0.2, seed=0)[1]) != names(few)


def run(folder: Path, *more: str) -> int:
    paths = ["--json", "all.json", "--train", "out/train.json", "--val", "val.json"]
    return cli.run("split", [str(folder / x) if ".json" in x else x for x in paths] + [*more])


def test_command(tmp_path, capsys):
    (tmp_path / "all.json").write_text(json.dumps(content_of(50)))
    assert run(tmp_path, "--share", "0.3", "--seed", "5") == 0
    expected = split(content_of(50), share=0.3, seed=5)
    assert read_coco_json(tmp_path / "out" / "train.json") == expected[0]
    assert read_coco_json(tmp_path / "val.json") == expected[1]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    numbers = f"{len(expected[1]['images'])} images, {len(expected[1]['annotations'])} boxes"
    assert printed[1] == f"Written to {tmp_path / 'val.json'}: {numbers}; none of dog."


@pytest.mark.parametrize(
    "more, part",
    [
        (["--share", "1"], "--share must be between 0 and 1, got 1.0"),
        (["--share", "1e-9"], "none of the 50 images"),
    ],
)
def test_what_is_refused(tmp_path, more, part):
    (tmp_path / "all.json").write_text(json.dumps(content_of(50)))
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, *more)
    assert part in str(ended.value.code)
    assert [x.name for x in tmp_path.iterdir()] == ["all.json"]


def test_the_json_itself_is_not_overwritten(tmp_path):
    (tmp_path / "val.json").write_text(json.dumps(content_of(50)))
    path = str(tmp_path / "val.json")
    with pytest.raises(SystemExit) as ended:
        cli.run("split", ["--json", path, "--train", str(tmp_path / "t.json"), "--val", path])
    assert "three different files" in str(ended.value.code)
