"""Data of one's own: registration by flags and config entries, and training on what is unclean."""

import gc
import json
import logging
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from addresses import put_elsewhere
from builders import spread_out_head
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from miniature import CLASSES, TINY, lazy_overrides, one_thread, write_split
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scopenet import ConfigError, Detector, load_config
from scopenet.analysis.coco_evaluation import evaluate as coco_evaluate
from scopenet.analysis.coco_evaluation import mean_precision
from scopenet.analysis.dataset import read_dataset
from scopenet.analysis.pictures import draw_borders
from scopenet.analysis.run import run_detector
from scopenet.config_file import find_config
from scopenet.data.custom import add_flags, entries_of_flags, is_custom, use_custom_datasets
from scopenet.data.labels import FIELDS, usable_labels
from scopenet.engine.command import main, prepare
from scopenet.engine.evaluator import CocoEvaluator
from scopenet.engine.trainer import Trainer
from scopenet.visualization import draw_beside_ground_truth

pytestmark = pytest.mark.usefixtures("closed_logs")
CONFIG = "OwnData-ScopeNet_R_50_FPN_GN.yaml"
NAMES = [x["name"] for x in CLASSES]


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Leaves the catalogs and the loggers as they were."""
    yield
    forget_custom()
    for logger in map(logging.getLogger, ("detectron2", "fvcore", "scopenet")):
        for handler in [*logger.handlers]:
            logger.removeHandler(handler)
            handler.close()


def forget_custom() -> None:
    for name in filter(is_custom, DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture(scope="module")
def clean_data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    for split, number in (("train", 6), ("val", 3)):
        write_split(folder / f"{split}.json", folder / split, num_images=number)
    return folder


@pytest.fixture
def data(clean_data, tmp_path) -> Path:
    """A copy that may be spoilt."""
    return shutil.copytree(clean_data, tmp_path / "own")


def flags(folder: Path, *splits: str) -> list[str]:
    return [
        x
        for split in splits or ("train", "val")
        for x in (f"--{split}-json", f"{folder / split}.json", f"--{split}-images",
                  str(folder / split))
    ]  # fmt: skip


def job(*arguments: str, config: str = CONFIG):
    parser = add_flags(default_argument_parser())
    return parser.parse_args(["--config-file", find_config(config), *arguments])


def edit(path: Path, change) -> None:
    """``change`` is called with what the json holds."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def message(function, *args, **options) -> str:
    with pytest.raises(ConfigError) as raised:
        function(*args, **options)
    return str(raised.value)


def tiny(output: Path, *more: str) -> list[str]:
    # One channel in each group of GroupNorm would be too few for a feature map of one cell.
    norm = ["MODEL.SCOPENET.NORM", ""]
    return [*TINY, *norm, "TEST.EVAL_PERIOD", "0", "OUTPUT_DIR", str(output), *more]


# Registration


def test_flags_register_and_set_the_class_count(data):
    _, cfg = prepare(job(*flags(data), *TINY))
    assert cfg.DATASETS.TRAIN == ("own_train",) and cfg.DATASETS.TEST == ("own_val",)
    assert cfg.MODEL.SCOPENET.NUM_CLASSES == len(NAMES)
    assert MetadataCatalog.get("own_train").thing_classes == NAMES
    assert len(DatasetCatalog.get("own_val")) == 3


def test_what_was_written_beside_the_checkpoints_needs_no_flags(data, tmp_path):
    _, cfg = prepare(job(*flags(data), *TINY))
    (tmp_path / "config.yaml").write_text(cfg.dump())
    again = load_config(str(tmp_path / "config.yaml"))
    use_custom_datasets(again, {}, training=True)
    assert again.DATASETS == cfg.DATASETS
    assert again.MODEL.SCOPENET == cfg.MODEL.SCOPENET


