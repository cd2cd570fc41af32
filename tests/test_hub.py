"""The Hugging Face Hub, by a stand-in on this machine: what is published there comes back, and of a
repository of others nothing is run."""

import json
import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import huggingface_hub
import pytest
import torch
import yaml
from builders import write_checkpoint
from detectron2.modeling import build_model
from hub import Hub, stand_in
from huggingface_hub import ModelCard
from miniature import TINY, one_thread
from zoos import CONFIG, refusal

from scopenet import Detector, cli, load_config, model_zoo
from scopenet.model_zoo.index import File
from scopenet.model_zoo.published_config import read_source
from scopenet.model_zoo.publishing import publish

NAME = "someone/small"
LOADED = {"config.yaml", "class_names.json", "index.json", "model.safetensors"}


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("training") / "x.pth"
    more = ["MODEL.SCOPENET.NUM_CLASSES", "3", "MODEL.SCOPENET.SCORE_THRESH_TEST", "0.0"]
    cfg = load_config(CONFIG, [*TINY, *more])
    return write_checkpoint(path, build_model(cfg), cfg.dump())


@pytest.fixture
def hub(tmp_path) -> Iterator[Hub]:
    with stand_in(tmp_path / "cache") as hub:
        yield hub


@pytest.fixture(scope="module")
def files(checkpoint, tmp_path_factory) -> dict[str, bytes]:
    """What the program publishes."""
    evaluation = checkpoint.with_name("evaluation.json")
    evaluation.write_text('{"AP": 38.5}')
    arguments = ["--hub", NAME, "--config-file", CONFIG, "--metrics", str(evaluation)]
    with stand_in(tmp_path_factory.mktemp("cache")) as hub:
        assert cli.run("publish", [str(checkpoint), *arguments]) == 0
        assert [*hub.large.values()] == [hub.repositories[NAME][0][1]["model.safetensors"]]
        (commit,) = hub.repositories[NAME]
        return commit[1]


def image(tmp_path: Path) -> str:
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), torch.randint(256, (64, 96, 3), dtype=torch.uint8).numpy())
    return str(path)


# What comes back.


def test_what_is_published_comes_back(hub, checkpoint, tmp_path, capsys):
    entry = publish(checkpoint, CONFIG, f"hf://{NAME}")
    digits, files = hub.repositories[NAME][-1]
    address = f"hf://{NAME}@{digits}"
    assert capsys.readouterr().out == f"{address}\n" and files.keys() == LOADED | {"README.md"}
    assert entry.files["model.safetensors"].bytes == len(files["model.safetensors"])
    expected = torch.load(checkpoint, weights_only=True)
    detector = Detector.load(address, device="cpu")
    found = detector.network.model.state_dict()
    assert all(torch.equal(found[k], x) for k, x in expected["model"].items())
    assert detector.name == "small" and detector.class_names == expected["class_names"]
    assert detector.network.model.test_score_thresh == 0.0
    instances = detector(image(tmp_path))["instances"]
    assert len(instances) > 10 and instances.image_size == (64, 96)


def test_the_card_is_one_of_the_hub(files):
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "scopenet" and card.data.pipeline_tag == "object-detection"
    assert 'scopenet.Detector.load("hf://someone/small")' in card.text
    assert card.text.startswith(f"# {CONFIG}\n") and "`model.safetensors`" in card.text
    assert "| 38.5 |" in card.text and ".pth" not in card.text
    assert "SCOPENET_MODEL_ZOO" not in card.text


def test_a_revision_stays_what_it_is(hub, files, caplog):
    first = hub.commit(NAME, files)
    changed = {"model.safetensors": b"another"}
    second = hub.commit(NAME, changed | {"index.json": index(own(files) | changed)})

    def weights(address: str) -> bytes:
        return Path(model_zoo.published(address)[1]).read_bytes()

    assert weights(f"hf://{NAME}@{first}") == files["model.safetensors"]
    assert not caplog.records and weights(f"hf://{NAME}") == b"another"
    assert [x.getMessage() for x in caplog.records] == [
        f"hf://{NAME} may become another model; this one is hf://{NAME}@{second}."
    ]


