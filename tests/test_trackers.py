"""Weights & Biases and MLflow beside Detectron2's writers: what is recorded, also of a training
that is killed and resumed, and that nothing is sent."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.utils.events import EventStorage
from miniature import CLASSES, TINY, write_split

import scopenet
from scopenet import ConfigError, load_config
from scopenet.config_file import load_lazy_config, settings_of
from scopenet.engine.trackers import RUNS, Tracker, build_trackers
from scopenet.training_metrics import read_metrics

ROOT = Path(scopenet.__file__).resolve().parents[1]


class ATrainer(SimpleNamespace):
    """That can be referred to weakly."""


def a_trainer(folder: Path, *names: str, start_iter: int = 0) -> ATrainer:
    cfg = load_config("", ["TRACKERS", str([*names]), "OUTPUT_DIR", str(folder)])
    return ATrainer(cfg=cfg, start_iter=start_iter, source_config=lambda cfg: cfg)


class InMemory(Tracker):
    """Records into lists, or fails from a call on."""

    name = "json"  # a package that is there

    def __init__(self, trainer, *, fails: str = ""):
        super().__init__(trainer)
        self.fails, self.calls = fails, []

    def _call(self, name: str, *values):
        self.calls.append((name, *values))
        if name == self.fails:
            raise ConnectionError("the server\nis gone")

    def start(self, run_id, config):
        self._call("start", run_id, config)
        return run_id or "new"

    def log(self, iteration, metrics, pictures):
        self._call("log", iteration, metrics, {k: x.shape for k, x in pictures.items()})

    def finish(self, checkpoint):
        self._call("finish", checkpoint)


def written_at(tracker: Tracker, *iterations: int) -> None:
    """Let a loss be logged at iterations, and a picture at the first one."""
    with EventStorage(iterations[0]) as storage:
        storage.put_image("a", np.zeros((3, 4, 5), np.uint8))
        for i in iterations:
            storage.iter = i
            storage.put_scalar("loss", float(i), smoothing_hint=False)
            tracker.write()
            storage.clear_images()


def test_what_a_tracker_is_given(tmp_path):
    (tmp_path / "model_0000009.pth").touch()
    trainer = a_trainer(tmp_path)
    tracker = InMemory(trainer)
    written_at(tracker, 3, 5)
    tracker.close()
    config = tracker.calls[0][2]
    assert config["SOLVER.BASE_LR"] == trainer.cfg.SOLVER.BASE_LR
    assert config["OUTPUT_DIR"] == str(tmp_path) and config["TRACKERS"] == "[]"
    assert tracker.calls == [
        ("start", None, config),
        ("log", 3, {"loss": 3.0}, {"a": (4, 5, 3)}),
        ("log", 5, {"loss": 5.0}, {}),
        ("finish", str(tmp_path / "model_0000009.pth")),
    ]
    assert json.loads((tmp_path / RUNS).read_text()) == {"json": "new"}


def test_a_resumed_run_repeats_nothing(tmp_path):
    (tmp_path / RUNS).write_text('{"json": "old", "another": "x"}')
    (tmp_path / "metrics.json").write_text('{"iteration": 3, "loss": 3.0}\n')
    trainer = a_trainer(tmp_path, start_iter=2)
    written_at(tracker := InMemory(trainer), 2, 3, 4)
    assert [x[:2] for x in tracker.calls] == [("start", "old"), ("log", 4)]
    assert json.loads((tmp_path / RUNS).read_text()) == {"json": "old", "another": "x"}
    # Not resumed: another run, of all iterations.
    trainer = a_trainer(tmp_path)
    written_at(tracker := InMemory(trainer), 2)
    assert [x[:2] for x in tracker.calls] == [("start", None), ("log", 2)]
    # Resumed, but not recorded before.
    (tmp_path / RUNS).unlink()
    trainer = a_trainer(tmp_path, start_iter=2)
    written_at(tracker := InMemory(trainer), 2)
    assert [x[:2] for x in tracker.calls] == [("start", None), ("log", 2)]


def test_config_of_a_lazy_training(tmp_path):
    trainer = a_trainer(tmp_path)
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py")
    trainer.source_config = lambda cfg: lazy
    written_at(tracker := InMemory(trainer), 2)
    config = tracker.calls[0][2]
    assert config["optimizer.lr"] == 0.01 and "ScopeNet" in config["model._target_"]
    assert "'channels': 256" in config["model.head.input_shape"]


@pytest.mark.parametrize("fails, calls", [("start", 1), ("log", 2)])
def test_a_failure_is_said_once_and_ends_nothing(tmp_path, caplog, fails, calls):
    trainer = a_trainer(tmp_path)
    tracker = InMemory(trainer, fails=fails)
    written_at(tracker, 1, 2, 3)
    tracker.close()
    assert [x[0] for x in tracker.calls] == ["start", "log"][:calls]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "(ConnectionError: the server is gone)" in record.message


def test_names(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="TRACKERS has comet, but only wandb and mlflow exist"):
        build_trackers(a_trainer(tmp_path, "comet"))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r'pip install "scopenet\[wandb\]"'):
        build_trackers(a_trainer(tmp_path, "wandb"))
    lazy = load_lazy_config("ScopeNet_R_50_FPN_1x.py", ["train.trackers=[mlflow]"])
    assert settings_of(lazy).TRACKERS == ["mlflow"]


# The real ones.


def wandb_records(folder: Path) -> list:
    """Read what W&B has written offline: records of protobuf in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    records = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        data, at, parts = path.read_bytes(), 7, b""
        while at + 7 <= len(data):
            if 2**15 - at % 2**15 < 7:  # the end of a block is padded
                at += 2**15 - at % 2**15
            length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
            parts += data[at + 7 : at + 7 + length]
            at += 7 + length
            if at > len(data):  # being written
                break
            if kind in (1, 4):  # whole, or the last part
                records.append(Record.FromString(parts))
                parts = b""
    return records


