"""The model zoo: what is published is what was trained, and comes back bit by bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders import write_checkpoint
from detectron2.config import CfgNode, LazyConfig, instantiate
from miniature import CLASSES, TINY, mini_datasets, mini_overrides, one_thread
from safetensors.torch import load_file
from torch import Tensor

from scopenet import ConfigError, Detector, cli, load_config, model_zoo
from scopenet.config_file import config_dir, to_yaml
from scopenet.engine.trainer import Trainer
from scopenet.model_zoo import models
from scopenet.model_zoo.publishing import publish

ROOT = Path(__file__).parents[1]
CONFIG = "ScopeNet_R_50_FPN_1x.yaml"
# A LazyConfig of its own for a model that is small, and in the main module of no program.
LAZY = """
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from builders import PooledPyramid
from scopenet import ScopeHead, ScopeNet
from detectron2.model_zoo import get_config

dataloader = get_config("common/data/coco.py").dataloader
dataloader.evaluator.output_dir = "${train.output_dir}/inference"
optimizer = get_config("common/optim.py").SGD
lr_multiplier = get_config("common/coco_schedule.py").lr_multiplier_1x
train = get_config("common/train.py").train
train.init_checkpoint = ""
model = L(ScopeNet)(
    backbone=L(PooledPyramid)(strides=[8, 16]),
    head=L(ScopeHead)(
        input_shape=[ShapeSpec(channels=3)] * 2, num_classes="${..num_classes}", num_bins=5,
        num_convs=1, conv_dim=8,
    ),
    head_in_features=["p3", "p4"], level_boundaries=[64], num_classes=80, num_bins=5,
    pixel_mean=[128.0] * 3, pixel_std=[64.0] * 3,
)
"""


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkpoint that a training has written and evaluated."""
    folder = tmp_path_factory.mktemp("run")
    more = ["OUTPUT_DIR", str(folder / "output"), "MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0"]
    (folder / "output").mkdir()
    with mini_datasets(folder / "data"):
        Trainer(load_config(CONFIG, mini_overrides(folder, *more))).train()
    return folder / "output" / "model_final.pth"


