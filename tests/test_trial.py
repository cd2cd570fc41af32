"""The trial of a device: limits and outcomes of its steps, what they report, and all of it once."""

import sys
import time
from collections.abc import Callable
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pandas as pd
import pytest
import torch
from steps_to_try import fails, hangs, prints

from benchmark import variants, works
from benchmark.contestants import STOCK_CONFIGS, build_contestant
from benchmark.report import variants as table_of_variants
from benchmark.results import Results
from benchmark.suites import Record
from benchmark.suites import Settings as Measurement
from benchmark.variants import VariantsSuite
from benchmark.workload import Case, random_inputs
from trial import device_tests, main, training
from trial.device_tests import summary
from trial.process import LAST_LINES, Outcome, run_limited
from trial.settings import Settings

CPU = torch.device("cpu")


# Steps


def test_a_step_that_is_done(tmp_path):
    outcome = run_limited(prints, ("all is well",), tmp_path / "log", 600)
    assert (outcome.state, outcome.last_lines) == ("done", [])
    assert (tmp_path / "log").read_text() == "all is well\n"


def test_a_step_that_fails_shows_its_last_lines(tmp_path):
    outcome = run_limited(fails, (100,), tmp_path / "log", 600)
    assert outcome.state == "failed"
    assert outcome.last_lines == [str(i) for i in range(100 - LAST_LINES, 100)]


