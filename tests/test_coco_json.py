"""Reading a COCO json of unknown origin, and what is left out of it."""

import copy
import json
import math

import pytest

from scopenet import ConfigError
from scopenet.data.coco_json import clean, find_box, parse_json, read_coco_json

GOOD = {
    "images": [
        {"id": 5, "file_name": "a.png", "width": 100, "height": 50},
        {"id": 6, "file_name": "b/c.png", "width": 100, "height": 50},
    ],
    "annotations": [{"id": 3, "image_id": 5, "category_id": 7, "bbox": [10, 10, 20, 30]}],
    "categories": [{"id": 7, "name": "cat"}, {"id": 2, "name": "dog"}],
}


def changed(**fields) -> dict:
    """GOOD with an annotation of these fields in place of its own; None takes a field away."""
    content = copy.deepcopy(GOOD)
    annotation = content["annotations"][0] | fields
    content["annotations"] = [{k: v for k, v in annotation.items() if v is not None}]
    return content


def message(function, *args) -> str:
    with pytest.raises(ConfigError) as raised:
        function(*args)
    return str(raised.value)


@pytest.mark.parametrize(
    "text, part",
    [
        ("{", "is not json"),
        ("[]", "holds a list"),
        ("3", 'no list of objects "images"'),
        ('{"images": [], "annotations": []}', 'no list of objects "categories"'),
        ('{"images": [3], "annotations": [], "categories": []}', 'no list of objects "images"'),
        (json.dumps(GOOD | {"categories": []}), "names no categories"),
        (json.dumps(GOOD | {"images": []}), "names no images"),
    ],
)
def test_what_is_not_coco_is_refused(tmp_path, text, part):
    path = tmp_path / "labels.json"
    path.write_text(text)
    text = message(parse_json, path)
    assert part in text and str(path) in text


@pytest.mark.parametrize(
    "part, entries, expected",
    [
        ("images", [{"id": 5, "file_name": "a.png", "height": 50}], "usable width"),
        ("images", [{"id": 5, "file_name": "a", "width": math.nan, "height": 5}], "usable width"),
        ("images", [{"id": 5, "file_name": "a", "width": 7, "height": 5e-324}], "usable height"),
        ("images", [{"id": 5, "file_name": 3, "width": 7, "height": 5}], "usable file_name"),
        ("annotations", [{"image_id": 5, "category_id": 7}], "usable id"),
        ("annotations", [{"id": True, "image_id": 5, "category_id": 7}], "usable id"),
        ("annotations", [{"id": 3, "image_id": 5.0, "category_id": 7}], "usable image_id"),
        ("annotations", [{"id": "3", "image_id": 5, "category_id": "\ud800"}], "usable category"),
        ("categories", [{"id": 1, "name": ""}], "usable name"),
        ("categories", [{"id": 1, "name": "\ud800"}], "usable name"),
        ("images", [{"id": "\udfff", "file_name": "a", "width": 5, "height": 5}], "usable id"),
        ("categories", [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}], "the id 1"),
        ("categories", [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}], "the name x"),
        ("categories", [{"id": 1, "name": "x\ny"}, {"id": 2, "name": "x\ny"}], "the name x y"),
        ("categories", [{"id": 1, "name": "x"}, {"id": "2", "name": "y"}], "some are text"),
    ],
)
def test_entries_without_which_nothing_can_be_made(tmp_path, part, entries, expected):
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(GOOD | {part: entries}))
    assert expected in message(read_coco_json, path)


def test_missing_file_is_named(tmp_path):
    assert "nothing.json cannot be read" in message(parse_json, tmp_path / "nothing.json")