def test_data_that_have_addresses(data, tmp_path):
    prefix = put_elsewhere(data)
    arguments = [x.replace(f"{data}/", prefix) for x in flags(data)]
    results = main(job(*arguments, *tiny(tmp_path / "out", "SOLVER.MAX_ITER", "1",
                                         "DATALOADER.MAX_UNREADABLE_IMAGES", "0")))  # fmt: skip
    assert results["bbox"]["AP"] >= 0
    assert MetadataCatalog.get("own_train").json_file == f"{prefix}train.json"
    files = [x["file_name"] for x in DatasetCatalog.get("own_val")]
    assert files == [f"{prefix}val/{x:012d}.png" for x in (1, 2, 3)]


@pytest.mark.parametrize(
    "architecture, node", [("ScopeNet", "SCOPENET"), ("RetinaNet", "RETINANET")]
)
def test_config_entries(data, architecture, node):
    entries = [
        {"name": split, "json": str(data / f"{split}.json"), "images": str(data / split)}
        for split in ("train", "val")
    ]
    cfg = load_config(CONFIG, ["DATASETS.CUSTOM", str(entries), "DATASETS.TRAIN", "('train',)",
                               "MODEL.META_ARCHITECTURE", architecture])  # fmt: skip
    use_custom_datasets(cfg, {}, training=True)
    assert cfg.MODEL[node].NUM_CLASSES == len(NAMES)
    assert DatasetCatalog.get("train")[0]["file_name"].startswith(str(data / "train"))


@pytest.mark.parametrize(
    "entry, part",
    [
        ({"name": "x", "json": "y"}, "has name, json, images"),
        ("x", "has name, json, images"),
        ({"name": 3, "json": "y", "images": "z"}, "are text"),
        ({"name": "x", "json": "\0", "images": "."}, "null byte"),
        ({"name": "x", "json": "y", "images": "/nowhere"}, "/nowhere of data set x does not exist"),
    ],
)
def test_malformed_entry(entry, part):
    cfg = load_config(CONFIG, [])
    cfg.DATASETS.CUSTOM = [entry]
    assert part in message(use_custom_datasets, cfg, {}, training=True)


def test_name_of_another_data_set(data):
    cfg = load_config(CONFIG, [])
    files = {"json": str(data / "val.json"), "images": str(data / "val")}
    cfg.DATASETS.CUSTOM = [{"name": "coco_2017_val"} | files]
    assert "already called coco_2017_val" in message(use_custom_datasets, cfg, {}, training=True)


def test_incomplete_flags(data):
    assert "go together" in message(prepare, job("--train-json", "x.json"))
    assert "--train-json and --train-images" in message(prepare, job(*flags(data, "val")))
    assert "nothing to evaluate on" in message(prepare, job("--eval-only"))
    evaluation = job("--eval-only", *flags(data, "train"))
    assert "--val-json and --val-images" in message(prepare, evaluation)


@pytest.mark.parametrize(
    "config, override",
    [
        (CONFIG, ["MODEL.SCOPENET.NUM_CLASSES", "{}"]),
        ("ScopeNet_R_50_FPN_1x.py", ["model.num_classes={}"]),
    ],
)
def test_another_number_of_classes_than_the_jsons_is_refused(data, config, override):
    def given(number: int):
        return job(*flags(data), *(x.format(number) for x in override), config=config)

    text = message(prepare, given(5))
    assert text.startswith(f"{override[0].partition('=')[0]} is 5, but the json has 3 categories")
    prepare(given(3))


@pytest.mark.parametrize(
    "change, part",
    [
        (lambda x: x["categories"].append({"id": 9, "name": "violet"}), "violet only in one"),
        (lambda x: x["categories"].pop(), "blue only in one"),
        (lambda x: x.update(categories=[{"id": 4 - c["id"], "name": c["name"]} for c in CLASSES]),
         "in another order of ids"),
    ],
)  # fmt: skip
def test_splits_with_other_categories_are_refused(data, change, part):
    edit(data / "val.json", change)
    text = message(prepare, job(*flags(data), *TINY))
    assert part in text and "val.json has other categories than" in text


