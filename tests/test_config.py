"""Configs: every file builds its model, and a mistake is answered by one sentence."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.config import CfgNode, LazyCall, get_cfg, instantiate
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog, samplers
from detectron2.data.datasets import register_coco_instances
from detectron2.modeling import build_model
from miniature import (
    CLASSES,
    COCO_CLASSES,
    TINY,
    TRAIN,
    VAL,
    job,
    lazy_overrides,
    mini_datasets,
    registered,
    write_split,
)
from omegaconf import ListConfig

import scopenet.config_file
from scopenet import ConfigError, add_scopenet_config, load_config
from scopenet.config_file import (
    all_keys,
    config_dir,
    find_config,
    load_lazy_config,
    override,
    settings_of,
)
from scopenet.engine.checks import (
    check_config,
    check_datasets,
    check_ignored_lazy_keys,
    check_num_classes,
    check_weights,
)
from scopenet.engine.command import prepare
from scopenet.engine.lazy import trainer_for
from scopenet.engine.precision import build_step_trainer
from scopenet.engine.trainer import Trainer

# Presets are parts of configs; tests/test_experiments.py builds models with them.
YAML_FILES = [f for f in sorted(config_dir().rglob("*.yaml")) if f.parent.name != "presets"]
LAZY_FILES = [f for f in sorted(config_dir().rglob("*.py")) if f.name != "__init__.py"]
ONE_X = "ScopeNet_R_50_FPN_1x.yaml"


def name(path: Path) -> str:
    return str(path.relative_to(config_dir()))


def message(load, *arguments, **options) -> str:
    """That of the ConfigError which the call ends with: one line, one sentence."""
    with pytest.raises(ConfigError) as caught:
        load(*arguments, **options)
    text = str(caught.value)
    assert len(text.splitlines()) == 1 and text[-1] in ".?" and text[-2] not in ".?"
    return text


def write_yaml(path: Path, text: str) -> str:
    path.write_text(f"VERSION: 2\n{text}")
    return str(path)


# The files of the project.


def test_there_are_configs():
    assert {name(f) for f in YAML_FILES} >= {"Base-ScopeNet.yaml", ONE_X}
    assert {name(f) for f in LAZY_FILES} >= {"ScopeNet_R_50_FPN_1x.py"}


@pytest.mark.parametrize("path", YAML_FILES, ids=name)
def test_yaml_file_builds_its_model(path):
    cfg = load_config(str(path), ["MODEL.WEIGHTS", "", "MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    by_flags = path.stem.startswith("OwnData")  # there are no data sets in the file
    for names in (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST):
        assert bool(names) != by_flags and set(names) <= set(DatasetCatalog.list())
    assert all(step < cfg.SOLVER.MAX_ITER for step in cfg.SOLVER.STEPS)
    build_step_trainer(cfg, model, None, None)  # knows the precision
    if cfg.MODEL.META_ARCHITECTURE == "ScopeNet":
        assert_is_built_as_configured(model, cfg)


def assert_is_built_as_configured(model, cfg) -> None:
    node = cfg.MODEL.SCOPENET
    shapes = model.backbone.output_shape()
    assert model.head_in_features == node.IN_FEATURES
    assert model.strides == [shapes[name].stride for name in node.IN_FEATURES]
    assert model.head.cls_score.out_channels == model.num_classes == node.NUM_CLASSES
    assert model.head.border_pred.out_channels == 4 * node.NUM_BINS
    assert model.bin_edges.shape == (len(node.IN_FEATURES), node.NUM_BINS + 1)
    assert model.head.cls_score.in_channels == node.CONV_DIM
    # What the checks at start-up would refuse must not be in the project's own files.
    check_config_without_data(cfg)


def check_config_without_data(cfg) -> None:
    cfg = cfg.clone()
    cfg.DATASETS.TEST = ()
    check_config(cfg, training=False)


@pytest.mark.parametrize("path", YAML_FILES, ids=name)
def test_class_count_of_yaml_file(path):
    cfg = load_config(str(path))
    node = {"ScopeNet": "SCOPENET", "RetinaNet": "RETINANET"}[cfg.MODEL.META_ARCHITECTURE]
    for dataset in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        classes = MetadataCatalog.get(dataset).get("thing_classes")
        assert len(classes) == cfg.MODEL[node].NUM_CLASSES


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f, marks=pytest.mark.slow if f.parent.name == "backbones" else ())
        for f in LAZY_FILES
    ],
    ids=name,
)
def test_lazy_file_builds_its_model(path):
    lazy = load_lazy_config(str(path), ["train.device=cpu"])
    model = instantiate(lazy.model)
    cfg = settings_of(lazy)
    assert type(model).__name__ == cfg.MODEL.META_ARCHITECTURE
    assert cfg.DATASETS.TRAIN and set(cfg.DATASETS.TRAIN) <= set(DatasetCatalog.list())
    assert cfg.DATASETS.TEST and set(cfg.DATASETS.TEST) <= set(DatasetCatalog.list())
    classes = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes")
    assert len(classes) == lazy.model.num_classes
    trainer = trainer_for(lazy)
    optimizer = trainer.build_optimizer(cfg, model)
    scheduler = trainer.build_lr_scheduler(cfg, optimizer)
    assert 0 < scheduler.get_last_lr()[0] < lazy.optimizer.lr  # warms up


def leaves(node: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in node.items():
        is_node = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{key}.") if is_node else {f"{prefix}{key}": value}
    return found


DERIVED_FILES = [f for f in YAML_FILES if "_BASE_" in f.read_text()]


@pytest.mark.parametrize("path", DERIVED_FILES, ids=name)
def test_derived_file_holds_only_differences(path):
    own = leaves(yaml.safe_load(path.read_text()))
    base = leaves(CfgNode.load_yaml_with_base(str(path.parent / own.pop("_BASE_"))))
    assert [key for key, value in own.items() if key in base and base[key] == value] == []


@pytest.fixture(scope="module")
def twins():
    """The 1x model from YAML and from the LazyConfig, each with its trainer class and config."""
    cfg = load_config(ONE_X, ["MODEL.DEVICE", "cpu"])
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", ["train.device=cpu"])
    return [
        (trainer, settings, trainer.build_model(settings))
        for trainer, settings in ((trainer_for(x), settings_of(x)) for x in (cfg, lazy))
    ]


def test_yaml_and_lazy_config_are_the_same_network(twins):
    (_, _, model), (_, _, lazy_model) = twins
    shapes, lazy_shapes = [
        {name: tuple(x.shape) for name, x in m.state_dict().items()} for m in (model, lazy_model)
    ]
    assert lazy_shapes == shapes
    assert repr(lazy_model) == repr(model)  # kernel sizes, strides, norms, ...
    frozen, lazy_frozen = [
        {name for name, x in m.named_parameters() if not x.requires_grad}
        for m in (model, lazy_model)
    ]
    assert lazy_frozen == frozen != set()
    buffers, lazy_buffers = dict(model.named_buffers()), dict(lazy_model.named_buffers())
    assert lazy_buffers.keys() == buffers.keys()
    assert all(torch.equal(lazy_buffers[name], buffers[name]) for name in buffers)


def test_yaml_and_lazy_config_have_the_same_settings(twins):
    (_, _, model), (_, _, lazy_model) = twins

    def settings(model) -> dict:
        plain = {k: v for k, v in vars(model).items() if isinstance(v, (bool, int, float, str))}
        sequences = (Sequence, ListConfig)
        lists = {k: list(v) for k, v in vars(model).items() if isinstance(v, sequences)}
        return lists | plain

    assert len(settings(model)) > 15
    assert settings(lazy_model) == settings(model)
    bias, lazy_bias = model.head.cls_score.bias, lazy_model.head.cls_score.bias
    assert torch.equal(lazy_bias, bias)  # the prior probability


def test_yaml_and_lazy_config_train_alike(twins):
    (_, cfg, _), (_, lazy_cfg, _) = twins
    for key in ("MAX_ITER", "IMS_PER_BATCH", "CLIP_GRADIENTS", "CHECKPOINT_PERIOD"):
        assert lazy_cfg.SOLVER[key] == cfg.SOLVER[key], key
    assert lazy_cfg.DATASETS == cfg.DATASETS
    assert lazy_cfg.MODEL.WEIGHTS == cfg.MODEL.WEIGHTS != ""
    assert lazy_cfg.SEED == cfg.SEED


def group_settings(optimizer) -> list[dict]:
    # "foreach" says how the step is computed, not what.
    others = {"params", "foreach"}
    return [{k: v for k, v in g.items() if k not in others} for g in optimizer.param_groups]


def test_yaml_and_lazy_config_have_the_same_optimizer(twins):
    learning_rates = []
    for trainer, cfg, model in twins:
        optimizer = trainer.build_optimizer(cfg, model)
        names = {id(p): n for n, p in model.named_parameters()}
        by_name = {
            names[id(p)]: settings
            for group, settings in zip(
                optimizer.param_groups, group_settings(optimizer), strict=True
            )
            for p in group["params"]
        }
        scheduler = trainer.build_lr_scheduler(cfg, optimizer)
        where = [0, 1, 500, 999, 1000, 59_999, 60_001, 79_999, 80_001, 89_999]
        rates = []
        for scheduler.last_epoch in where:
            rates.append(scheduler.get_lr()[0])
        learning_rates.append((by_name, rates))
    (by_name, rates), (lazy_by_name, lazy_rates) = learning_rates
    assert lazy_by_name == by_name
    assert lazy_rates == pytest.approx(rates)
    assert rates[4:] == pytest.approx([0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def describe(mapper: DatasetMapper) -> list:
    """The augmentations; how a side length is chosen matters only where there are several."""
    found = [(type(x), dict(vars(x))) for x in mapper.augmentations.augs]
    for _, settings in found:
        lengths = set(settings.get("short_edge_length", ()))
        if len(lengths) == 1:
            settings |= {"short_edge_length": lengths, "sample_style": None, "is_range": None}
    return found


def test_yaml_and_lazy_config_see_the_same_images(twins):
    cfg = twins[0][1]
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", [])
    for is_train, lazy_mapper in (
        (True, lazy.dataloader.train.mapper),
        (False, lazy.dataloader.test.mapper),
    ):
        mapper, lazy_mapper = DatasetMapper(cfg, is_train=is_train), instantiate(lazy_mapper)
        assert describe(lazy_mapper) == describe(mapper)
        assert lazy_mapper.image_format == mapper.image_format
        assert lazy_mapper.use_instance_mask == mapper.use_instance_mask
        assert lazy_mapper.is_train == is_train


# Where config files are found.


def test_file_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (f"configs/{ONE_X}", ONE_X):
        assert Path(find_config(path)) == config_dir() / ONE_X
    own = tmp_path / "configs" / ONE_X
    own.parent.mkdir()
    own.write_text("SEED: 7\n")
    assert Path(find_config(f"configs/{ONE_X}")).samefile(own)
    assert load_config(f"configs/{ONE_X}").SEED == 7


def test_missing_file(tmp_path):
    text = message(load_config, "configs/ScopeNet_R_51.yaml")
    assert "configs/ScopeNet_R_51.yaml does not exist" in text and str(config_dir()) in text
    assert "nowhere.py" in message(load_lazy_config, "nowhere.py", [])


def test_installed_package_has_its_own_configs(tmp_path, monkeypatch):
    package = tmp_path / "site-packages" / "scopenet"
    package.mkdir(parents=True)
    monkeypatch.setattr(scopenet.config_file, "__file__", str(package / "config.py"))
    assert config_dir() == package.parent / "configs"  # as in a clone
    (package / "configs" / "peers").mkdir(parents=True)
    (package / "configs" / "peers" / "x.yaml").write_text("SEED: 5\n")
    assert config_dir() == package / "configs"
    monkeypatch.chdir(tmp_path)
    assert load_config("configs/peers/x.yaml").SEED == 5


# What is in a file or an override.


def test_yaml_that_runs_code(tmp_path):
    marker = tmp_path / "executed"
    text = f"SEED: !!python/object/apply:os.system ['touch {marker}']\n"
    path = write_yaml(tmp_path / "hostile.yaml", text)
    derived = write_yaml(tmp_path / "derived.yaml", "_BASE_: hostile.yaml\n")
    for hostile in (path, derived):
        found = message(load_config, hostile)
        assert hostile in found and "python/object/apply:os.system" in found
    assert not marker.exists()
    get_cfg().load_yaml_with_base(path, allow_unsafe=True)
    assert marker.exists()  # so the file is as hostile as it is meant to be


def test_override_that_runs_code(tmp_path):
    code = f"__import__('os').system('touch {tmp_path / 'executed'}')"
    assert load_config("", ["MODEL.WEIGHTS", code]).MODEL.WEIGHTS == code
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "text",
    ["", "- 1\n", "just text", "MODEL: [1", "MODEL:\n\tX: 1", "\x00", "1: 2", "_BASE_: x.yaml"],
)
def test_malformed_yaml(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert str(path) in message(load_config, str(path))


def test_base_that_does_not_exist(tmp_path):
    path = write_yaml(tmp_path / "x.yaml", "_BASE_: nowhere.yaml\n")
    assert "nowhere.yaml" in message(load_config, path)


@pytest.mark.parametrize(
    "key, near",
    [
        ("MODEL.SCOPENET.NUM_CLASES", "MODEL.SCOPENET.NUM_CLASSES"),
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("SOLVER.IMGS_PER_BATCH", "SOLVER.IMS_PER_BATCH"),
        ("MODEL.SCOPENET.TOPK_CANDIDATES", "MODEL.SCOPENET.TOPK_CANDIDATES_TEST"),
    ],
)
def test_unknown_key(tmp_path, key, near):
    expected = f"did you mean {near}?"
    assert f"Unknown key {key} in the overrides, {expected}" == message(load_config, "", [key, "1"])
    *nodes, leaf = key.split(".")
    lines = [f"{'  ' * i}{node}:" for i, node in enumerate(nodes)]
    path = write_yaml(tmp_path / "x.yaml", "\n".join([*lines, f"{'  ' * len(nodes)}{leaf}: 1"]))
    found = message(load_config, path)
    assert f"Unknown key {key} " in found and path in found and expected in found


def test_unknown_key_like_no_other():
    assert message(load_config, "", ["FOO", "1"]) == "Unknown key FOO in the overrides."


@pytest.mark.parametrize(
    "key, value",
    [
        ("SOLVER.BASE_LR", "fast"),
        ("SEED", "1.5"),
        ("MODEL.SCOPENET.NUM_CLASSES", "many"),
        ("MODEL.SCOPENET.UNCERTAINTY", "perhaps"),
        ("DATASETS.TRAIN", "coco_2017_train"),
        ("SOLVER", "1"),
    ],
)
def test_wrong_type(tmp_path, key, value):
    found = message(load_config, "", [key, value])
    assert key in found and value in found
    *nodes, leaf = key.split(".")
    text = f"{leaf}: {value}" if not nodes else f"{{{leaf}: {value}}}"
    for node in reversed(nodes):
        text = f"{node}: {text}" if node == nodes[0] else f"{{{node}: {text}}}"
    path = write_yaml(tmp_path / "x.yaml", text)
    found = message(load_config, path)
    assert key in found and path in found


def test_key_of_a_number():
    assert "overrides" in message(load_config, "", ["SEED.X", "1"])


def test_odd_overrides():
    assert "['SEED']" in message(load_config, ONE_X, ["SEED"])


def test_overrides_win_and_last_one_counts():
    cfg = load_config(ONE_X, ["SOLVER.BASE_LR", "0.5", "SOLVER.BASE_LR", "0.25"])
    assert cfg.SOLVER.BASE_LR == 0.25 and cfg.MODEL.RESNETS.DEPTH == 50


def test_overrides_are_left_as_they_are():
    overrides = ["SEED", "3"]
    load_config("", overrides)
    assert overrides == ["SEED", "3"]


@pytest.mark.parametrize("override", ["train.max_itr=5", "train.max_iter", "+train.x=1", "x=1"])
def test_lazy_override_of_an_unknown_key(override):
    found = message(load_lazy_config, "ScopeNet_R_50_FPN_1x.py", ["train.seed=1", override])
    assert override in found


def test_misspelled_lazy_override_gets_a_suggestion():
    found = message(load_lazy_config, "ScopeNet_R_50_FPN_1x.py", ["model.num_bin=3"])
    assert found.endswith("ScopeNet_R_50_FPN_1x.py, did you mean model.num_bins?")


def test_missing_config_file():
    args = job(ONE_X)
    args.config_file = ""
    assert "No config is given" in message(prepare, args)


def test_lazy_overrides():
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", ["train.max_iter=5", "model.num_bins=3"])
    assert settings_of(lazy).SOLVER.MAX_ITER == 5
    assert lazy.model.head.num_bins == 3


@pytest.mark.parametrize("has_cuda", [True, False])
def test_device(monkeypatch, tmp_path, has_cuda):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    expected = "cuda" if has_cuda else "cpu"
    assert load_config(ONE_X).MODEL.DEVICE == expected
    assert settings_of(load_lazy_config("ScopeNet_R_50_FPN_1x.py", [])).MODEL.DEVICE == expected
    # A device that is named is taken.
    assert load_config(ONE_X, ["MODEL.DEVICE", "cpu"]).MODEL.DEVICE == "cpu"
    path = write_yaml(tmp_path / "x.yaml", "MODEL: {DEVICE: 'cuda:1'}\n")
    assert load_config(path).MODEL.DEVICE == "cuda:1"


def test_keys_that_are_added():
    cfg = get_cfg()
    before = all_keys(cfg)
    add_scopenet_config(cfg)
    names = """IN_FEATURES NUM_CLASSES NUM_CONVS CONV_DIM NORM PRIOR_PROB NUM_BINS BIN_SIZE
        LEVEL_BOUNDARIES UNCERTAINTY GUIDED_SCORE CENTER_RADIUS_CLS CENTER_RADIUS_LOC
        FOCAL_LOSS_ALPHA FOCAL_LOSS_GAMMA BIN_LOSS_WEIGHT LOC_LOSS_WEIGHT LOC_LOSS_TYPE
        SCORE_THRESH_TEST TOPK_CANDIDATES_TEST NMS_THRESH_TEST DECODING
        BORDER_ERRORS SEPARABLE"""
    own = [f"MODEL.SCOPENET.{name}" for name in names.split()]
    own += ["SOLVER.AMP.PRECISION", "SOLVER.MAX_SKIPPED_ITERATIONS", "DATASETS.CUSTOM"]
    own += ["DATALOADER.MAX_UNREADABLE_IMAGES", "SOLVER.EPOCHS", "MODEL.FREEZE"]
    own += ["INPUT.COLOR_JITTER", "INPUT.LARGE_SCALE_JITTER", "SOLVER.ACCUMULATION"]
    own += ["SOLVER.EMA.ENABLED", "SOLVER.EMA.DECAY", "TEST.EARLY_STOPPING", "TRACKERS"]
    own += ["MODEL.TIMM.NAME", "MODEL.TIMM.FREEZE_NORMS"]
    assert sorted(all_keys(cfg)) == sorted([*before, *own])


# The checks at start-up.


@pytest.mark.parametrize("node", ["ROI_HEADS", "RETINANET"])
@pytest.mark.parametrize("key, value", [("NUM_CLASSES", 3), ("SCORE_THRESH_TEST", 0.5)])
def test_key_of_another_detector(node, key, value):
    cfg = load_config(ONE_X, [f"MODEL.{node}.{key}", str(value)])
    found = message(check_config, cfg, training=False)
    assert f"MODEL.{node}.{key} has no effect" in found
    assert f"set MODEL.SCOPENET.{key} instead" in found


@pytest.mark.parametrize(
    "key, value", [("RETINANET.BBOX_REG_LOSS_TYPE", "giou"), ("ROI_HEADS.IOU_THRESHOLDS", "[0.6]")]
)
def test_key_of_another_detector_without_counterpart(key, value):
    found = message(check_config, load_config(ONE_X, [f"MODEL.{key}", value]), training=False)
    assert found == f"MODEL.{key} has no effect on ScopeNet; remove it."


def test_other_detectors_may_use_their_keys():
    overrides = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.1"]
    check_config(load_config("", overrides), training=False)


@pytest.fixture
def data(tmp_path):
    with mini_datasets(tmp_path / "data"):
        yield tmp_path / "data"


def mini_config(*more: str):
    names = ["DATASETS.TRAIN", f"('{TRAIN}',)", "DATASETS.TEST", f"('{VAL}',)"]
    return load_config(ONE_X, [*names, "MODEL.SCOPENET.NUM_CLASSES", str(len(CLASSES)), *more])


@pytest.mark.parametrize("training", [True, False])
def test_class_count(data, training):
    check_config(mini_config(), training=training)
    cfg = mini_config("MODEL.SCOPENET.NUM_CLASSES", "80")
    found = message(check_config, cfg, training=training)
    assert "MODEL.SCOPENET.NUM_CLASSES is 80" in found
    assert f"data set {TRAIN if training else VAL} has 3 classes" in found
    assert "set MODEL.SCOPENET.NUM_CLASSES to 3" in found


def test_class_count_of_the_other_data_set(data, tmp_path):
    files = tmp_path / "other.json", tmp_path / "other"
    write_split(*files, num_images=1, categories=COCO_CLASSES)
    with registered({"other": files}):
        cfg = mini_config("DATASETS.TEST", "('other',)")
        assert "other has 80 classes" in message(check_config, cfg, training=True)
        check_num_classes("key", 80, ("other",))


def test_class_count_of_a_retinanet(data):
    cfg = mini_config("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", "5")
    assert "set MODEL.RETINANET.NUM_CLASSES to 3" in message(check_config, cfg, training=True)


def test_class_count_of_a_lazy_config(data):
    overrides = [f"dataloader.train.dataset.names={TRAIN}", f"dataloader.test.dataset.names={VAL}"]
    weights = "train.init_checkpoint=''"
    args = job("ScopeNet_R_50_FPN_1x.py", *overrides, weights)
    assert "set model.num_classes to 3" in message(prepare, args)
    prepare(job("ScopeNet_R_50_FPN_1x.py", *overrides, weights, "model.num_classes=3"))


@pytest.mark.parametrize(
    "wrong, near", [("coco_2017_trian", "coco_2017_train"), ("mini_vall", VAL)]
)
def test_data_set_that_is_not_registered(data, wrong, near):
    found = message(check_datasets, (TRAIN, wrong))
    assert found == f"Data set {wrong} in DATASETS is not registered; did you mean {near}?"


def test_data_set_like_no_other():
    found = message(check_datasets, ("xyzzy",))
    assert found == "Data set xyzzy in DATASETS is not registered; register it first."


def test_training_needs_a_data_set():
    cfg = load_config(ONE_X, ["DATASETS.TRAIN", "()"])
    assert "DATASETS.TRAIN is empty" in message(check_config, cfg, training=True)


@pytest.mark.parametrize(
    "dataset, how",
    [
        ("coco_2017_val", "DETECTRON2_DATASETS"),
        ("digits_val", "python datasets/prepare_digits.py"),
        ("trees_val", "python datasets/prepare_trees.py"),
    ],
)
def test_files_that_are_missing(dataset, how):
    # Nothing exists below the folder that conftest.py names.
    json_path = MetadataCatalog.get(dataset).json_file
    found = message(check_datasets, (dataset,))
    assert f"Data set {dataset}: {json_path} does not exist" in found and how in found


def test_image_folder_that_is_missing(data):
    json_path, image_dir = data / f"{TRAIN}.json", data / "nowhere"
    register_coco_instances("digits_mine", {}, str(json_path), str(image_dir))
    try:
        found = message(check_datasets, ("digits_mine",))
    finally:
        DatasetCatalog.remove("digits_mine")
        MetadataCatalog.remove("digits_mine")
    assert f"{image_dir} does not exist" in found and "prepare_digits.py" in found


def test_weights(tmp_path):
    path = tmp_path / "x.pth"
    assert str(path) in message(check_weights, str(path))
    path.touch()
    check_weights(str(path))
    check_weights(f"{path}?matching_heuristics=True")
    check_weights("detectron2://ImageNetPretrained/MSRA/R-50.pkl")
    check_weights("")


def test_eval_only_needs_weights_and_no_training_set(data):
    overrides = ["DATASETS.TRAIN", "()", "DATASETS.TEST", f"('{VAL}',)", "MODEL.WEIGHTS", ""]
    overrides += ["MODEL.SCOPENET.NUM_CLASSES", "3"]
    assert "--eval-only needs weights" in message(prepare, job(ONE_X, "--eval-only", *overrides))
    prepare(job(ONE_X, "--eval-only", "--resume", *overrides))


@pytest.mark.parametrize(
    "overrides, problem",
    [
        (["MODEL.SCOPENET.CENTER_RADIUS_CLS", "3.0"], "CENTER_RADIUS_CLS <= CENTER_RADIUS_LOC"),
        (["MODEL.SCOPENET.LEVEL_BOUNDARIES", "[64, 32, 128, 256]"], "must be positive and rise"),
        (["MODEL.SCOPENET.NORM", "BN"], "would mix statistics"),
        (["MODEL.SCOPENET.NORM", "XX"], 'NORM "XX" is none of'),
        (["MODEL.SCOPENET.PRIOR_PROB", "0.0"], "PRIOR_PROB must be between 0 and 1"),
        (["MODEL.SCOPENET.NUM_CONVS", "-1"], "are counts, got -1, 32 and 80"),
        (["MODEL.SCOPENET.CONV_DIM", "0"], "are counts, got 1, 0 and 80"),
        (["MODEL.SCOPENET.IN_FEATURES", "['p9']"], "there is no 'p9' here"),
    ],
)
def test_values_out_of_range_are_a_sentence(overrides, problem):
    cfg = load_config(ONE_X, [*TINY, *overrides])
    found = message(Trainer.build_model, cfg)
    assert found.startswith("The config makes no model: ") and problem in found


def test_values_out_of_range_in_a_lazy_config():
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", [])
    lazy.model.bin_size = 0
    assert "NUM_BINS and BIN_SIZE" in message(trainer_for(lazy).build_model, settings_of(lazy))
    lazy.model.head.norm = "XX"
    assert 'NORM "XX"' in message(trainer_for(lazy).build_model, settings_of(lazy))


def test_precision():
    cfg = load_config(ONE_X, ["SOLVER.AMP.PRECISION", "float8"])
    found = message(build_step_trainer, cfg, None, None, None)
    assert "float8" in found and "bfloat16" in found


def test_sampler_that_cannot_be_resumed(data):
    cfg = mini_config("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler")
    found = message(Trainer.build_train_loader, cfg)
    assert "is RandomSubsetTrainingSampler, but only TrainingSampler and Repeat" in found


@pytest.mark.parametrize("threshold", ["0.0", "-0.1", "1.5"])
def test_repeat_threshold_that_makes_no_sense(data, threshold):
    keys = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"]
    cfg = mini_config(*keys, "DATALOADER.REPEAT_THRESHOLD", threshold)
    assert "makes no sense" in message(Trainer.build_train_loader, cfg)


def test_repeat_factors_by_yaml_and_lazy_config(data):
    one_process = ["DATALOADER.NUM_WORKERS", "0"]
    keys = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler", *one_process]
    cfg = mini_config(*keys, "DATALOADER.REPEAT_THRESHOLD", "0.9")
    factors = Trainer.build_train_loader(cfg).batch_sampler.repeat_factors
    assert max(factors) > 1
    plain = Trainer.build_train_loader(mini_config(*one_process))
    assert plain.batch_sampler.repeat_factors is None
    without = mini_config(*keys, "DATALOADER.REPEAT_THRESHOLD", "0.9", "DATALOADER.REPEAT_SQRT",
                          "False")  # fmt: skip
    squared = Trainer.build_train_loader(without).batch_sampler.repeat_factors
    assert squared == pytest.approx([x**2 for x in factors], rel=1e-5)

    lazy = lazy_with(REPEATING)
    override(lazy, lazy_overrides(Path("output")))
    check_ignored_lazy_keys(lazy)
    loader = trainer_for(lazy).build_train_loader(settings_of(lazy))
    assert loader.batch_sampler.repeat_factors == factors


@pytest.mark.parametrize(
    "change", ["sampler.shuffle = False", "sampler.repeat_factors.dataset_dicts = []"]
)
def test_other_repeat_factors_of_a_lazy_config_are_refused(change):
    lazy = lazy_with(REPEATING, f"lazy.dataloader.train.{change}")
    assert "dataloader.train.sampler would have no" in message(check_ignored_lazy_keys, lazy)


# As Detectron2's own files for LVIS have it.
REPEATING = """lazy.dataloader.train.sampler = L(samplers.RepeatFactorTrainingSampler)(
    repeat_factors=L(samplers.RepeatFactorTrainingSampler.repeat_factors_from_category_frequency)(
        dataset_dicts="${dataloader.train.dataset}", repeat_thresh=0.9
    )
)"""


def lazy_with(*changes: str):
    """The project's LazyConfig, changed by lines of Python, as in a file derived from it."""
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py")
    names = {"lazy": lazy, "L": LazyCall, "samplers": samplers}
    for change in changes:
        exec(change, names)
    return lazy