def test_a_step_that_hangs_is_stopped_with_all_that_it_has_started(tmp_path, monkeypatch):
    pid, join = tmp_path / "pid", SpawnProcess.join

    def patient(process, timeout=None):
        """Let the time be over when the step hangs, however long it takes to get there."""
        if timeout is None:
            join(process)
        else:
            wait_for(lambda: pid.is_file() and pid.read_text())

    monkeypatch.setattr(SpawnProcess, "join", patient)
    outcome = run_limited(hangs, (pid,), tmp_path / "log", 1)
    assert outcome.state == "stopped" and outcome.last_lines == ["waiting"]
    wait_for(lambda: not is_running(pid.read_text()))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_running(pid: str) -> bool:
    """One that has ended, but that nobody has asked how, is not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


# What is reported


def test_summary_of_tests():
    report = (
        '<testsuites><testsuite><testcase name="a[cuda]"/><testcase name="b[cuda]"/>'
        '<testcase name="c[cuda]"><failure message="AssertionError: 1 | 2&#10;more">x</failure>'
        '</testcase><testcase name="d"><skipped message="needs two GPUs"/></testcase>'
        "</testsuite></testsuites>"
    )
    first, *_, failed, skipped = summary(report).splitlines()
    assert first == "2 of 4 tests passed."
    assert failed == r"| `c[cuda]` | failure | AssertionError: 1 \| 2 more |"
    assert skipped == "| `d` | skipped | needs two GPUs |"
    assert summary("<testsuites><testcase name='a'/></testsuites>") == "1 of 1 tests passed.\n"


def test_a_failed_test_is_reported_and_fails_the_step(tmp_path, monkeypatch):
    monkeypatch.setattr(device_tests, "TESTS", tmp_path / "test_x.py")
    device_tests.TESTS.write_text("def test_a():\n    pass\n\ndef test_b():\n    assert 0, 'no'\n")
    with pytest.raises(SystemExit, match="1"):
        device_tests.run(Settings.of("cpu", tmp_path))
    text = (tmp_path / "tests.md").read_text()
    assert text.startswith("1 of 2 tests passed.\n") and "| `test_b` | failure | Asser" in text


def test_losses_beside_those_of_the_cpu():
    def run(*losses, skipped=0):
        return {"losses": list(losses), "seconds": 0.01, "MiB": None, "skipped": skipped}

    runs = {"cuda, float16": run(2.0, 1.1, 1, 1, 1, 9, skipped=1)}
    (row,) = training.compared(runs).to_dict("records")
    assert row["difference"] == "–" and row["skipped"] == 1 and row["ms per iteration"] == "10"
    runs[training.CPU] = run(2.0, 1.0, 1, 1, 1, 3)
    first, second = training.compared(runs).to_dict("records")
    assert (first["difference"], second["difference"]) == ("1.0e-01", "0.0e+00")  # not of the sixth
    assert first["first loss"] == "2.0000" and first["last 20"] == "2.517"


def test_a_training_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def train(settings, name, device, precision):
        if precision == "bfloat16":
            raise RuntimeError("no bfloat16 here")
        return {"losses": [2.0, 1.0], "seconds": 0.01, "MiB": None, "skipped": 0}

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "prepare_digits", lambda *_, **__: [])
    with pytest.raises(SystemExit, match="Failed: cpu, bfloat16."):
        training.run(Settings.of("cpu", tmp_path))
    text = (tmp_path / "training.md").read_text()
    assert "| cpu, float32 " in text and f"| {training.CPU} " in text and "bfloat16" not in text


def test_page(tmp_path):
    settings = Settings.of("cpu", tmp_path)
    (tmp_path / "tests.md").write_text("3 of 3 tests passed.\n")
    (tmp_path / "timing.md").write_text("a table\n")
    outcomes = {
        "tests": Outcome("done", 12.3, []),
        "traces": Outcome("failed", 1.0, ["RuntimeError: no kernel"]),
        "timing": Outcome("stopped", 99.6, ["a bar"]),
    }
    text = main.page(settings, {"hardware": "1 x Card", "commit": "abc"}, outcomes)
    assert text.startswith("# A trial on 1 x Card\n\n- hardware: 1 x Card\n- commit: abc\n\n| step")
    assert (
        "| Tests | done | 12 |\n| A step in detail | failed | 1 |\n| Times | stopped | 100 |"
        in text
    )
    tests, details, times = text.split("\n## ")[1:]
    assert tests == "Tests\n\n3 of 3 tests passed.\n"
    assert details.endswith("`traces.log`:\n\n```\nRuntimeError: no kernel\n```\n")
    assert "a table\n\nStopped after 100 s; there is no more than this.\n" in times


def test_limits_add_up_to_less_than_ten_minutes():
    limits = [x.limit for x in main.STEPS.values()]
    assert sum(limits[:-1]) < main.LIMIT - 120 and limits[-1] == main.LIMIT < 600


def test_without_a_gpu_it_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["try_gpu.py", "--output", str(tmp_path / "x")])
    with pytest.raises(SystemExit, match="error: There is no GPU here; --device cpu runs every"):
        main.run()
    assert not (tmp_path / "x").exists()


def test_table_of_variants():
    case, found = Case(1, 800, 1344, 0), Results({}, [], [])
    for suite, detector, seconds in (
        ("inference, float32, as it is", "ScopeNet", 0.02),
        ("inference, float32, as it is", "FCOS", 0.03),
        ("inference, bfloat16, compiled", "ScopeNet", 0.01),
        ("training, float32, as it is", "ScopeNet", 0.1),
    ):
        found.add(Record(suite, detector, case, [{"all": seconds}], 2**21))
    first, second = table_of_variants(found.table(), "inference").to_dict("records")
    assert first["network"] == "as it is" and first["ScopeNet, ms"] == "20.0 ± 0.0"
    assert first["FCOS, ms"] == "30.0 ± 0.0" and first["ScopeNet, MiB"] == "2"
    assert second["precision"] == "bfloat16" and second["FCOS, ms"] == "–"
    assert isinstance(table_of_variants(found.table(), "training"), pd.DataFrame)


# All of it


@pytest.mark.slow
def test_variants_of_the_benchmark(monkeypatch):
    monkeypatch.setattr(variants, "compile_network", lambda model: compiled.append(model))
    compiled = []
    contestants = [build_contestant(x, STOCK_CONFIGS[x], "cpu") for x in ("ScopeNet", "FCOS")]
    for x in contestants:
        x.imitate_training(random_inputs(Case(1, 128, 160, 0), 80, "cpu"))
    suite = VariantsSuite((64, 96), (torch.bfloat16,))
    found = Results({}, [], [])
    for record in suite.run(contestants, Measurement(CPU, repeats=1)):
        assert record.peak_bytes > 0
        found.add(record)
    assert len(found.records) == 2 * 2 * 3  # steps, detectors, forms
    forms = {name.split(", ")[2] for name in found.table()["suite"]}
    assert forms == {"as it is", "channels last", "compiled"}
    assert len(compiled) == 2 and not any(x is y.model for x in compiled for y in contestants)
    weight = contestants[0].model.head.cls_score.weight
    assert weight.is_contiguous()  # the detectors themselves stay as they are
    conv = compiled[0].head.cls_score.weight
    assert conv.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_a_step_that_fails_is_left_out(capsys):
    def training_step(contestant, inputs, precision):
        work = works.training_step(contestant, inputs, precision)
        return work._replace(run=fail) if contestant.name == "FCOS" else work

    def fail(laps):
        raise AssertionError("bad box")

    contestants = [build_contestant(x, STOCK_CONFIGS[x], "cpu") for x in ("ScopeNet", "FCOS")]
    suite = VariantsSuite((64, 96))
    suite.steps = {"training": (training_step, Case(2, 64, 96, 3))}
    options = "as it is", torch.float32, Measurement(CPU, repeats=1)
    assert [x.detector for x in suite._steps(contestants, *options)] == ["ScopeNet"]
    assert not [*suite._steps(contestants[1:], *options)]  # as where each is compiled alone
    expected = "FCOS, training, float32, as it is: left out, as it fails: bad box"
    assert expected in capsys.readouterr().out


@pytest.mark.slow
def test_on_the_cpu(tmp_path, monkeypatch):
    """All but the times, of which compiling takes minutes, and the tests, which run anyway."""
    unlimited = {name: step._replace(limit=1e4) for name, step in main.STEPS.items()}
    monkeypatch.setattr(main, "STEPS", unlimited)
    monkeypatch.setattr(main, "LIMIT", 1e4)
    arguments = ["--device", "cpu", "--steps", "training", "traces", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["try_gpu.py", *arguments])
    main.run()
    text = (tmp_path / "page.md").read_text()
    assert text.count("| done |") == 2
    names = ("losses.png", "trace_training.json.gz", "trace_inference.json.gz")
    assert all((tmp_path / x).stat().st_size > 1000 for x in names)
    assert not (tmp_path / "work").exists()
    rows = [x for x in text.splitlines() if x.startswith("| cpu, ")]
    assert [x.split()[2] for x in rows] == ["float32", "bfloat16"] and " 0.0e+00 " in rows[0]
    assert "`aten::_local_scalar_dense`" in text and "`aten::convolution_backward`" in text