def test_gaps_in_the_ids_and_files_anywhere(data, tmp_path):
    elsewhere = shutil.move(data / "train" / "000000000001.png", tmp_path / "elsewhere.png")
    (data / "train" / "deep").mkdir()
    shutil.move(data / "train" / "000000000002.png", data / "train" / "deep" / "x.png")

    def change(content):
        for x in content["categories"]:
            x["id"] *= 10
        for x in content["annotations"]:
            x["category_id"] *= 10
        content["images"][0]["file_name"] = str(elsewhere)
        content["images"][1]["file_name"] = "deep/x.png"

    before = json.loads((data / "train.json").read_text())["annotations"]
    edit(data / "train.json", change)
    prepare(job(*flags(data, "train"), *TINY))
    dicts = DatasetCatalog.get("own_train")
    assert all(Path(x["file_name"]).is_file() for x in dicts)
    found = [x["category_id"] for sample in dicts for x in sample["annotations"]]
    assert found == [x["category_id"] - 1 for x in before]


def test_no_usable_boxes(data):
    edit(data / "train.json", lambda x: x.update(annotations=[]))
    prepare(job(*flags(data, "train"), *TINY))
    assert "no usable boxes" in message(DatasetCatalog.get, "own_train")


def test_boxes_of_crowds_only(data):
    edit(data / "train.json", lambda x: [y.update(iscrowd=1) for y in x["annotations"]])
    prepare(job(*flags(data, "train"), *TINY))
    assert "of crowds only" in message(DatasetCatalog.get, "own_train")


def test_a_class_without_boxes_in_training_is_named(data, caplog):
    def only_green(content):
        content["annotations"] = [x | {"category_id": 2} for x in content["annotations"]]

    edit(data / "train.json", only_green)
    prepare(job(*flags(data), *TINY))
    DatasetCatalog.get("own_train")
    assert "train.json has no boxes of red, blue." in caplog.text


def test_lazy_config_takes_the_flags(data, tmp_path):
    arguments = [x for x in lazy_overrides(tmp_path) if "names" not in x and "num_classes" not in x]
    lazy = job(*flags(data), *arguments, config="ScopeNet_R_50_FPN_1x.py")
    trainer, cfg = prepare(lazy)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("own_train",), ("own_val",))
    batch = next(iter(trainer.build_labelled_loader(cfg)))
    assert [len(x["instances"]) > 0 for x in batch] == [True, True]
    assert trainer.source_config(cfg).model.num_classes == len(NAMES)
    # Not Detectron2's, to which no detections are nan.
    assert type(trainer.build_evaluator(cfg, "own_val")) is CocoEvaluator


def test_lazy_config_of_one_split_names_no_other(data, tmp_path):
    arguments = [x for x in lazy_overrides(tmp_path) if "names" not in x and "num_classes" not in x]
    for split, extra, expected in (
        ("train", [], (("own_train",), ())),
        ("val", ["--eval-only", "--resume"], ((), ("own_val",))),
    ):
        lazy = job(*extra, *flags(data, split), *arguments, config="ScopeNet_R_50_FPN_1x.py")
        _, cfg = prepare(lazy)
        assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == expected


def test_lazy_config_evaluates_despite_unreadable_images(data, tmp_path, caplog):
    (data / "val" / "000000000002.png").write_bytes(b"")
    arguments = [x for x in lazy_overrides(tmp_path) if "names" not in x and "num_classes" not in x]
    trainer, cfg = prepare(job(*flags(data), *arguments, config="ScopeNet_R_50_FPN_1x.py"))
    samples = [x for batch in trainer.build_test_loader(cfg, "own_val") for x in batch]
    assert [x["image_id"] for x in samples] == [1, 2, 3]
    assert [x["image"].any().item() for x in samples] == [True, False, True]
    assert "000000000002.png cannot be read" in caplog.text
    cfg.DATALOADER.MAX_UNREADABLE_IMAGES = 0
    assert "1 images cannot be read" in message(list, trainer.build_test_loader(cfg, "own_val"))


