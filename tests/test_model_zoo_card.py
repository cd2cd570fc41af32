"""What is said of a model: its evaluation, its config, its card."""

import json

import pytest
import yaml
from zoos import refusal

from scopenet import load_config
from scopenet.model_zoo.card import training_facts, write_card, write_table
from scopenet.model_zoo.index import Entry, File
from scopenet.model_zoo.published_config import publishable, read_source
from scopenet.model_zoo.publishing import changes, read_evaluation, training_evaluation

LINES = [
    {"iteration": 9, "bbox/AP": 10.0, "bbox/AP-a/b": 5.0},
    {"iteration": 10, "bbox/AP": 11.0},
    {"iteration": 19, "total_loss": 1.0},
    {"iteration": 20, "bbox/AP": 20.0, "bbox/APl": float("nan"), "bbox/AP-a/b": 7.0},
    {"iteration": 20, "two/bbox/AP": 30.0},
]


@pytest.mark.parametrize(
    "iterations, expected",
    [
        (10, {"one": {"AP": 10.0, "AP-a/b": 5.0}}),  # between iterations, and not the next one's
        (11, {"one": {"AP": 11.0}}),
        (15, {}),
        (20, {"one": {"AP": 20.0, "APl": None, "AP-a/b": 7.0}, "two": {"AP": 30.0}}),  # at the end
    ],
)
def test_evaluation_of_this_checkpoint(tmp_path, iterations, expected):
    text = "\n".join(map(json.dumps, LINES)) + '\n{"iteration": 20, "bbox/A'
    (tmp_path / "metrics.json").write_text(text)
    assert training_evaluation(tmp_path, iterations, 20, ["one"]) == expected


def test_evaluation_on_several_data_sets(tmp_path):
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, LINES)))
    assert training_evaluation(tmp_path, 20, 20, ["one", "two"]) == {"two": {"AP": 30.0}}
    assert training_evaluation(tmp_path / "elsewhere", 20, 20, ["one"]) == {}


@pytest.mark.parametrize(
    "content, expected",
    [
        ({"AP": 1.5, "APl": float("nan")}, {"one": {"AP": 1.5, "APl": None}}),
        ({"bbox": {"AP": 2}}, {"one": {"AP": 2.0}}),
        ({"x": {"bbox": {"AP": 3}}, "y": {"bbox": {}}}, {"x": {"AP": 3.0}, "y": {}}),
    ],
)
def test_evaluation_given(tmp_path, content, expected):
    path = tmp_path / "evaluation.json"
    path.write_text(json.dumps(content))
    assert read_evaluation(path, ["one"]) == expected


def test_evaluation_of_nothing_known(tmp_path):
    path = tmp_path / "evaluation.json"
    for content in ("", "[]", '{"bbox": {"AP": "high"}}', '{"bbox": 5}', '{"x": {}}'):
        path.write_text(content)
        assert str(path) in refusal(read_evaluation, path, ["one"])
    path.write_text('{"bbox": {"AP": 5}}')
    assert "the config has 2 test sets" in refusal(read_evaluation, path, ["one", "two"])


def test_paths_of_the_machine_go():
    cfg = load_config("Base-ScopeNet.yaml", ["OUTPUT_DIR", "/home/someone/run"])
    before = read_source("Base-ScopeNet.yaml")
    for weights, kept in (
        ("/home/someone/R-50.pkl", "R-50.pkl"),
        ("output/R-50.pkl", "R-50.pkl"),
        ("C:\\someone\\R-50.pkl", "R-50.pkl"),
        ("file:///someone/R-50.pkl", "R-50.pkl"),
        ("detectron2://x/R-50.pkl", "detectron2://x/R-50.pkl"),
    ):
        cfg.MODEL.WEIGHTS = weights
        cfg.DATASETS.PROPOSAL_FILES_TEST = ("~/someone/proposals.pkl",)
        config = publishable(cfg.dump(), "x.pth")
        assert "someone" not in yaml.safe_dump(config) and config["OUTPUT_DIR"] == "./output"
        assert config["MODEL"]["WEIGHTS"] == kept and "DEVICE" not in config["MODEL"]
        assert changes(config, before) == {
            "MODEL.WEIGHTS": kept,
            "DATASETS.PROPOSAL_FILES_TEST": ["proposals.pkl"],
        }


def test_a_shorter_list_is_a_change():
    assert changes({"A": {"B": [1]}, "SEED": 1}, {"A": {"B": [1, 2]}, "SEED": 0}) == {"A.B": [1]}


def test_older_checkpoints_record_nothing():
    checkpoint = {"iteration": 1, "class_names": [], "commit": "abc", "hardware": "x"}
    facts = training_facts(load_config("Base-ScopeNet.yaml"), checkpoint)
    assert {x: facts[x] for x in ("hardware", "versions", "commit")} == {
        "hardware": "x",
        "versions": "not recorded",
        "commit": "abc",
    }


def test_names_are_no_markup():
    evil = "a|b\n<script>[x](y)`*"
    files = dict.fromkeys(["w.pth", "w.safetensors", "config.yaml"], File.of(b""))
    entry = Entry("f", "w", files, {evil: evil, "training data": evil}, {evil: {"AP": 1.0}})
    card = write_card("name", entry, {evil: evil})
    for text in (card, write_table({"x.yaml": entry})):
        assert r"a\|b \<script\>\[x\](y)\`\*" in text
        assert not any(evil_part in text for evil_part in ("a|b", " <", "[x](", "b\n"))
