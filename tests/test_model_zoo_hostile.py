"""Weights, configs and checkpoints of others: refused in one sentence, and nothing is run."""

import builtins
import os
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from miniature import one_thread
from zoos import CONFIG, change_index, publish_small, refusal, replace

from scopenet import cli, model_zoo
from scopenet.model_zoo.published_config import read_source
from scopenet.model_zoo.publishing import publish

LAZY = "ScopeNet_R_50_FPN_1x.py"


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return publish_small(tmp_path_factory.mktemp("published"))


@pytest.fixture
def zoo(published, tmp_path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(published / "zoo", tmp_path / "zoo"))


@pytest.fixture
def marker(tmp_path) -> Iterator[Path]:
    """What the hostile code would make, and what is not to be there in the end."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


def config_of(zoo: Path) -> dict:
    (path,) = zoo.rglob("config.yaml")
    return yaml.safe_load(path.read_text())


# Weights and configs.


@pytest.mark.parametrize("content", [b"garbage", b"\xff" * 100, (2**60).to_bytes(8, "little")])
def test_weights_that_are_none(zoo, content):
    path = replace(zoo, ".safetensors", content)
    assert f"{path} is not a file of tensors" in refusal(
        model_zoo.get, CONFIG, trained=True, zoo=zoo
    )


def test_pickle_in_place_of_safetensors(zoo, marker):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {marker}",)

    path = replace(zoo, ".safetensors", pickle.dumps(Hostile()))
    assert str(path) in refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 100_000, b'"ab"', b"[1]"], ids=range(5))
def test_names_of_classes_that_are_none(zoo, content):
    path = replace(zoo, "class_names.json", content)
    message = refusal(model_zoo.published, CONFIG, zoo=zoo)
    assert message.startswith(f"{path} holds no names of classes: ")
    change_index(zoo, lambda entry: entry["files"].pop("class_names.json"))
    assert model_zoo.published(CONFIG, zoo=zoo)[2] is None


def test_weights_that_do_not_fit(zoo):
    config = config_of(zoo)
    config["MODEL"]["SCOPENET"]["NUM_CLASSES"] = 4
    replace(zoo, "config.yaml", yaml.safe_dump(config).encode())
    assert "do not fit" in refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)


@pytest.mark.parametrize(
    "line",
    ['OUTPUT_DIR: !!python/object/apply:os.system ["touch {}"]',
     "OUTPUT_DIR: !!python/object/new:os.system [touch {}]",
     "OUTPUT_DIR: !!python/name:os.system",
     "? !!python/object/apply:os.system ['touch {}']\n: 0"],
    ids=range(4),
)  # fmt: skip
@pytest.mark.parametrize("name", [CONFIG, LAZY])
def test_yaml_that_runs_code(zoo, marker, line, name):
    (path,) = zoo.rglob("config.yaml")
    content = f"{path.read_text()}\n{line.format(marker)}\n"
    replace(zoo, "config.yaml", content.encode(), name)
    assert str(path) in refusal(model_zoo.get_config, name, trained=True, zoo=zoo)


def test_yaml_that_reads_other_files(zoo, tmp_path):
    (tmp_path / "base.yaml").write_text("VERSION: 2")
    content = yaml.safe_dump(config_of(zoo) | {"_BASE_": str(tmp_path / "base.yaml")})
    path = replace(zoo, "config.yaml", content.encode())
    message = refusal(model_zoo.get_config, CONFIG, trained=True, zoo=zoo)
    assert message == (
        f"The published config {path} is refused: AssertionError, The reserved key '_BASE_' can "
        "only be used in files."
    )


def test_yaml_config_under_the_name_of_a_lazy_config(zoo):
    replace(zoo, "config.yaml", yaml.safe_dump(config_of(zoo)).encode(), LAZY)
    assert "is of another kind" in refusal(model_zoo.get_config, LAZY, trained=True, zoo=zoo)


def lazy_config(**model) -> dict:
    return {"model": model, "train": {"init_checkpoint": ""}}


CALL = {"_target_": "os.system", "command": "touch {}"}
HOSTILE_CALLS = [
    lazy_config(**CALL),
    lazy_config(_target_="scopenet.ScopeNet", backbone=[[CALL]]),
    lazy_config(_target_={"_target_": "scopenet.ScopeNet", "x": CALL}),
    lazy_config(_target_=["os.system"]),
    lazy_config(_target_="scopenet.ScopeNet.os.system"),
    lazy_config(_target_="scopenet.ScopeNet", x="${oc.create:{_target_: os.system}}"),
    lazy_config(_target_="${x}") | {"x": "os.system"},
    {"model": 1, "train": 2},
]


@pytest.mark.parametrize("config", HOSTILE_CALLS, ids=range(len(HOSTILE_CALLS)))
def test_lazy_config_that_calls_something_else(zoo, marker, config):
    text = yaml.safe_dump(config).replace("touch {}", f"touch {marker}")
    path = replace(zoo, "config.yaml", text.encode(), LAZY)
    assert str(path) in refusal(model_zoo.get_config, LAZY, trained=True, zoo=zoo)


def test_lazy_config_that_calls_the_right_thing_in_a_wrong_place(zoo):
    config = lazy_config(_target_="scopenet.ScopeNet", head={"_target_": "scopenet.ScopeNet"})
    replace(zoo, "config.yaml", yaml.safe_dump(config).encode(), LAZY)
    message = refusal(model_zoo.get_config, LAZY, trained=True, zoo=zoo)
    assert "calls scopenet.ScopeNet as model.head._target_, which" in message


@pytest.mark.parametrize("kind", ["pairs", "omap"])
def test_call_in_types_of_yaml(zoo, marker, kind):
    # Tuples, of which OmegaConf makes lists.
    call = f"{{_target_: os.system, command: touch {marker}}}"
    text = f"model: {{backbone: !!{kind} [x: {call}]}}\ntrain: {{init_checkpoint: ''}}"
    replace(zoo, "config.yaml", text.encode(), LAZY)
    message = refusal(model_zoo.get_config, LAZY, trained=True, zoo=zoo)
    assert "calls os.system as model.backbone.0.1._target_" in message


def test_config_of_no_model(zoo):
    path = replace(zoo, "config.yaml", yaml.safe_dump(lazy_config(num_bins=5)).encode(), LAZY)
    assert str(path) in refusal(model_zoo.get, LAZY, trained=True, zoo=zoo)
    config = read_source(LAZY)
    config["model"] = {"_target_": config["model"]["_target_"]}
    replace(zoo, "config.yaml", yaml.safe_dump(config).encode(), LAZY)
    assert "makes no model" in refusal(model_zoo.get, LAZY, trained=True, zoo=zoo)


def test_yaml_config_of_no_model(zoo):
    config = config_of(zoo)
    config["MODEL"]["FPN"]["NORM"] = "os.system"
    replace(zoo, "config.yaml", yaml.safe_dump(config).encode())
    assert "makes no model" in refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)


def test_recursive_yaml(zoo):
    path = replace(zoo, "config.yaml", b"model: &x [*x]\ntrain: {}", LAZY)
    assert str(path) in refusal(model_zoo.get, LAZY, trained=True, zoo=zoo)


# Checkpoints to be published.


def refused_checkpoint(published: Path, folder: Path, config_file: str = CONFIG, /, **more) -> str:
    path, zoo = folder / "x.pth", folder / "new zoo"
    content = torch.load(published / "x.pth", weights_only=True) | more
    torch.save({k: v for k, v in content.items() if v is not None}, path)
    message = refusal(publish, path, config_file, zoo)
    assert str(path) in message and not zoo.exists()
    return message


def test_checkpoint_that_runs_code(published, tmp_path, marker):
    class Hostile:
        def __reduce__(self):
            return builtins.eval, (f"__import__('os').system('touch {marker}')",)

    assert "is not a file of tensors" in refused_checkpoint(published, tmp_path, more=Hostile())


def test_config_of_a_checkpoint_that_runs_code(published, tmp_path, marker):
    text = f"OUTPUT_DIR: !!python/object/apply:os.system ['touch {marker}']"
    assert "is not a full config in plain YAML" in refused_checkpoint(
        published, tmp_path, config=text
    )
    model = lazy_config(_target_="os.system", command=f"touch {marker}")
    text = yaml.safe_dump(model | {"train": {"init_checkpoint": ""}})
    message = refused_checkpoint(published, tmp_path, LAZY, config=text)
    assert "calls os.system" in message
    secret = yaml.safe_dump(lazy_config(x="${oc.env:HOME}"))
    assert "${oc.env:HOME}" in refused_checkpoint(published, tmp_path, LAZY, config=secret)


def test_checkpoints_that_cannot_be_published(published, tmp_path):
    cases = {
        "holds no config and no class_names": {"config": None, "class_names": None},
        "is not a full config": {"config": "a: 1"},
        "Non-existent config key: EXTRA": {"config": (lambda x: f"{x}\nEXTRA: 1\n")(
            torch.load(published / "x.pth", weights_only=True)["config"])},
        "do not fit": {"model": {"x": torch.zeros(3)}},
        "holds weights that cannot be written": {"model": {"x": [0.0]}},
    }  # fmt: skip
    for reason, more in cases.items():
        assert reason in refused_checkpoint(published, tmp_path, **more)
    assert "was not trained with" in refused_checkpoint(published, tmp_path, LAZY)


def test_the_program_ends_with_a_sentence(published, tmp_path):
    def ends_with(*arguments) -> str:
        with pytest.raises(SystemExit) as ended:
            cli.run("publish", [*map(str, arguments)])
        return str(ended.value)

    output = ["--output", tmp_path / "zoo", "--config-file"]
    absent = ends_with("absent.pth", *output, CONFIG)
    assert absent == "error: The checkpoint absent.pth does not exist."
    assert "absent.yaml does not exist" in ends_with(published / "x.pth", *output, "absent.yaml")
    (tmp_path / "evaluation.json").write_text("[]")
    for name, reason in (("none.json", "cannot be read"), ("evaluation.json", "not an evaluation")):
        said = ends_with(published / "x.pth", *output, CONFIG, "--metrics", tmp_path / name)
        assert name in said and reason in said
    assert not (tmp_path / "zoo").exists()
    (tmp_path / "zoo").write_text("a file")
    said = ends_with(published / "x.pth", *output, CONFIG)
    assert said == f"error: {tmp_path / 'zoo'} cannot be read or written (File exists)."