@pytest.fixture(scope="module")
def zoo(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "zoo"
    publish(trained, CONFIG, folder, recorded={"commit": "0123abc"})
    return folder


@pytest.fixture
def lazy(tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A checkpoint of a LazyConfig with overrides, and its config, one of the project's."""
    folder = tmp_path / "configs"
    folder.mkdir()
    config_file = folder / "small.py"
    config_file.write_text(LAZY)
    monkeypatch.setattr(models, "config_dir", lambda: folder)
    config = LazyConfig.load(str(config_file))
    config.model.num_classes, config.train.max_iter = 3, 2
    config.train.output_dir = "/home/someone/output"
    model = instantiate(config.model).to(memory_format=torch.channels_last)
    torch.nn.init.normal_(model.head.cls_score.weight)
    return write_checkpoint(tmp_path / "x.pth", model, to_yaml(config)), config_file


def entry_folder(zoo: Path) -> Path:
    """That of the only model."""
    (entry,) = json.loads((zoo / "index.json").read_text())["models"].values()
    return zoo / entry["folder"]


def weights_of(checkpoint: Path) -> dict[str, Tensor]:
    return torch.load(checkpoint, weights_only=True)["model"]


def assert_same(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, x in expected.items():
        assert actual[name].dtype == x.dtype and actual[name].shape == x.shape
        assert actual[name].numpy().tobytes() == x.numpy().tobytes(), name


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of change of all files but the lock."""
    files = [x for x in folder.rglob("*") if x.is_file() and x.name != ".lock"]
    return {str(x.relative_to(folder)): (x.read_bytes(), x.stat().st_mtime_ns) for x in files}


# Round trips.


def test_weights_come_back(zoo, trained):
    model = model_zoo.get(CONFIG, trained=True, zoo=zoo)
    assert model.training and model.num_classes == len(CLASSES)
    assert_same(model.state_dict(), weights_of(trained))


def test_trained_config_comes_back(zoo, trained, monkeypatch):
    monkeypatch.setenv("SCOPENET_MODEL_ZOO", str(zoo))
    cfg = model_zoo.get_config(f"configs/{CONFIG}", trained=True)
    expected = load_config()
    content = torch.load(trained, weights_only=True)
    expected.merge_from_other_cfg(CfgNode.load_cfg(content["config"]))
    assert cfg.MODEL.WEIGHTS == model_zoo.get_checkpoint_url(CONFIG)
    assert Path(cfg.MODEL.WEIGHTS).is_file()
    expected.MODEL.WEIGHTS, expected.OUTPUT_DIR = cfg.MODEL.WEIGHTS, "./output"
    assert cfg == expected


@pytest.mark.parametrize("name", [CONFIG, CONFIG.removesuffix(".yaml"), f"configs/{CONFIG}"])
def test_published_by_name(zoo, trained, monkeypatch, name):
    monkeypatch.setenv("SCOPENET_MODEL_ZOO", str(zoo))
    config, weights, class_names = model_zoo.published(name)
    assert config == model_zoo.get_config(CONFIG, trained=True)
    assert_same(load_file(weights), weights_of(trained))
    assert class_names == [x["name"] for x in CLASSES]


def test_detector_of_a_name(zoo, trained, monkeypatch):
    monkeypatch.setenv("SCOPENET_MODEL_ZOO", str(zoo))
    detector = Detector.load(CONFIG.removesuffix(".yaml"))
    assert_same(detector.network.model.state_dict(), weights_of(trained))


def test_untrained_is_the_project_s_own(monkeypatch):
    monkeypatch.delenv("SCOPENET_MODEL_ZOO", raising=False)
    assert model_zoo.get_config_file(CONFIG) == str(config_dir() / CONFIG)
    assert model_zoo.get_config(CONFIG) == load_config(CONFIG)
    lazy = model_zoo.get_config(CONFIG.replace(".yaml", ".py"))
    assert lazy.model.num_bins == 5 and lazy.train.max_iter == 90000
    small = load_config(CONFIG, TINY)
    monkeypatch.setattr(models, "read_config", lambda path: small)
    model = model_zoo.get(CONFIG, device="cpu")
    assert model.training and model.num_classes == 80 and model.device.type == "cpu"
    small.MODEL.WEIGHTS = "absent.pth"
    with pytest.raises(ConfigError, match="The weights absent.pth do not exist"):
        model_zoo.get(CONFIG)


def test_lazy_config(lazy, tmp_path):
    checkpoint, config_file = lazy
    entry = publish(checkpoint, str(config_file), tmp_path / "zoo")
    model = model_zoo.get("small.py", trained=True, zoo=tmp_path / "zoo")
    assert_same(model.state_dict(), weights_of(checkpoint))
    config = model_zoo.get_config("small.py", trained=True, zoo=tmp_path / "zoo")
    assert (config.model.num_classes, config.model.head.num_classes) == (3, 3)
    assert config.train.init_checkpoint == model_zoo.get_checkpoint_url(
        "small.py", zoo=tmp_path / "zoo"
    )
    assert config.dataloader.evaluator.output_dir == "./output/inference"
    assert entry.facts["architecture"] == "ScopeNet" and entry.facts["learning rate"] == "0.02"
    card = (tmp_path / "zoo" / entry.folder / "README.md").read_text()
    assert "- model.num_classes: 3\n" in card and "/home" not in card
    assert model_zoo.get("small.py").num_classes == 80
    config_file.rename(tmp_path / "elsewhere.py")  # nobody could tell what it may call
    with pytest.raises(ConfigError, match="elsewhere.py is none of the configs"):
        publish(checkpoint, str(tmp_path / "elsewhere.py"), tmp_path / "zoo")


PLAIN_DETECTRON2 = """
import sys, scopenet, torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from scopenet import model_zoo
checkpoint, config, clone = sys.argv[1:]
assert not scopenet.__file__.startswith(clone) and clone not in sys.path, scopenet.__file__
expected = torch.load(checkpoint, weights_only=True)["model"]
same = lambda model: all(torch.equal(x, expected[k]) for k, x in model.state_dict().items())
cfg = model_zoo.get_config(config, trained=True)
model = build_model(cfg)
assert not same(model)
rest = DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
assert same(model) and same(model_zoo.get(config, trained=True))
print(rest, model_zoo.get_config_file(config))
print(model_zoo.get_config("ScopeNet_R_50_FPN_1x.py").model.num_bins)
"""


def test_installed_package_and_plain_checkpointer(zoo, trained, tmp_path):
    # What a wheel holds, without building one: that needs a network.
    site = tmp_path / "site"
    command = ["setup.py", "--quiet", "build_py", "--build-lib", str(site)]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PLAIN_DETECTRON2, trained, CONFIG, ROOT],
        env=os.environ | {"PYTHONPATH": str(site), "SCOPENET_MODEL_ZOO": str(zoo)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rest, num_bins = done.stdout.splitlines()[-2:]
    assert rest == f"{{}} {site}/scopenet/configs/{CONFIG}"
    assert num_bins == "5"


# What is published.


def test_two_files_of_the_same_weights(zoo, trained):
    folder = entry_folder(zoo)
    (pth,), (tensors,) = folder.glob("*.pth"), folder.glob("*.safetensors")
    files = json.loads((zoo / "index.json").read_text())["models"][CONFIG]["files"]
    assert pth.name == f"model_final_{files[pth.name]['sha256'][:6]}.pth"
    assert tensors.stem == pth.stem
    content = torch.load(pth, weights_only=True)
    assert set(content) == {"model"}
    assert_same(content["model"], weights_of(trained))
    assert not any(x.suffix == ".pkl" for x in zoo.rglob("*"))  # Detectron2 would unpickle it
    assert_same(load_file(tensors), weights_of(trained))
    assert trained.stat().st_size > 1.9 * pth.stat().st_size


def test_beside_the_weights(zoo, trained):
    folder = entry_folder(zoo)
    assert json.loads((folder / "class_names.json").read_text()) == ["red", "green", "blue"]
    last = json.loads((trained.parent / "metrics.json").read_text().splitlines()[-1])
    ap = last["bbox/AP"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["mini_val"]["bbox"]["AP"] == ap and metrics["mini_val"]["bbox"]["APl"] is None
    card = (folder / "README.md").read_text()
    assert f"| mini_val | {ap:.1f} |" in card
    assert "| iterations | 2 |" in card and "| training data | mini_train |" in card
    assert "| commit | 0123abc |" in card and " threads of " in card
    assert "- SOLVER.MAX_ITER: 2\n" in card and "SOLVER.BASE_LR" not in card
    files = json.loads((zoo / "index.json").read_text())["models"][CONFIG]["files"]
    for name in (*folder.glob("*.pth"), *folder.glob("*.safetensors")):
        assert f"`{files[name.name]['sha256']}`" in card
    table = (zoo / "MODEL_ZOO.md").read_text()
    assert f"| mini_train | 2 | mini_val | {ap:.1f} |" in table
    links = [x.split(")")[0] for x in table.split("](")[1:]]
    assert len(links) == 4 and all((zoo / link).is_file() for link in links)


def test_nothing_of_the_machine(zoo, trained):
    for path in zoo.rglob("*"):
        if path.is_file() and path.suffix not in (".pth", ".safetensors"):
            assert str(trained.parent) not in path.read_text()
            assert not {"/tmp", "/home", "/root"} & set(path.read_text().split("'"))
    assert "DEVICE" not in (entry_folder(zoo) / "config.yaml").read_text()


def test_again_changes_nothing(zoo, trained):
    before = contents(zoo)
    publish(trained, CONFIG, zoo, recorded={"commit": "0123abc"})
    assert contents(zoo) == before


def test_the_same_elsewhere_is_the_same(zoo, trained, tmp_path):
    publish(trained, str(config_dir() / CONFIG), tmp_path, recorded={"commit": "0123abc"})
    assert {k: v[0] for k, v in contents(tmp_path).items()} == {
        k: v[0] for k, v in contents(zoo).items()
    }


def test_another_model_takes_the_place(trained, tmp_path):
    first = publish(trained, CONFIG, tmp_path)
    metrics = tmp_path / "evaluation.json"
    metrics.write_text('{"AP": 12.34, "AP50": NaN}')
    second = publish(trained, CONFIG, tmp_path, metrics_file=metrics)
    assert first.folder != second.folder and (tmp_path / first.folder).is_dir()
    assert entry_folder(tmp_path) == tmp_path / second.folder
    assert second.metrics == {"mini_val": {"AP": 12.34, "AP50": None}}
    assert "| mini_val | 12.3 | – | – |" in (tmp_path / "MODEL_ZOO.md").read_text()


def test_what_the_checkpoint_records_and_no_evaluation(trained, tmp_path, capsys):
    checkpoint = tmp_path / "run" / "model_final.pth"
    checkpoint.parent.mkdir()
    content = torch.load(trained, weights_only=True)
    content |= {"hardware": "2 threads of a | processor", "commit": "abc", "versions": "torch 1"}
    torch.save(content, checkpoint)
    output = ["--output", str(tmp_path / "zoo"), "--versions", "torch 2"]
    assert cli.run("publish", [str(checkpoint), "--config-file", CONFIG, *output]) == 0
    said = capsys.readouterr()
    assert "No evaluation of these weights is known" in said.err
    folder = entry_folder(tmp_path / "zoo")
    assert f"{folder}/model_final_" in said.out and not (folder / "metrics.json").exists()
    card = (folder / "README.md").read_text()
    assert "No evaluation of these weights is known." in card
    assert r"| hardware | 2 threads of a \| processor |" in card
    assert "| commit | abc |" in card and "| versions | torch 2 |" in card