def wandb_history(folder: Path) -> list[dict]:
    rows = [x.history.item for x in wandb_records(folder) if x.HasField("history")]
    return [{".".join(x.nested_key) or x.key: json.loads(x.value_json) for x in y} for y in rows]


def train(data: Path, output: Path, *arguments: str, proxy: int) -> subprocess.Popen:
    overrides = [*TINY, *("SOLVER.MAX_ITER", "40", "SOLVER.CHECKPOINT_PERIOD", "15")]
    overrides += ["TEST.EVAL_PERIOD", "20", "TRACKERS", "['wandb','mlflow']"]
    files = [f"--{s}-{kind}" for s in ("train", "val") for kind in ("json", "images")]
    places = [str(data / x) for x in ("train.json", "train", "val.json", "val")]
    flags = [x for pair in zip(files, places, strict=True) for x in pair]
    config = ["--config-file", "ScopeNet_R_50_FPN_1x.yaml"]
    # As for a user: not as under pytest or in CI, where some telemetry is off.
    others = ("PYTEST", "CI", "WANDB", "MLFLOW")
    env = {k: x for k, x in os.environ.items() if not k.startswith(others)}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        env |= {name: f"http://127.0.0.1:{proxy}", name.lower(): f"http://127.0.0.1:{proxy}"}
    env |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "scopenet", "train", *config, *flags, *arguments, *overrides]
    with open(data / "said.txt", "a") as said:
        return subprocess.Popen(
            [*command, "OUTPUT_DIR", str(output)], env=env, stdout=said, stderr=said
        )


@pytest.mark.slow
def test_killed_and_resumed(tmp_path):
    from mlflow import MlflowClient

    for split, seed in (("train", 0), ("val", 1)):
        names = [x | {"name": f"{x['name']} (é)"} for x in CLASSES]
        write_split(
            tmp_path / f"{split}.json", tmp_path / split, num_images=4, seed=seed, categories=names
        )
    output = tmp_path / "output"
    proxy = socket.create_server(("127.0.0.1", 0))
    port = proxy.getsockname()[1]
    process = train(tmp_path, output, proxy=port)
    said, end = tmp_path / "said.txt", time.monotonic() + 300
    while not read_metrics(output / "metrics.json"):
        assert process.poll() is None and time.monotonic() < end, said.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    while not wandb_history(output):  # a process of its own writes it, a moment later
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert train(tmp_path, output, "--resume", proxy=port).wait(300) == 0, said.read_text()
    proxy.setblocking(False)
    with pytest.raises(BlockingIOError):  # nobody wanted to send anything
        proxy.accept()

    lines = list(map(json.loads, (output / "metrics.json").read_text().splitlines()))
    assert [x["iteration"] for x in lines] == [19, 19, 39, 40]  # the first one of the killed run
    losses = {x["iteration"]: x["total_loss"] for x in reversed(lines) if "total_loss" in x}
    last = lines[-1]

    ids = json.loads((output / RUNS).read_text())
    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    experiment = client.get_experiment_by_name("ScopeNet")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_id == ids["mlflow"] and run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "total_loss")
    assert {x.step: x.value for x in history} == losses and len(history) == len(losses)
    assert run.data.metrics["bbox/AP-red ___"] == last["bbox/AP-red (é)"]
    assert run.data.params["SOLVER.MAX_ITER"] == "40"
    assert run.data.tags["checkpoint"] == str(output / "model_final.pth")
    pictures = [x.path for x in client.list_artifacts(run.info.run_id, "images")]
    assert len([x for x in pictures if x.endswith(".png")]) == 2 * 4  # twice 4 images
    assert (output / "mlflow").is_dir()

    rows = wandb_history(output)
    assert [x["_step"] for x in rows] == [19, 39, 40]
    assert {x["_step"]: x["total_loss"] for x in rows if "total_loss" in x} == losses
    started = [x.run for x in wandb_records(output) if x.HasField("run")]
    assert {x.run_id for x in started} == {ids["wandb"]} and len(started) == 2
    config = {x.key: json.loads(x.value_json) for x in started[0].config.update}
    assert config["SOLVER.MAX_ITER"] == 40 and config["SEED"] == 0
    summaries = [x.summary.update for x in wandb_records(output) if x.HasField("summary")]
    summary = {x.key: json.loads(x.value_json) for update in summaries for x in update}
    assert summary["checkpoint"] == str(output / "model_final.pth")
    assert len(list(output.glob("wandb/offline-run-*/files/media/images/validation/*.png"))) == 8
