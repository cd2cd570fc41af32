"""Data sets of a few small images in COCO format, and overrides that make any run on them tiny."""

import argparse
import json
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from detectron2.engine import default_argument_parser
from PIL import Image

from scopenet.config_file import find_config

SHORT, LONG = 64, 96  # px, the sides of every image, so that TINY resizes none
MIN_SIDE, MAX_SIDE = 20, 48  # px, of a box
CLASSES = [{"id": 1, "name": "red"}, {"id": 2, "name": "green"}, {"id": 3, "name": "blue"}]
# The 80 of COCO, with the gaps in their ids.
COCO_CLASSES = [
    {"id": x["id"], "name": x["name"]} for x in COCO_CATEGORIES if x.get("isthing") == 1
]
TRAIN, VAL = "mini_train", "mini_val"  # data set names, see `registered`

TINY_IMAGES = [
    *("INPUT.MIN_SIZE_TRAIN", f"({SHORT},)"),
    *("INPUT.MAX_SIZE_TRAIN", str(LONG)),
    *("INPUT.MIN_SIZE_TEST", str(SHORT)),
    *("INPUT.MAX_SIZE_TEST", str(LONG)),
]
# A ResNet-50 in shape and a hundredth of it in size. Nothing in it looks across images, so that two
# workers with half a batch each compute what one computes.
TINY = [
    *TINY_IMAGES,
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.WEIGHTS", ""),
    *("MODEL.BACKBONE.FREEZE_AT", "0"),
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", "32"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "32"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "32"),
    *("MODEL.RESNETS.NORM", "GN"),
    *("MODEL.FPN.OUT_CHANNELS", "32"),
    *("MODEL.SCOPENET.CONV_DIM", "32"),
    *("MODEL.SCOPENET.NUM_CONVS", "1"),
    *("SOLVER.IMS_PER_BATCH", "2"),
    *("SOLVER.MAX_ITER", "2"),
    *("SOLVER.STEPS", "()"),
    *("DATALOADER.NUM_WORKERS", "0"),
    *("SEED", "0"),
]


def write_split(
    json_path: Path,
    image_dir: Path,
    *,
    num_images: int,
    categories: Sequence[dict] = CLASSES,
    without_boxes: Container[int] = (),
    seed: int = 0,
    suffix: str = ".png",
) -> None:
    """Images, wide and high in turn, with one or two boxes in the colour of their class on noise.

    Args:
        categories: COCO's, with "id" and "name".
        without_boxes: the images, counted from 0, that have none.
        suffix: of the image files, which decides on their format.
    """
    rng = np.random.default_rng(seed)
    json_path.parent.mkdir(parents=True, exist_ok=True)
    image_dir.mkdir(parents=True)
    images, annotations = [], []
    for i in range(num_images):
        height, width = (LONG, SHORT) if i % 2 else (SHORT, LONG)
        pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        file_name = f"{i + 1:012d}{suffix}"
        images.append({"id": i + 1, "file_name": file_name, "height": height, "width": width})
        for _ in range(0 if i in without_boxes else rng.integers(1, 3)):
            k = int(rng.integers(len(categories)))
            w, h = (int(x) for x in rng.integers(MIN_SIDE, MAX_SIDE + 1, 2))
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            pixels[y : y + h, x : x + w] = colour(k)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i + 1,
                    "category_id": categories[k]["id"],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
        Image.fromarray(pixels).save(image_dir / file_name)
    content = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": list(categories),
    }
    json_path.write_text(json.dumps(content))


def colour(k: int) -> np.ndarray:
    """A bright RGB colour, another for every class ``k``."""
    return np.roll([255, 40 + 2 * k, 40 + 2 * k], k).astype(np.uint8)


def write_coco(root: Path, *, num_images: int = 4) -> None:
    """COCO's own layout below ``root``, with its 80 categories, and the same images in the two
    splits."""
    for split in ("train2017", "val2017"):
        write_split(
            root / f"coco/annotations/instances_{split}.json",
            root / "coco" / split,
            num_images=num_images,
            categories=COCO_CLASSES,
            suffix=".jpg",
        )


@contextmanager
def one_thread() -> Iterator[None]:
    """For networks as small as TINY: several threads would mostly wait, for each other and, on a
    busy machine, for a processor."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def registered(names_to_files: dict[str, tuple[Path, Path]]) -> Iterator[None]:
    """Data sets known to Detectron2 for a while, in place of others of the same names.

    Args:
        names_to_files: name -> (json, folder of the images).
    """
    catalogs = (DatasetCatalog, MetadataCatalog)
    before = [{k: c.pop(k) for k in names_to_files if k in c} for c in catalogs]
    for name, (json_path, image_dir) in names_to_files.items():
        register_coco_instances(name, {}, str(json_path), str(image_dir))
    try:
        yield
    finally:
        for catalog, entries in zip(catalogs, before, strict=True):
            for name in names_to_files:
                catalog.pop(name)
            catalog.update(entries)


@contextmanager
def mini_datasets(folder: Path, *, num_images: int = 8, **options) -> Iterator[None]:
    """``TRAIN`` and ``VAL``, written to ``folder`` and registered.

    Args:
        options: of :func:`write_split`, for the training set.
    """
    files = {name: (folder / f"{name}.json", folder / name) for name in (TRAIN, VAL)}
    write_split(*files[TRAIN], num_images=num_images, **options)
    write_split(*files[VAL], num_images=num_images // 2, seed=1)
    with registered(files):
        yield


def write_photos(folder: Path, count: int, *, damaged: int) -> None:
    """Write `000.png`, `001.png`, ... into a new folder: a validation image of
    :func:`mini_datasets`, which are in the folder above, upright and turned; one is damaged."""
    folder.mkdir()
    photo = np.asarray(Image.open(folder.parent / VAL / "000000000001.png"))
    for i in range(count):
        Image.fromarray(np.rot90(photo, i) if i % 3 else photo).save(folder / f"{i:03d}.png")
    (folder / f"{damaged:03d}.png").write_bytes(b"no image")


def mini_overrides(output_dir: Path, *more: str) -> list[str]:
    """A tiny run of a YAML config on the data of :func:`mini_datasets`; ``more`` comes last."""
    return [
        *TINY,
        *("DATASETS.TRAIN", f"('{TRAIN}',)"),
        *("DATASETS.TEST", f"('{VAL}',)"),
        *("MODEL.SCOPENET.NUM_CLASSES", str(len(CLASSES))),
        *("OUTPUT_DIR", str(output_dir)),
        *more,
    ]


def lazy_overrides(output_dir: Path, *more: str) -> list[str]:
    """The same of a LazyConfig, without making its network small."""
    return [
        f"model.num_classes={len(CLASSES)}",
        f"dataloader.train.dataset.names={TRAIN}",
        f"dataloader.train.mapper.augmentations.0.short_edge_length={SHORT}",
        "dataloader.train.total_batch_size=2",
        "dataloader.train.num_workers=0",
        f"dataloader.test.dataset.names={VAL}",
        f"dataloader.test.mapper.augmentations.0.short_edge_length={SHORT}",
        "dataloader.test.num_workers=0",
        "train.device=cpu",
        "train.init_checkpoint=''",
        "train.max_iter=2",
        f"train.output_dir={output_dir}",
        *more,
    ]


def job(config_file: str, *arguments: str) -> argparse.Namespace:
    """The arguments of train_net.py; ``config_file`` is below the project's configs."""
    argv = ["--config-file", find_config(config_file), *arguments]
    return default_argument_parser().parse_args(argv)