def test_only_what_is_loaded_is_fetched_and_once(hub, files, monkeypatch):
    digits = hub.commit(NAME, files | {"evil.pkl": b"x", "more/model.safetensors": b"x"})
    assert model_zoo.published(f"hf://{NAME}")[2] == ["red", "green", "blue"]
    fetched = [x.split("/", 5)[-1] for x in hub.asked if x.startswith("GET") and "resolve" in x]
    assert sorted(fetched) == sorted(LOADED)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub.asked.clear()
    for address in (f"hf://{NAME}", f"hf://{NAME}@{digits}"):
        assert model_zoo.published(address)[2] == ["red", "green", "blue"]
    assert not hub.asked


def test_a_lazy_config(hub, tmp_path):
    source = "ScopeNet_R_50_FPN_1x.py"
    config = read_source(source)
    files = {"config.yaml": yaml.safe_dump(config).encode(), "model.safetensors": b""}
    hub.commit(NAME, files | {"index.json": index(files, source)})
    assert model_zoo.get_config(f"hf://{NAME}", trained=True).model.num_bins == 5
    config["model"]["backbone"]["_target_"] = "os.system"
    files["config.yaml"] = yaml.safe_dump(config).encode()
    hub.commit(NAME, files | {"index.json": index(files, source)})
    message = refusal(model_zoo.get_config, f"hf://{NAME}", trained=True)
    assert "calls os.system as model.backbone._target_" in message


# Repositories of others.


def own(files: dict[str, bytes]) -> dict[str, bytes]:
    """What an index names of these files."""
    return {k: files[k] for k in LOADED - {"index.json"}}


def index(files: dict[str, bytes], name: str = CONFIG, **more) -> bytes:
    """An index that fits these files."""
    digests = {k: asdict(File.of(x)) for k, x in files.items()}
    entry = {"folder": ".", "weights": "model", "files": digests, "facts": {}, "metrics": {}}
    return json.dumps({"format": 1, "models": {name: entry | more}}).encode()


class Hostile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_nothing_of_a_hostile_repository_is_run(hub, files, tmp_path):
    marker, mine = tmp_path / "executed", own(files)
    code = pickle.dumps(Hostile(marker))
    call = f"\nOUTPUT_DIR: !!python/object/apply:os.system ['touch {marker}']\n".encode()
    cases = {
        "is not a file of tensors": {"model.safetensors": code},
        "is refused": {"config.yaml": mine["config.yaml"] + call},
        "holds no names of classes": {"class_names.json": code},
    }
    for reason, changed in cases.items():
        hub.commit(NAME, mine | changed | {"index.json": index(mine | changed)})
        assert reason in refusal(Detector.load, f"hf://{NAME}", device="cpu")
    hub.commit(NAME, mine | {"index.json": code})
    assert "is not the index of a model zoo" in refusal(Detector.load, f"hf://{NAME}")
    for more in ({"folder": "../.."}, {"folder": ".."}, {"weights": "../model"}):
        hub.commit(NAME, {"index.json": index(mine, **more)})
        assert "is not the index of a model zoo" in refusal(Detector.load, f"hf://{NAME}")
    assert not marker.exists()


def test_what_is_damaged_or_no_model_is_refused(hub, files):
    hub.commit(NAME, files | {"model.safetensors": files["model.safetensors"][:-1]})
    assert "does not have the sha256" in refusal(Detector.load, f"hf://{NAME}")
    hub.commit("someone/else", {"pytorch_model.bin": b"x", "config.json": b"{}"})
    assert "index.json cannot be read" in refusal(Detector.load, "hf://someone/else")


def test_what_is_not_there(hub, files):
    message = refusal(Detector.load, "hf://someone/none")
    assert message.startswith("hf://someone/none cannot be read: RepositoryNotFoundError, 404")
    hub.commit(NAME, files)
    assert "RevisionNotFoundError" in refusal(Detector.load, f"hf://{NAME}@v9")
    assert "HFValidationError" in refusal(Detector.load, "hf://a/b/c")


def test_without_a_token_nothing_is_published(hub, checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "wrong")
    message = refusal(publish, checkpoint, CONFIG, f"hf://{NAME}")
    assert message.startswith(f"hf://{NAME} cannot be written: HfHubHTTPError, ")
    assert "401" in message
    assert not hub.repositories
    message = refusal(publish, checkpoint, CONFIG, "hf://small")
    assert message == "hf://small cannot be written: a repository is OWNER/NAME."


def test_without_the_library(checkpoint, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for said in (
        refusal(Detector.load, f"hf://{NAME}"),
        refusal(publish, checkpoint, CONFIG, f"hf://{NAME}"),
    ):
        assert 'pip install "scopenet[hub]"' in said
