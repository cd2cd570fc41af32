"""Ways to damage a data set of 64x96 px images in COCO format, drawn by Hypothesis.

Every fault is a function of ``draw`` and of the folder with ``labels.json`` and ``images``, which
it changes. It returns the kinds of finding of which the check must have one; an empty set where
the damage may happen to be harmless.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from miniature import LONG, SHORT, write_split
from PIL import Image

Fault = Callable[[Callable, Path], set[str]]
NUM_IMAGES = 6  # the first three are PNG, the others JPEG

UNREADABLE = {"missing file", "empty file", "truncated file", "unreadable file"}
BAD_BOX = {
    "no box of four numbers",
    "box with NaN, infinity or what is no number",
    "box with a zero or negative side",
    "box outside of the image",
}
# Values of the usual type or nearly so, but not as programs expect them.
ODD_TEXTS = ["1", "\0", "\ud800", "$^$", "a\nb", "../x.png", "/", "x" * 300]
AWKWARD = [
    *(None, True, 0, -1, 1.5, 10**9, 999_999_999, 2**63, 10**400, 1e-300, 5e-324, 1e308),
    *(float("nan"), float("inf"), "", *ODD_TEXTS, [], {}, [[]], [{}], {"id": 1}),
]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.sampled_from(AWKWARD) | st.recursive(
    SCALARS,
    lambda x: st.lists(x, max_size=5) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=6,
)


def write_data(folder: Path) -> None:
    """``labels.json`` and ``images`` without a fault."""
    write_split(folder / "labels.json", folder / "images", num_images=NUM_IMAGES)
    content = read(folder)
    for image in content["images"][NUM_IMAGES // 2 :]:
        path = folder / "images" / image["file_name"]
        image["file_name"] = path.with_suffix(".jpg").name
        Image.open(path).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
    write(folder, content)


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "labels.json").read_text())


def write(folder: Path, content: Any) -> None:
    (folder / "labels.json").write_text(json.dumps(content))


def an_image(draw, folder: Path) -> Path:
    return draw(st.sampled_from(sorted((folder / "images").iterdir())))


def some_images(draw, folder: Path) -> list[Path]:
    paths = sorted((folder / "images").iterdir())
    return draw(st.lists(st.sampled_from(paths), min_size=1, unique=True))


def an_entry(draw, content: dict, part: str = "annotations") -> dict:
    return draw(st.sampled_from(content[part]))


def places(node: Any) -> list[tuple[Any, Any]]:
    """(container, key) of every node but the root."""
    keys = {dict: list, list: lambda x: range(len(x))}.get(type(node), lambda x: ())(node)
    return [place for key in keys for place in [(node, key), *places(node[key])]]


def flip(draw, path: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    path.write_bytes(content)


# Images


def truncated_images(draw, folder):
    paths = some_images(draw, folder)
    for path in paths:
        content = path.read_bytes()
        # The last bytes hold no pixels.
        path.write_bytes(content[: draw(st.integers(1, len(content) - 40))])
    return UNREADABLE


def no_images(draw, folder):
    """Zero bytes, text, a folder in place of the file, or nothing."""
    for path in some_images(draw, folder):
        path.unlink()
        kind = draw(st.sampled_from(["empty", "text", "folder", "missing"]))
        if kind in ("empty", "text"):
            path.write_bytes(b"" if kind == "empty" else draw(st.binary(min_size=1, max_size=99)))
        elif kind == "folder":
            path.mkdir()
    return UNREADABLE


def flipped_bits(draw, folder):
    for path in some_images(draw, folder):
        flip(draw, path)
    return set()


def wrong_suffix(draw, folder):
    path = an_image(draw, folder)
    others = {"PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"} - {
        {".png": "PNG", ".jpg": "JPEG"}[path.suffix]
    }
    Image.open(path).save(path, format=draw(st.sampled_from(sorted(others))))
    return {"wrong suffix"}


def exif_rotation(draw, folder):
    path, tags = an_image(draw, folder), Image.Exif()
    tags[0x0112] = draw(st.integers(2, 8))
    Image.open(path).save(path, exif=tags)
    return {"EXIF rotation"}


def other_mode(draw, folder):
    path = an_image(draw, folder)
    kinds = {"L": "greyscale image", "1": "greyscale image"}
    if path.suffix == ".jpg":
        kinds = {"L": "greyscale image", "CMYK": "CMYK image"}
    else:
        kinds |= {"LA": "image with alpha", "RGBA": "image with alpha", "I;16": "16-bit image"}
    mode = draw(st.sampled_from(sorted(kinds)))
    image = Image.open(path)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    else:
        image = image.convert(mode)
    image.save(path)
    return {kinds[mode]}


def long_image(draw, folder):
    """As it says in the json, but with next to nothing left of its shorter side when resized."""
    content = read(folder)
    image = an_entry(draw, content, "images")
    sides = draw(st.integers(1, 3)), draw(st.integers(500, 20000))
    width, height = draw(st.permutations(sides))
    image |= {"width": width, "height": height}
    Image.new("RGB", (width, height)).save(folder / "images" / image["file_name"])
    for annotation in content["annotations"]:
        if annotation["image_id"] == image["id"]:
            annotation["bbox"] = [0, 0, width, height]
    write(folder, content)
    return set()


def other_size(draw, folder):
    content = read(folder)
    image = an_entry(draw, content, "images")
    side = draw(st.sampled_from(["width", "height"]))
    usual = {image["width"], image["height"]}
    sizes = st.integers(1, 10**9 - 1) | st.floats(0.1, 10**6)
    image[side] = draw(sizes.filter(lambda x: x not in usual))
    write(folder, content)
    return {"other size"}


# Annotations


def bad_boxes(draw, folder):
    content = read(folder)
    outside = st.tuples(st.floats(LONG, 1e6), st.floats(), st.floats(1, 50), st.floats(1, 50))
    sides = st.floats(max_value=0) | st.just(1e-300)
    flat = st.tuples(st.floats(0, SHORT - 1), st.floats(0, SHORT - 1), sides, st.floats(1, 50))
    wild = st.lists(st.floats() | st.integers() | st.text(max_size=3) | st.none(), max_size=6)
    not_finite = st.sampled_from([float("nan"), float("inf"), -float("inf"), "7", None, True])
    numbers = st.sampled_from(range(len(content["annotations"])))
    for i in draw(st.lists(numbers, min_size=1, max_size=3, unique=True)):
        annotation = content["annotations"][i]
        box = list(draw(outside | flat | wild | st.just(annotation["bbox"])))
        if box == annotation["bbox"]:
            box[draw(st.integers(0, 3))] = draw(not_finite)
        # Without a box at all there is nothing to say against one.
        annotation["bbox"] = box or draw(st.sampled_from(["0123", {"x": 1}, 5]))
    write(folder, content)
    return set() if _may_be_usable(content) else BAD_BOX


def _may_be_usable(content: dict) -> bool:
    boxes = [x["bbox"] for x in content["annotations"]]
    return all(
        isinstance(x, list)
        and len(x) == 4
        and all(type(y) in (int, float) and abs(y) < 1e9 for y in x)
        and min(x[2:]) > 0
        and x[0] < SHORT
        and x[1] < SHORT
        for x in boxes
    )


def segmentation_only(draw, folder):
    """Boxes left to an outline, which may be anything."""
    content = read(folder)
    lengths = st.lists(st.integers(-1, 2**33), max_size=5)
    sizes = st.lists(st.integers(-1, 10**6) | st.none(), max_size=3)
    rle = st.fixed_dictionaries({"size": sizes, "counts": lengths | st.text(max_size=20)})
    for _ in range(draw(st.integers(1, 3))):
        annotation = an_entry(draw, content)
        annotation.pop("bbox", None)
        annotation["segmentation"] = draw(rle | VALUES | st.lists(st.lists(st.floats())))
    write(folder, content)
    return set()


def unknown_ids(draw, folder):
    content = read(folder)
    annotation = an_entry(draw, content)
    part = draw(st.sampled_from(["image", "category"]))
    ids = st.integers().filter(lambda x: not 0 < x <= NUM_IMAGES) | st.sampled_from(["1", "x"])
    annotation[f"{part}_id"] = draw(ids)
    write(folder, content)
    return {f"unknown {part} id"}


def duplicate_ids(draw, folder):
    content = read(folder)
    part = draw(st.sampled_from(["images", "annotations", "categories"]))
    first, second = draw(st.permutations(content[part]))[:2]
    second["id"] = first["id"]
    write(folder, content)
    return {"duplicate id"}


def odd_ids(draw, folder):
    """Ids that are unique and used throughout, but not such as other programs expect."""
    content = read(folder)
    part = draw(st.sampled_from(["images", "annotations", "categories"]))
    odd = st.integers(-(10**6), 10**20) | st.text(min_size=1, max_size=8) | st.just(10**400)
    number = len(content[part])
    kind = draw(st.sampled_from([odd.filter(lambda x, t=t: isinstance(x, t)) for t in (int, str)]))
    new = draw(st.lists(kind, min_size=number, max_size=number, unique=True))
    ids = {x["id"]: y for x, y in zip(content[part], new, strict=True)}
    for x in content[part]:
        x["id"] = ids[x["id"]]
    field = {"images": "image_id", "categories": "category_id"}.get(part)
    for x in content["annotations"] if field else ():
        x[field] = ids[x[field]]
    write(folder, content)
    return set()


def missing_keys(draw, folder):
    content = read(folder)
    part = draw(st.sampled_from(["images", "annotations", "categories"]))
    fields = {"images": ["id", "file_name", "width", "height"], "categories": ["id", "name"]}
    for entry in draw(st.lists(st.sampled_from(content[part]), min_size=1, max_size=3)):
        entry.pop(draw(st.sampled_from(fields.get(part, ["id", "image_id", "category_id"]))), None)
    write(folder, content)
    return {"missing field"}


def odd_names(draw, folder):
    """Of categories and files; the programs print, draw and log them."""
    content = read(folder)
    texts = st.sampled_from(ODD_TEXTS) | st.text(min_size=1)
    for category in content["categories"]:
        category["name"] = draw(texts)
    if draw(st.booleans()):
        an_entry(draw, content, "images")["file_name"] = draw(texts)
    write(folder, content)
    return set()


def only_crowds(draw, folder):
    content = read(folder)
    kept = draw(st.integers(0, 2))
    for annotation in content["annotations"][kept:]:
        annotation["iscrowd"] = 1
    write(folder, content)
    return set()


# The json as a whole


def random_nodes(draw, folder):
    """Some replaced by any other value, some deleted."""
    content = read(folder)
    for _ in range(draw(st.integers(1, 4))):
        if not (found := places(content)):
            break
        container, key = draw(st.sampled_from(found))
        if draw(st.booleans()):
            container[key] = draw(VALUES)
        else:
            del container[key]
    write(folder, content)
    return set()


def truncated_json(draw, folder):
    text = (folder / "labels.json").read_bytes()
    (folder / "labels.json").write_bytes(text[: draw(st.integers(0, len(text) - 1))])
    return set()


def flipped_json(draw, folder):
    flip(draw, folder / "labels.json")
    return set()


def no_object(draw, folder):
    write(folder, draw(VALUES.filter(lambda x: not isinstance(x, dict))))
    return set()


def deep_nesting(draw, folder):
    """Depths around Python's limit of 1000 and far above."""
    content = read(folder)
    container, key = draw(st.sampled_from(places(content)))
    container[key] = "<deep>"
    depth = draw(st.integers(850, 1000) | st.integers(1, 10**5))
    deep = "[" * depth + "]" * depth if draw(st.booleans()) else '{"a":' * depth + "1" + "}" * depth
    text = json.dumps(content).replace('"<deep>"', deep)
    (folder / "labels.json").write_text(text)
    return set()


def several(draw, folder):
    """A bad file and a bad entry."""
    of_files = draw(st.sampled_from([flipped_bits, truncated_images, no_images]))
    of_entries = draw(st.sampled_from([bad_boxes, unknown_ids, missing_keys]))
    return of_files(draw, folder) | of_entries(draw, folder)


# The number of generated cases of each, 200 in all.
FAULTS: dict[Fault, int] = {
    truncated_images: 12,
    no_images: 10,
    flipped_bits: 16,
    wrong_suffix: 6,
    exif_rotation: 6,
    other_mode: 8,
    long_image: 6,
    other_size: 8,
    bad_boxes: 20,
    segmentation_only: 12,
    unknown_ids: 8,
    duplicate_ids: 8,
    odd_ids: 8,
    missing_keys: 10,
    odd_names: 8,
    only_crowds: 2,
    random_nodes: 26,
    truncated_json: 6,
    flipped_json: 6,
    no_object: 2,
    deep_nesting: 8,
    several: 4,
}
assert sum(FAULTS.values()) == 200