def test_a_lazy_test_loader_with_a_sampler_is_kept(data, tmp_path):
    arguments = [x for x in lazy_overrides(tmp_path) if "names" not in x and "num_classes" not in x]
    trainer, cfg = prepare(job(*flags(data), *arguments, config="ScopeNet_R_50_FPN_1x.py"))
    trainer.source_config(cfg).dataloader.test.sampler = [2]
    ((sample,),) = trainer.build_test_loader(cfg, "own_val")
    assert sample["image_id"] == 3


def test_a_json_is_read_once_in_a_process(data, tmp_path, monkeypatch):
    read, load = [], json.load
    monkeypatch.setattr(json, "load", lambda f: (read.append(Path(f.name)), load(f))[1])
    ours = [data / "train.json", data / "val.json"]
    schedule = ["SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "1"]
    for k in range(2):
        main(job(*flags(data), *tiny(tmp_path / str(k), *schedule)))
        assert sorted(x for x in read if x in ours) == ours
    edit(ours[1], lambda x: x["images"].pop())
    prepare(job(*flags(data), *TINY))
    assert len(DatasetCatalog.get("own_val")) == 2


def test_what_is_kept_of_a_json_is_not_changed_by_its_users(data):
    expected, nothing_dropped = usable_labels(str(data / "val.json"))
    assert expected["annotations"][0].keys() == {*FIELDS["annotations"]} and not nothing_dropped
    usable_labels(str(data / "val.json"))[0]["annotations"][0]["bbox"].clear()
    assert usable_labels(str(data / "val.json"))[0] == expected
    assert gc.isenabled()


@pytest.fixture
def pretrained(clean_data, tmp_path) -> Path:
    main(job(*flags(clean_data, "train"), *tiny(tmp_path / "first", "SOLVER.MAX_ITER", "1")))
    return tmp_path / "first" / "model_final.pth"


def test_the_trained_detector_knows_its_data_where_they_are(data, tmp_path):
    main(job(*flags(data), *tiny(tmp_path / "out", "SOLVER.MAX_ITER", "1")))
    forget_custom()
    detector = Detector.load(tmp_path / "out")
    assert detector.class_names == NAMES
    assert detector.network.settings.DATASETS.TRAIN == ("own_train",)
    assert len(DatasetCatalog.get("own_train")) == 6
    forget_custom()
    (data / "train.json").unlink()
    assert Detector.load(tmp_path / "out").class_names == NAMES
    assert [x for x in DatasetCatalog.list() if is_custom(x)] == ["own_val"]


def test_the_trained_detector_knows_the_ids_of_its_classes(pretrained, data, tmp_path):
    def with_gaps(content):
        for x in content["categories"]:
            x["id"] = 50 - 10 * x["id"]
        for x in content["annotations"]:
            x["category_id"] = 50 - 10 * x["category_id"]
        content["categories"].reverse()
        for x, name in zip(content["categories"], NAMES, strict=True):
            x["name"] = name

    edit(data / "train.json", with_gaps)
    cfg = load_config(CONFIG, tiny(tmp_path / "out"))
    use_custom_datasets(cfg, entries_of_flags(job(*flags(data, "train"))), training=True)
    detector = Detector.load(cfg, weights=str(pretrained))
    assert detector.class_names == NAMES and detector.category_ids == [20, 30, 40]


# Training


def spoil(data: Path) -> None:
    """One of everything that a training has to survive."""
    for split in ("train", "val"):
        paths = sorted((data / split).iterdir())
        paths[0].write_bytes(paths[0].read_bytes()[:200])
        edit(data / f"{split}.json", spoil_boxes)


def spoil_boxes(content: dict) -> None:
    annotations = content["annotations"]
    good = annotations[-1]
    for fields in (
        {"bbox": [1, 1, float("nan"), 5]},
        {"bbox": [1, 1, 0, 5]},
        {"bbox": [900, 900, 5, 5]},
        {"category_id": 99},
        {"image_id": 99},
        {"id": annotations[0]["id"]},
    ):
        annotations.append(good | {"id": len(annotations) + 1} | fields)
    for x in annotations:
        x.pop("area"), x.pop("iscrowd")


@pytest.fixture
def finished(data, tmp_path):
    spoil(data)
    results = main(job(*flags(data), *tiny(tmp_path / "out", "SOLVER.MAX_ITER", "6",
                                           "TEST.EVAL_PERIOD", "3")))  # fmt: skip
    return tmp_path / "out", results


def test_training_on_unclean_data(finished):
    output, results = finished
    checkpoint = torch.load(output / "model_final.pth", weights_only=True)
    assert all(x.isfinite().all() for x in checkpoint["model"].values())
    assert checkpoint["class_names"] == NAMES
    assert results["bbox"]["AP"] >= 0
    log = (output / "log.txt").read_text()
    assert "1 left out: box with NaN" in log and "1 left out: unknown category id" in log
    assert log.count("These are 1 so far, 10 may be") >= 2  # of either split
    assert "Loss on 2 validation images: loss_cls" in log  # the third one cannot be read

    events = EventAccumulator(str(output))
    events.Reload()
    scalars, images = events.Tags()["scalars"], events.Tags()["images"]
    assert {"validation/total", "validation/cls", "bbox/AP", "bbox/AP-red"} <= set(scalars)
    assert len(images) == 2 and all(x.startswith("validation/") for x in images)
    steps = {k: [x.step for x in events.Scalars(k)] for k in ("validation/total", "bbox/AP")}
    assert steps["validation/total"] == steps["bbox/AP"] == [2, 6]
    assert (output / "model_best.pth").is_file() == (results["bbox"]["AP"] > 0)
    assert ("ends with an AP of 0" in log) == (results["bbox"]["AP"] == 0)
    assert (output / "last_checkpoint").read_text() == "model_final.pth"


def test_as_many_classes_as_lvis_has(tmp_path):
    """1203, nearly all of which no image of the validation set has."""
    categories = [{"id": 2 * k + 1, "name": f"class {k}"} for k in range(1203)]
    for split, seed in (("train", 0), ("val", 1)):
        write_split(
            tmp_path / f"{split}.json", tmp_path / split, num_images=3, categories=categories,
            seed=seed,
        )  # fmt: skip
    # A new detector is unsure of everything, and each of its detections is to count.
    low = ["MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0"]
    metrics = main(job(*flags(tmp_path), *tiny(tmp_path / "out", "SOLVER.MAX_ITER", "2", *low)))
    of_classes = {k: x for k, x in metrics["bbox"].items() if k.startswith("AP-class")}
    assert len(of_classes) == 1203
    present = {
        f"AP-class {(x['category_id'] - 1) // 2}"
        for x in json.loads((tmp_path / "val.json").read_text())["annotations"]
    }
    assert {k for k, x in of_classes.items() if not math.isnan(x)} == present
    assert metrics["bbox"]["AP"] == pytest.approx(np.mean([of_classes[k] for k in present]))
    assert 0 <= metrics["bbox"]["oLRP"] <= 100
    found = json.loads((tmp_path / "out/inference/coco_instances_results.json").read_text())
    assert found and {x["category_id"] % 2 for x in found} == {1}
    assert max(x["category_id"] for x in found) > 2 * 600  # not only of the first classes


@pytest.mark.parametrize("filter_empty, expected", [(None, 4), ("True", 0)])
def test_images_without_objects_are_trained_on(data, tmp_path, filter_empty, expected):
    def empty(content):
        content["annotations"] = [x for x in content["annotations"] if x["image_id"] in (1, 2)]
        crowd = content["annotations"][0] | {"id": 99, "image_id": 3, "iscrowd": 1}
        content["annotations"].append(crowd)

    edit(data / "train.json", empty)
    more = ["SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "6", "SOLVER.BASE_LR", "0.001"]
    more += ["DATALOADER.FILTER_EMPTY_ANNOTATIONS", filter_empty] if filter_empty else []
    main(job(*flags(data, "train"), *tiny(tmp_path / "out", *more)))
    log = (tmp_path / "out" / "log.txt").read_text()
    assert ("4 of 6 images have no objects, and are trained on as such" in log) == (expected > 0)
    assert f"{2 + expected} images to train on" in log
    checkpoint = torch.load(tmp_path / "out" / "model_final.pth", weights_only=True)
    assert all(x.isfinite().all() for x in checkpoint["model"].values())


def test_class_names_that_are_no_formulas_are_drawn(data):
    edit(data / "train.json", lambda x: x["categories"][0].update(name="$^$"))
    prepare(job(*flags(data, "train"), *TINY))
    sample = DatasetCatalog.get("own_train")[0]
    sample["annotations"][0]["category_id"] = 0
    options = {"score_thresh": 0.3, "scale": 1.0}
    picture = draw_beside_ground_truth(sample, _nothing(), "own_train", **options)
    assert picture.shape == (sample["height"], 2 * sample["width"] + 4, 3)


def test_too_many_unreadable_images_stop_the_training(data, tmp_path):
    for path in sorted((data / "train").iterdir())[:3]:
        path.write_bytes(b"")
    limit = ["DATALOADER.MAX_UNREADABLE_IMAGES", "2", "SOLVER.MAX_ITER", "6"]
    text = message(main, job(*flags(data), *tiny(tmp_path / "out", *limit)))
    assert "3 images cannot be read" in text and "DATALOADER.MAX_UNREADABLE_IMAGES" in text


def test_evaluation_without_flags_of_training(pretrained, data, tmp_path):
    results = main(job("--eval-only", *flags(data, "val"),
                       *tiny(tmp_path, "MODEL.WEIGHTS", str(pretrained))))  # fmt: skip
    assert results["bbox"]["AP"] == 0


# Evaluation


def test_a_checkpoint_of_other_classes_is_not_evaluated(pretrained, data, tmp_path):
    edit(data / "val.json", lambda x: x["categories"][0].update(name="pink"))
    evaluation = job("--eval-only", *flags(data, "val"),
                     *tiny(tmp_path, "MODEL.WEIGHTS", str(pretrained)))  # fmt: skip
    assert "of other classes (red, green, blue)" in message(main, evaluation)


def evaluate(data: Path, tmp_path: Path) -> dict:
    """Of a detector that finds nothing."""
    prepare(job(*flags(data), *TINY))
    evaluator = CocoEvaluator("own_val", output_dir=str(tmp_path))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [{"instances": _nothing()}])
    return evaluator.evaluate()["bbox"]


def _nothing() -> Instances:
    return Instances(
        (64, 96),
        pred_boxes=Boxes(torch.zeros(0, 4)),
        scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.long),
    )


