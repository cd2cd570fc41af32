"""YAML that is larger than it looks, and configs that are based on what is no file."""

import pytest
import yaml

from scopenet import ConfigError, load_config
from scopenet.engine.checkpoint import report_other_bins
from scopenet.safe_yaml import read_yaml


def laughs(form: str, depth: int = 30) -> str:
    """Every level names the one below twice."""
    lines = ["a0: &a0 {x: 1}"]
    bodies = {
        "list": "[*{0}, *{0}]",
        "dict": "{{b: *{0}, c: *{0}}}",
        "merge": "{{<<: [*{0}, *{0}]}}",
    }
    for i in range(1, depth):
        lines.append(f"a{i}: &a{i} {bodies[form].format(f'a{i - 1}')}")
    return "\n".join(lines) + "\n"


def refusal(path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    message = str(caught.value)
    assert str(path) in message and message[-1] in ".?" and message[-2] not in ".!"
    assert message.isprintable() and len(message) < 2000
    return message


@pytest.mark.parametrize("form", ["list", "dict", "merge"])
def test_aliases_that_stand_for_too_much(tmp_path, form):
    path = tmp_path / "x.yaml"
    path.write_text(laughs(form))
    assert "its aliases stand for too much" in refusal(path)
    with pytest.raises(ValueError, match="stand for too much"):
        read_yaml(laughs(form).encode())


@pytest.mark.parametrize("text", ["OUTPUT_DIR: &a [*a]", "OUTPUT_DIR: &a {b: *a}"])
def test_aliases_without_end(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    assert "its aliases stand for too much" in refusal(path)


def test_few_aliases_are_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("SOLVER: {BASE_LR: &lr 0.5, BIAS_LR_FACTOR: *lr}\n")
    assert load_config(str(path)).SOLVER.BIAS_LR_FACTOR == 0.5
    text = laughs("merge", 5)
    assert read_yaml(text) == yaml.safe_load(text)


@pytest.mark.parametrize("text", ["[" * 60 + "]" * 60, "{a: " * 300 + "1" + "}" * 300])
def test_what_is_nested_too_deep(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(f"TEST: {{EVAL_PERIOD: {text}}}\n")
    assert "it is nested more than 40 times" in refusal(path)


def test_a_number_that_cannot_be_written(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(f"SEED: 0x{'f' * 5000}\n")
    assert "limit (4300" in refusal(path)


@pytest.mark.parametrize(
    "base",
    ["http://127.0.0.1:9/x.yaml", "https://127.0.0.1:9/x.yaml", "detectron2://x.yaml", "/dev/zero",
     "/dev/stdin", "absent.yaml", ".", "{}", "1", "[absent.yaml]", "'\\0'"],
)  # fmt: skip
def test_bases_that_are_no_files(tmp_path, monkeypatch, base):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it connects"))
    path = tmp_path / "x.yaml"
    path.write_text(f"_BASE_: {base}\n")
    refusal(path)


def test_bases_that_are_based_on_each_other(tmp_path):
    for name, base in (("x", "y"), ("y", "x")):
        (tmp_path / f"{name}.yaml").write_text(f"_BASE_: {base}.yaml\n")
    with pytest.raises(ConfigError, match="y.yaml is based on x.yaml, which is based on it.$"):
        load_config(str(tmp_path / "x.yaml"))


def test_bases_that_are_too_many(tmp_path):
    for i in range(20):
        (tmp_path / f"{i}.yaml").write_text(f"_BASE_: [{i + 1}.yaml, {i + 1}.yaml]\n")
    (tmp_path / "20.yaml").write_text("SEED: 3\n")
    assert refusal(tmp_path / "0.yaml").endswith("is based on more than 100 files.")
    assert load_config(str(tmp_path / "15.yaml")).SEED == 3


def test_bases_that_are_files(tmp_path):
    (tmp_path / "a.yaml").write_text("SEED: 3\n")
    (tmp_path / "b.yaml").write_text("_BASE_: [a.yaml]\nOUTPUT_DIR: x\n")
    (tmp_path / "c.yaml").write_text(f"_BASE_: {tmp_path}/b.yaml\n")
    cfg = load_config(str(tmp_path / "c.yaml"))
    assert (cfg.SEED, cfg.OUTPUT_DIR) == (3, "x")


def test_a_base_of_another_type(tmp_path):
    (tmp_path / "a.yaml").write_text("OUTPUT_DIR: x\n")
    (tmp_path / "b.yaml").write_text("_BASE_: a.yaml\nOUTPUT_DIR: {a: 1}\n")
    assert refusal(tmp_path / "b.yaml").endswith("Cannot inherit key 'OUTPUT_DIR' from base.")


def test_the_config_of_a_checkpoint_is_read_so(caplog):
    report_other_bins({"config": laughs("merge", 60)}, None)
    assert not caplog.records


def test_messages_can_be_shown_on_any_terminal():
    message = str(ConfigError("a\x1b[31m\nb\ud800 é."))
    assert message == "a\\x1b[31m\\nb\\ud800 é." and message.encode()
    long = str(ConfigError("a" * 10**6 + "."))
    assert len(long) < 1500 and long.startswith("a" * 1000 + " [...] ") and long.endswith("a.")