@pytest.mark.parametrize(
    "fields, problem",
    [
        ({"bbox": [10, 10, math.nan, 5]}, "box with NaN, infinity or what is no number"),
        ({"bbox": [10, 10, math.inf, 5]}, "box with NaN, infinity or what is no number"),
        ({"bbox": [10, 10, 10**400, 5]}, "box with NaN, infinity or what is no number"),
        ({"bbox": [10, 10, "7", 5]}, "box with NaN, infinity or what is no number"),
        ({"bbox": [10, 10, 0, 5]}, "box with a zero or negative side"),
        ({"bbox": [10, 10, 5, -5]}, "box with a zero or negative side"),
        ({"bbox": [10, 10, 1e-300, 5]}, "box with a zero or negative side"),
        ({"bbox": [100, 10, 5, 5]}, "box outside of the image"),
        ({"bbox": [-20, 10, 20, 5]}, "box outside of the image"),
        ({"bbox": [10, 10, 5]}, "no box of four numbers"),
        ({"bbox": None}, "no box of four numbers"),
        ({"image_id": 9}, "unknown image id"),
        ({"category_id": 9}, "unknown category id"),
    ],
)
def test_unusable_annotations_are_left_out_and_counted(fields, problem):
    content = changed(**fields)
    before = copy.deepcopy(content)
    cleaned, dropped = clean(content)
    assert cleaned["annotations"] == [] and dropped == {problem: 1}
    assert str(content) == str(before)  # NaN is not equal to itself


def test_good_annotations_are_kept_and_completed():
    cleaned, dropped = clean(GOOD)
    (annotation,) = cleaned["annotations"]
    assert annotation == GOOD["annotations"][0] | {"area": 600, "iscrowd": 0}
    assert not dropped and cleaned["images"] == GOOD["images"]
    (crowd,) = clean(changed(iscrowd=1, area=7.5))[0]["annotations"]
    assert (crowd["iscrowd"], crowd["area"]) == (1, 7.5)


@pytest.mark.parametrize(
    "box, clipped",
    [
        ([-5, 40, 20, 30], [0, 40, 15, 10]),
        ([-5, 10, 20, 30], [0, 10, 15, 30]),
        ([10, -5, 20, 30], [10, 0, 20, 25]),
        ([90, 10, 20, 30], [90, 10, 10, 30]),
        ([10, 40, 20, 30], [10, 40, 20, 10]),
        ([0.1, 10, 0.2, 30], [0.1, 10, 0.2, 30]),  # and not 0.1 + 0.2 - 0.1 wide
    ],
)
def test_boxes_are_clipped_to_the_image(box, clipped):
    cleaned, _ = clean(changed(bbox=box))
    assert cleaned["annotations"][0]["bbox"] == clipped


def test_repeated_ids():
    content = copy.deepcopy(GOOD)
    content["annotations"] *= 2
    content["annotations"] += [GOOD["annotations"][0] | {"id": 0}]
    content["images"].append(GOOD["images"][0] | {"file_name": "again.png"})
    cleaned, dropped = clean(content)
    # The id 0 is COCOeval's "not matched".
    assert [x["id"] for x in cleaned["annotations"]] == [3, 4, 5]
    assert [x["file_name"] for x in cleaned["images"]] == ["a.png", "b/c.png"]
    assert dropped == {"repeated image id": 1}


@pytest.mark.parametrize("number", ["3", "x", 2**53, -(2**53), 10**400])
def test_ids_that_are_no_numbers_for_cocoeval(number):
    content = changed(id=number)
    content["annotations"].append(GOOD["annotations"][0])
    assert [x["id"] for x in clean(content)[0]["annotations"]] == [4, 3]


def test_negative_ids_are_no_reason_to_give_away_0():
    content = changed(id=-1)
    content["annotations"] *= 3
    assert [x["id"] for x in clean(content)[0]["annotations"]] == [-1, 1, 2]


@pytest.mark.parametrize(
    "segmentation, box",
    [
        ([[10, 20, 50, 20, 50, 45]], [10, 20, 40, 25]),
        ([[10, 20, 30, 20, 30, 25], [40, 5, 60, 5, 60, 9]], [10, 5, 50, 20]),
        # Column by column of 4 rows: 5 pixels are 0, then 2 are 1: rows 1 and 2 of column 1.
        ({"size": [4, 6], "counts": [5, 2, 17]}, [1, 1, 1, 2]),
        ([], None),
        ([["x"]], None),
        ({"size": [4, 6], "counts": "52a0"}, [1, 1, 1, 2]),  # the same, compressed
        ({"size": [4, 6]}, None),
        # Each of these may end the process in pycocotools.
        ({"size": [0, 6], "counts": [5, 2, 17]}, None),
        ({"size": [2**32, 6], "counts": [5, 2, 17]}, None),
        ({"size": [4, 6], "counts": "52a"}, None),
        ({"size": [4, 6], "counts": "52\u0080"}, None),
        (3, None),
    ],
)
def test_box_of_a_segmentation(segmentation, box):
    assert find_box({"segmentation": segmentation}) == box
