"""Reading what a training has written about itself."""

import json

from scopenet.training_metrics import read_metrics


def test_no_file(tmp_path):
    assert read_metrics(tmp_path / "metrics.json") == {}


def test_values_by_iteration(tmp_path):
    path = tmp_path / "metrics.json"
    # Killed after iteration 39 and resumed from 20 on, with another period of writing.
    lines = [
        {"iteration": 19, "loss": 3.0, "lr": 0.1},
        {"iteration": 39, "loss": 2.0},
        {"iteration": 29, "loss": 2.5},
        {"iteration": 39, "loss": 1.0, "bbox/AP": float("nan")},
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    metrics = read_metrics(path)
    assert metrics.keys() == {"loss", "lr", "bbox/AP"}
    assert list(metrics["loss"].items()) == [(19, 3.0), (29, 2.5), (39, 1.0)]
    assert metrics["lr"] == {19: 0.1} and list(metrics["bbox/AP"]) == [39]


def test_half_written_lines_are_passed_over(tmp_path):
    path = tmp_path / "metrics.json"
    # The next line of a resumed training stands behind what was left of one.
    path.write_text('{"iteration": 1, "a": 1.0}\n{"iteration": 2, "{"iteration": 2, "a": 2.0}\n'
                    '{"iteration": 3, "a": 3.0}\n{"iteration": 4, "a": 4')  # fmt: skip
    assert read_metrics(path) == {"a": {1: 1.0, 3: 3.0}}
    path.write_text('{"a": 1.0}\n{}\n')  # without an iteration
    assert read_metrics(path) == {}
