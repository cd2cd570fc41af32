"""A COCO json of any size, without image files; as a program, write one:

python tests/made_up_json.py big.json 118000 860000 80
"""

import json
import sys
from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 640, 480  # px, of every other image; the others are as wide as these are high


def write_json_without_images(
    path: Path, num_images: int, num_annotations: int, num_classes: int, seed: int = 0
) -> None:
    """Write boxes of random images and classes, one in a hundred of a crowd."""
    rng = np.random.default_rng(seed)
    images = [
        {
            "id": i + 1,
            "file_name": f"{i + 1:012d}.jpg",
            "width": (WIDTH, HEIGHT)[i % 2],
            "height": (HEIGHT, WIDTH)[i % 2],
        }
        for i in range(num_images)
    ]
    sides = rng.uniform(5, 200, (num_annotations, 2)).round(2)
    corners = rng.uniform(0, HEIGHT - 200, (num_annotations, 2)).round(2)
    annotations = [
        {
            "id": i + 1,
            "image_id": image + 1,
            "category_id": category + 1,
            "bbox": [*corner, *side],
            "area": side[0] * side[1],
            "iscrowd": int(i % 100 == 99),
        }
        for i, (image, category, corner, side) in enumerate(
            zip(
                rng.integers(num_images, size=num_annotations).tolist(),
                rng.integers(num_classes, size=num_annotations).tolist(),
                corners.tolist(),
                sides.tolist(),
                strict=True,
            )
        )
    ]
    categories = [{"id": k + 1, "name": f"class {k + 1}"} for k in range(num_classes)]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(content))


if __name__ == "__main__":
    write_json_without_images(Path(sys.argv[1]), *map(int, sys.argv[2:]))