def test_no_detections_are_zero_and_a_missing_size_is_not(data, tmp_path, caplog):
    results = evaluate(data, tmp_path)
    assert [results[k] for k in ("AP", "AP50", "AP75", "APm", "AR10", "AR100")] == [0] * 6
    assert np.isnan(results["APl"])  # MAX_SIDE is 48
    assert "Nothing was detected" in caplog.text
    assert "no large objects" in caplog.text or "or large objects" in caplog.text
    present = {x["category_id"] for x in json.loads((data / "val.json").read_text())["annotations"]}
    for x in CLASSES:
        expected = 0 if x["id"] in present else np.nan
        assert results[f"AP-{x['name']}"] == pytest.approx(expected, nan_ok=True)


def test_evaluation_leaves_unusable_ground_truth_out(data, tmp_path):
    number = len(json.loads((data / "val.json").read_text())["annotations"])
    spoil(data)
    prepare(job(*flags(data), *TINY))
    evaluator = CocoEvaluator("own_val", output_dir=str(tmp_path))
    assert len(evaluator._coco_api.anns) == number + 1  # the one that shared an id
    assert all("area" in x for x in evaluator._coco_api.anns.values())


def test_analysis_sees_what_evaluation_sees(data, tmp_path):
    spoil(data)
    everything = ["MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0"]
    _, cfg = prepare(job(*flags(data), *tiny(tmp_path, *everything)))
    torch.manual_seed(1)
    model = build_model(cfg).eval()
    spread_out_head(model, [{"image": torch.randint(256, (3, 64, 96))}])
    torch.save({"model": model.state_dict()}, tmp_path / "x.pth")
    weights = str(tmp_path / "x.pth")
    detector = Detector.load(cfg, weights=weights)
    results = Trainer.test(cfg, detector.network.model)["bbox"]
    run = run_detector(detector, read_dataset("own_val"), "mine")
    assert len(run.dataset.ground_truth) == len(
        usable_labels(str(data / "val.json"))[0]["annotations"]
    )
    found = mean_precision(coco_evaluate(run.dataset, run.detections))
    assert found == pytest.approx(results["AP"] / 100) and found > 0
    assert not draw_borders(run.above(2.0), 1)[:, :1].any()  # it cannot be read
    assert draw_borders(run.above(2.0), 2)[:, :1].any()
    cfg.DATALOADER.MAX_UNREADABLE_IMAGES = 0
    assert "1 images cannot be read" in message(
        run_detector, Detector.load(cfg, weights=weights), run.dataset, "x"
    )


