"""Register the built-in data sets with Detectron2."""

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from .coco_split import dataset_root
from .digits import CLASS_NAMES as DIGITS

CLASS_NAMES = {"digits": DIGITS, "trees": ("tree",)}


def register_builtin_datasets() -> None:
    """Register `digits_train`, `digits_val`, `trees_train` and `trees_val`.

    Their files are looked for under `dataset_root()` as it is now, when they are used; they need
    not exist yet. Calling this again changes nothing.
    """
    for dataset, class_names in CLASS_NAMES.items():
        for split in ("train", "val"):
            name = f"{dataset}_{split}"
            if name in DatasetCatalog:
                continue
            folder = dataset_root() / dataset
            json_file = folder / "annotations" / f"instances_{split}.json"
            register_coco_instances(name, {}, str(json_file), str(folder / split))
            # Known before the json is read: a model can be built and drawn with without the data.
            MetadataCatalog.get(name).thing_classes = list(class_names)
