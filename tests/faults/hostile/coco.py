"""COCO jsons, as training reads them."""

import copy
import json
import os
import random
from pathlib import Path

from detectron2.structures import BoxMode

from hostile import trees
from hostile.bytewise import damaged
from hostile.case import Case
from scopenet.data.coco_json import classes_of
from scopenet.data.custom import load

RLES = (
    *(
        {"size": [60, 90], "counts": [0, 10, 5390]},
        {"size": [60, 90], "counts": "PP1"},
        [],
        [[]],
        [[1]],
    ),
    *({"size": [60, 90], "counts": "0" * 3000}, {"size": [2**31, 2], "counts": "11"}, [[1, 2, 3]]),
    *({"size": [0, 0], "counts": [1]}, {"size": [60, 90], "counts": [-5, 2**40]}, {"size": [60]}),
    *({"size": [60, 90], "counts": [2**32, 2**32]}, {"size": [-1, 90], "counts": [1]}, "PP", 1, {}),
    *({"size": [60, 90], "counts": "oooooo"}, {"size": [60, 90], "counts": "\0"}, [["a"] * 6]),
    *({"size": [60, 90], "counts": []}, {"size": [60, 90], "counts": ""}, {"size": [60, 90]}),
    *({"size": [65535, 65535], "counts": [2**31 - 1] * 9}, {"size": [60, 90], "counts": [1.5]}),
    *(
        {"size": [60, 90], "counts": [True]},
        {"size": [True, 90], "counts": [1]},
        [[float("nan")] * 6],
    ),
    *([[1e308, 1, -1e308, 2, 3, 4]], [[10**400] * 6], {"size": [60, 90], "counts": [10**400]}),
    *({"size": [60, 90], "counts": {"a": 1}}, {"size": "ab", "counts": [1]}, [[[[1]]]], [None]),
)


class CocoJson:
    suffix = ".json"
    packages = frozenset({"encodings", "pycocotools"})
    reads = ()

    def __init__(self, folder: Path):
        images = [{"id": i, "file_name": f"{i}.png", "width": 90, "height": 60} for i in (1, 2, 7)]
        boxes = [[5, 6, 20, 30], [0, 0, 90, 60], [80.5, 50.25, 9, 9], [1, 1, 1, 1]]
        annotations = [
            {"id": i + 1, "image_id": (1, 2, 7, 1)[i], "category_id": i % 2 + 3, "bbox": x,
             "area": x[2] * x[3], "iscrowd": int(i == 3)}
            for i, x in enumerate(boxes)
        ]  # fmt: skip
        outlines = ([[5, 5, 25, 5, 25, 30]], RLES[0], RLES[1])
        for i, x in enumerate(outlines):
            annotations.append({"id": 10 + i, "image_id": 7, "category_id": 3, "segmentation": x})
        categories = [{"id": 3, "name": "red"}, {"id": 4, "name": "green"}]
        self.content = {"images": images, "annotations": annotations, "categories": categories}
        self.sound_file = folder / "sound.json"
        self.sound_file.write_text(json.dumps(self.content))
        self.sound = load(str(self.sound_file), "images")

    def make(self, rng: random.Random) -> Case:
        content, kind = copy.deepcopy(self.content), rng.randrange(10)
        if kind <= 5:
            mutations = [trees.mutate(rng, content) for _ in range(rng.choice((1, 1, 1, 2)))]
            paths = [path for _, path in mutations] if len(mutations) == 1 else None
            return Case(f"node: {mutations[0][0]}", trees.to_json(content), expected=paths)
        if kind == 6:
            i = rng.randrange(4, 7)
            content["annotations"][i]["segmentation"] = rng.choice(RLES)
            return Case("outline", trees.to_json(content), expected=[("annotations", i)])
        if kind == 7:
            return Case("key repeated", trees.repeat_key(rng, trees.to_json(content)))
        if kind == 8:
            text = json.dumps(content)
            odd = (
                f"\ufeff{text}",
                f"{text}{text}",
                text.replace('"', "'"),
                f"[{text}]",
                f"//x\n{text}",
            )
            odd += (
                text.replace(" ", "\0"),
                '{"images":' * 5000,
                text[:-1] + ',"x":' + "[" * 90_000,
            )
            encoding = rng.choice(("utf-8", "utf-16", "utf-32"))
            return Case("text", rng.choice(odd).encode(encoding))
        return Case(*damaged(rng, json.dumps(content).encode()))

    def load(self, path: Path) -> list[dict]:
        return load(str(path), "images")

    def check(self, case: Case, path: Path, dicts: list[dict]) -> None:
        """All can be trained on; what was not mutated is as it was."""
        content = json.loads(path.read_bytes())
        classes = len(classes_of(content))
        names = [os.path.join("images", str(x.get("file_name"))) for x in content["images"]]
        for image in dicts:
            assert image["file_name"] in names
            width, height = image["width"], image["height"]
            for x in image["annotations"]:
                left, top, w, h = x["bbox"]
                assert w > 0 and h > 0 and left >= 0 and top >= 0, x
                assert left + w <= width * (1 + 1e-9) and top + h <= height * (1 + 1e-9), x
                assert 0 <= x["category_id"] < classes and x["iscrowd"] in (0, 1)
                assert x["bbox_mode"] == BoxMode.XYWH_ABS
        if case.expected is not None:
            self._check_untouched(case.expected, dicts)

    def _check_untouched(self, paths: list[tuple], dicts: list[dict]) -> None:
        touched = {path[:2] for path in paths}
        if any(len(x) < 2 or x[0] == "categories" for x in touched):
            return
        found = {x["file_name"]: x for x in dicts}
        if len(found) < len(dicts) or len({x["image_id"] for x in dicts}) < 3:
            return  # the id or name of another image: one of the two is left out
        images = [i for i in range(3) if ("images", i) not in touched]
        for i in images:
            sound, now = self.sound[i], found.get(self.sound[i]["file_name"])
            assert now is not None, sound
            numbers = [k for k, x in enumerate(self.content["annotations"])
                       if x["image_id"] == sound["image_id"] and x["id"] != 12]  # fmt: skip
            for k, annotation in zip(numbers, sound["annotations"], strict=True):
                assert ("annotations", k) in touched or annotation in now["annotations"], annotation
            assert all(now[k] == sound[k] for k in ("width", "height", "image_id"))
