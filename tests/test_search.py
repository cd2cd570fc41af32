"""search.py: what is tried, given up, done again after a kill, and told in the end."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from test_harness import ENVIRONMENT, PRESET, ROOT

from experiments import search as module
from experiments.harness import RunFailed
from experiments.job import Job
from experiments.results import COLUMNS, KEY, Results
from experiments.search import Key, search, trials_table, watch
from scopenet import ConfigError
from scopenet.data.digits import prepare_digits
from scopenet.engine.reliability import non_finite

JOB = Job("paper/table1/guided_score.yaml", "Trees", 0, eval_period=10)
RATE = Key.parse("SOLVER.BASE_LR=float:0.001:0.1:log")
LOSS = Key.parse("MODEL.SCOPENET.LOC_LOSS_TYPE=choice:iou:giou")


@pytest.mark.parametrize(
    "text",
    [
        *("SOLVER.BASE_LR", "SOLVER.BASE_LR=float:1", "K=float:2:1", "K=float:0:1:log"),
        *("K=float:a:b", "K=float:1:2:3", "K=choice", "K=list:1:2"),
    ],
)
def test_what_is_no_key(text):
    with pytest.raises(ConfigError, match=f"--key {text} is none of"):
        Key.parse(text)


def test_validations_are_reported_once_and_a_trial_is_given_up(tmp_path):
    class Trial:
        reports: list[tuple] = []

        def report(self, value, step):
            self.reports.append((value, step))

        def should_prune(self):
            return self.reports[-1][0] < 2

    run = SimpleNamespace(folder=tmp_path, key={"iterations": 40})
    lines = [{"iteration": i, "bbox/AP": ap} for i, ap in ((9, 3.0), (19, 4.0), (39, 0.0))]
    (tmp_path / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
    trial, seen = Trial(), set()
    watch(trial, run, seen)
    watch(trial, run, seen)
    assert trial.reports == [(3.0, 10), (4.0, 20)]  # the end comes with the results
    with open(tmp_path / "metrics.json", "a") as f:
        f.write('\n{"iteration": 29, "bbox/AP": 1.0}\n')
    with pytest.raises(optuna.TrialPruned, match="AP 1.0 after 30 iterations"):
        watch(trial, run, seen)


def ap_of(overrides: tuple[str, ...]) -> float:
    """A peak of 50 at a rate of 0.03; GIoU is 5 better."""
    values = dict(zip(overrides[::2], overrides[1::2], strict=True))
    return 50 - 500 * abs(float(values["SOLVER.BASE_LR"]) - 0.03) + 5 * ("giou" in overrides)


@pytest.fixture
def runs(monkeypatch) -> list[Job]:
    """The jobs that were run, none of which trains."""
    for name in ("experiments.job.check_datasets", "scopenet.engine.checks.check_datasets"):
        monkeypatch.setattr(name, lambda *_: None)
    monkeypatch.setattr("scopenet.engine.checks.check_num_classes", lambda *_: None)
    done = []

    def run(run, results, num_gpus, progress, watch):
        done.append(run.job)
        ap = ap_of(run.job.overrides)
        run.folder.mkdir(parents=True, exist_ok=True)
        for iteration, part in ((9, 0.3), (19, 0.6)):
            line = {"iteration": iteration, "bbox/AP": part * ap}
            with open(run.folder / "metrics.json", "a") as f:
                f.write(json.dumps(line) + "\n")
            watch()
        results.add(dict.fromkeys(COLUMNS) | run.key | {"AP": ap})
        return True

    monkeypatch.setattr(module, "try_to_execute", run)
    return done


def go_on(folder: Path, trials: int) -> optuna.Study:
    options = {"storage": folder / "search.db", "output": folder / "runs"}
    return search(JOB, [RATE, LOSS], trials=trials, **options)


def test_search(tmp_path, runs):
    study = go_on(tmp_path / "whole", 10)
    assert len(runs) == 10 and len(set(runs)) == 10
    # The config's own values come first.
    assert runs[0].overrides == ("SOLVER.BASE_LR", "0.0025", LOSS.name, "iou")
    states = [x.state.name for x in study.trials]
    assert states[:5] == ["COMPLETE"] * 5 and states.count("PRUNED") >= 2
    assert study.best_value == pytest.approx(max(ap_of(x.overrides) for x in runs), abs=1e-3)
    assert study.best_value > ap_of(runs[0].overrides)
    # With an interruption nothing else is tried, and what is done is not done again.
    whole, runs[:] = [*runs], []
    go_on(tmp_path / "parts", 6)
    go_on(tmp_path / "parts", 10)
    assert runs == whole
    go_on(tmp_path / "parts", 10)
    assert len(runs) == 10


def test_table(tmp_path, runs):
    study = go_on(tmp_path, 8)
    header, _, first, *_, last = (
        [x.strip() for x in line.split("|")[1:-1]] for line in trials_table(study).splitlines()
    )
    assert header == ["trial", RATE.name, LOSS.name, "AP", "given up after"]
    best = study.best_trial
    assert first == [str(best.number), f"{best.params[RATE.name]:.3g}", best.params[LOSS.name],
                     f"{best.value:.1f}", ""]  # fmt: skip
    (worst,) = (x for x in study.trials if str(x.number) == last[0])
    assert worst.state.name == "PRUNED" and last[-1] in ("10", "20")
    assert last[-2] == f"{worst.intermediate_values[int(last[-1])]:.1f}"


def test_a_run_that_fails(tmp_path, runs, monkeypatch):
    def fail(run, *_, **__):
        raise RunFailed("a, seed 0: no memory (see console.log)")

    monkeypatch.setattr(module, "try_to_execute", fail)
    with pytest.raises(ConfigError, match="no memory.*; the same command goes on with other"):
        go_on(tmp_path, 2)

    def diverge(run, *_, **__):
        (run.folder / non_finite.FOLDER).mkdir(parents=True)
        fail(run)

    monkeypatch.setattr(module, "try_to_execute", diverge)
    study = go_on(tmp_path, 2)
    assert [x.state.name for x in study.trials] == ["FAIL", "PRUNED", "PRUNED"]
    assert trials_table(study).splitlines()[-1].split()[-2] == "0"


def test_what_cannot_be_searched(tmp_path, runs):
    options = {"trials": 1, "storage": tmp_path / "a.db", "output": tmp_path}
    with pytest.raises(ConfigError, match="Unknown key SOLVER.BASE_RATE"):
        search(JOB, [Key.parse("SOLVER.BASE_RATE=float:1:2")], **options)
    with pytest.raises(ConfigError, match="Type mismatch .* for config key: SOLVER.MAX_ITER"):
        search(JOB, [Key.parse("SOLVER.MAX_ITER=choice:10:many")], **options)
    assert not runs and not (tmp_path / "a.db").exists()


def states(storage: Path) -> list[str]:
    with sqlite3.connect(storage) as database:
        return [x for (x,) in database.execute("select state from trials order by number")]


@pytest.mark.slow
def test_killed_search_goes_on_with_its_trial(tmp_path):
    prepare_digits(tmp_path, train=8, val=4, size=64)
    (tmp_path / "mini.yaml").write_text(PRESET)
    arguments = ["search.py", "paper/table3/p_loc.yaml", "--preset", str(tmp_path / "mini.yaml")]
    arguments += ["--key", "SOLVER.BASE_LR=float:0.001:0.1:log", "--eval-period", "20"]
    arguments += ["--trials", "1", "--output", str(tmp_path / "out")]
    # A dead process is missed after 2 s instead of 40.
    program = (
        "import runpy, sys, experiments.search as module; module.HEARTBEAT = 1;"
        f"sys.argv = {arguments}; runpy.run_path({str(ROOT / 'projects/ScopeNet/search.py')!r}, "
        "run_name='__main__')"
    )
    path = os.pathsep.join((ENVIRONMENT["PYTHONPATH"], str(ROOT / "projects/ScopeNet")))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | ENVIRONMENT | {"DETECTRON2_DATASETS": str(tmp_path), "PYTHONPATH": path},
    )
    end = time.monotonic() + 300
    while not (found := [*tmp_path.glob("out/mini/*/seed0/model_0000029.pth")]):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert states(tmp_path / "out/search.db") == ["RUNNING"]
    time.sleep(3)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | ENVIRONMENT | {"DETECTRON2_DATASETS": str(tmp_path), "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "The best: SOLVER.BASE_LR 0.01" in done.stdout
    assert states(tmp_path / "out/search.db") == ["FAIL", "COMPLETE"]
    (folder,) = tmp_path.glob("out/mini/*/seed0")
    assert folder == found[0].parent and "Loading from" in (folder / "log.txt").read_text()
    table = Results(tmp_path / "out/results.csv").read()
    assert table["config"].tolist() == ["paper/table3/p_loc SOLVER.BASE_LR 0.01"]
    assert table[KEY].notna().all(axis=None) and table["AP"].notna().all()