@pytest.mark.parametrize(
    "key, change",
    [
        ("dataloader.train.sampler",
         "lazy.dataloader.train.sampler = L(samplers.RepeatFactorTrainingSampler)()"),
        ("dataloader.train.collate_fn", "lazy.dataloader.train.collate_fn = 'builtins.list'"),
        ("dataloader.train._target_",
         "lazy.dataloader.train._target_ = 'torch.utils.data.DataLoader'"),
        ("train.ddp.find_unused_parameters", "lazy.train.ddp.find_unused_parameters = True"),
        ("train.checkpointer.max_to_keep", "lazy.train.checkpointer.max_to_keep = 3"),
        ("train.log_period", "lazy.train.log_period = 5"),
    ],
)  # fmt: skip
def test_lazy_key_without_effect(key, change):
    check_ignored_lazy_keys(lazy_with())
    found = message(check_ignored_lazy_keys, lazy_with(change))
    assert found.startswith(f"{key} would have no effect here")


def test_precision_of_a_lazy_config():
    assert settings_of(lazy_with()).SOLVER.AMP.PRECISION == "float16"
    lazy = lazy_with("lazy.train.amp = dict(enabled=True, precision='bfloat16')")
    assert settings_of(lazy).SOLVER.AMP.PRECISION == "bfloat16"