# Fine-tuning


@pytest.mark.parametrize("number", [2, 3])
def test_fine_tuning_starts_the_classifier_anew(pretrained, data, tmp_path, number, caplog):
    def rename(content):
        content["categories"] = [{"id": i + 1, "name": f"new{i}"} for i in range(number)]

    edit(data / "train.json", rename)
    _, cfg = prepare(job(*flags(data, "train"), *tiny(tmp_path / "second", "MODEL.WEIGHTS",
                                                       str(pretrained))))  # fmt: skip
    trainer = Trainer(cfg)
    fresh = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.resume_or_load(resume=False)
    old = torch.load(pretrained, weights_only=True)["model"]
    kept = [k for k, v in trainer.model.state_dict().items() if torch.equal(v, fresh[k])]
    classifier = {k for k in fresh if "cls_score" in k}
    assert len(classifier) == 2 and classifier <= set(kept)
    for name, value in trainer.model.state_dict().items():
        assert name in classifier or torch.equal(value, old[name])
    assert "): cls_score starts anew." in caplog.text
    assert "border deltas, anchors, errors of borders; new: class scores." in caplog.text
    assert "red, green, blue" in caplog.text


def test_weights_without_names_but_another_class_count(pretrained, data, tmp_path, caplog):
    checkpoint = torch.load(pretrained, weights_only=True)
    torch.save({"model": checkpoint["model"]}, tmp_path / "plain.pth")
    edit(data / "train.json", lambda x: x.update(categories=CLASSES[:2]))
    _, cfg = prepare(job(*flags(data, "train"), *tiny(tmp_path / "second", "MODEL.WEIGHTS",
                                                       str(tmp_path / "plain.pth"))))  # fmt: skip
    Trainer(cfg).resume_or_load(resume=False)
    assert "another number of classes: cls_score starts anew." in caplog.text


def test_a_run_does_not_go_on_with_other_classes(pretrained, data):
    edit(data / "train.json", lambda x: x["categories"][0].update(name="pink"))
    _, cfg = prepare(job(*flags(data, "train"), *tiny(pretrained.parent)))
    assert "without --resume" in message(Trainer(cfg).resume_or_load, resume=True)


def test_the_same_classes_are_taken_over(pretrained, data, tmp_path, caplog):
    _, cfg = prepare(job(*flags(data, "train"), *tiny(tmp_path / "second", "MODEL.WEIGHTS",
                                                       str(pretrained))))  # fmt: skip
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    old = torch.load(pretrained, weights_only=True)["model"]
    assert torch.equal(trainer.model.head.cls_score.weight, old["head.cls_score.weight"])
    assert "anew" not in caplog.text
