"""Generated bad images and jsons: the check says what is wrong, its copy is clean, and training on
the data as they are leaves out what is unusable or stops with one sentence.

With SCOPENET_ALL_FAULTS=1 all 200 cases, else 32 of them.
"""

import contextlib
import csv
import io
import json
import logging
import math
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from bad_data import FAULTS, UNREADABLE, write_data
from detectron2.data import DatasetCatalog, MetadataCatalog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from miniature import TINY
from tally import ROWS, counted
from trainings import FULL

from scopenet import cli
from scopenet.config_file import find_config
from scopenet.data.check import command as check_command
from scopenet.data.custom import is_custom

pytestmark = pytest.mark.faults

CONFIG = "OwnData-ScopeNet_R_50_FPN_GN.yaml"
LIMIT = 2  # unreadable images
SECONDS = 120  # after which a case counts as hanging
# Nothing that another json could mend.
OF_THE_FILES = {"16-bit image"}


class Ending(NamedTuple):
    code: int
    printed: str  # to standard output
    errors: str  # to standard error


def program(name: str, argv: list) -> Ending:
    """Run a subcommand; anything but an exit is raised."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    streams[1].reconfigure(errors="backslashreplace")  # as Python sets up the real ones
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            code = cli.run(name, list(map(str, argv)))
        except SystemExit as end:
            code = end.code
            if isinstance(code, str):
                print(code, file=sys.stderr)
                code = 1
        texts = [stream.flush() or stream.buffer.getvalue().decode() for stream in streams]
    return Ending(code, *texts)


def check(
    folder: Path, json_file: Path, *more: str, draws: bool = True
) -> tuple[Ending, list[dict[str, str]]]:
    """scopenet check, if asked for without its histograms, and the findings that it wrote."""
    output = folder / "check"
    shutil.rmtree(output, ignore_errors=True)
    argv = ["--json", json_file, "--images", folder / "images", "--output", output]
    with pytest.MonkeyPatch.context() as patch:
        if not draws:  # most of the time that it takes
            patch.setattr(check_command, "plot_boxes", lambda *_: None)
        ending = program("check", [*argv, "--num-samples", "2", *more, *TINY])
    findings = output / "findings.csv"
    if not findings.exists():
        return ending, []
    with findings.open(newline="", encoding="utf-8") as f:
        return ending, list(csv.DictReader(f))


def train(folder: Path, json_file: Path, output: Path) -> Ending:
    """scopenet train, of which the data are the validation set, too."""
    files = [str(json_file), str(folder / "images")]
    flags = ["--train-json", "--train-images", "--val-json", "--val-images"]
    argv = ["--config-file", find_config(CONFIG)]
    argv += [x for pair in zip(flags, files * 2, strict=True) for x in pair]
    argv += [*TINY, "MODEL.SCOPENET.NORM", "", "SOLVER.MAX_ITER", "6", "TEST.EVAL_PERIOD", "0",
             "DATALOADER.MAX_UNREADABLE_IMAGES", str(LIMIT), "OUTPUT_DIR", str(output)]  # fmt: skip
    try:
        return program("train", argv)
    finally:
        forget()


def forget() -> None:
    """Leaves the catalogs and the loggers as they were."""
    for name in filter(is_custom, DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    for logger in map(logging.getLogger, ("detectron2", "fvcore", "scopenet")):
        for handler in [*logger.handlers]:
            logger.removeHandler(handler)
            handler.close()


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in [folder / "labels.json", *folder.glob("images/*")]
            if p.is_file()}  # fmt: skip


def assert_one_sentence(text: str, folder: Path) -> None:
    """It begins with "error: ", and says which file or key."""
    lines = text.strip().splitlines()
    assert "Traceback" not in text, text
    assert lines[-1].startswith("error: ") and lines[-1].endswith("."), text
    assert sum(x.startswith("error: ") for x in lines) == 1
    names = [str(folder), "training set", "The cleaned copy", "DATALOADER.MAX_UNREADABLE_IMAGES"]
    assert any(x in lines[-1] for x in names), text


def assert_checked(ending: Ending, findings: list[dict], expected: set[str], folder: Path) -> None:
    assert "Traceback" not in ending.errors
    kinds = {x["kind"] for x in findings}
    errors = [x for x in findings if x["severity"] == "error"]
    if ending.code == 2:
        assert_one_sentence(ending.errors, folder)
        return
    assert ending.code == bool(errors)
    assert not expected or expected & kinds, (expected, kinds)
    for x in findings:
        assert x["file"] and (x["id"] or x["detail"].startswith("entry "))
        assert x["kind"] in ending.printed


def assert_trained(ending: Ending, output: Path, folder: Path) -> None:
    """To the end and without NaN, or else stopped with a sentence."""
    log = (output / "log.txt").read_text() if (output / "log.txt").exists() else ""
    assert "Traceback" not in ending.errors and "Logging error" not in ending.errors
    if ending.code:
        assert ending.code == 1
        assert_one_sentence(ending.errors, folder)
        return
    weights = torch.load(output / "model_final.pth", weights_only=True)["model"]
    assert all(x.isfinite().all() for x in weights.values())
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    losses = [v for x in lines for k, v in x.items() if "loss" in k or k.startswith("validation")]
    assert losses and all(map(math.isfinite, losses))
    assert not (output / "non_finite").exists()  # no iteration was skipped either
    assert log.count("These are") <= 4 * LIMIT  # training and three loops over the validation set


def assert_left_out_is_counted(findings: list[dict], ending: Ending, output: Path) -> None:
    unreadable = {x["file"] for x in findings if x["kind"] in UNREADABLE | {"other size"}}
    if ending.code:
        return
    log = (output / "log.txt").read_text()
    assert len(unreadable) <= LIMIT and all(f"{x} cannot be read" in log for x in unreadable)
    for kind, number in Counter(x["kind"] for x in findings).items():
        if kind.startswith(("box ", "no box", "unknown")) and "partly" not in kind:
            assert f"{number} left out: {kind}" in log


def hang(*_) -> None:
    raise TimeoutError(f"not done after {SECONDS} s")


@contextlib.contextmanager
def bounded():
    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    write_data(folder)
    return folder


def assert_survived(folder: Path, expected: set[str]) -> None:
    """``expected``: kinds of finding of which there must be one."""
    labels, copy = folder / "labels.json", folder / "fixed.json"
    before = bytes_of(folder)

    ending, findings = check(folder, labels, "--fix", copy)
    assert_checked(ending, findings, expected, folder)
    trained = train(folder, labels, folder / "output")
    assert_trained(trained, folder / "output", folder)
    assert_left_out_is_counted(findings, trained, folder / "output")
    if ending.code == 0:
        assert trained.code == 0, trained.errors
    assert copy.exists() == (ending.code != 2)
    if copy.exists():
        again, remaining = check(folder, copy, draws=False)
        assert {x["kind"] for x in remaining if x["severity"] == "error"} <= OF_THE_FILES
        assert again.code == bool(OF_THE_FILES & {x["kind"] for x in remaining}), again.errors
        if findings != remaining:
            trained = train(folder, copy, folder / "output_fixed")
            assert_trained(trained, folder / "output_fixed", folder)
            assert trained.code == 0, trained.errors
    assert bytes_of(folder) == before


@pytest.mark.parametrize("fault", FAULTS, ids=lambda x: x.__name__)
def test_bad_data(fault, clean, quiet_after):
    name = f"bad data: {fault.__name__.replace('_', ' ')}"
    number = FAULTS[fault] if FULL else max(1, round(0.15 * FAULTS[fault]))

    @settings(max_examples=number, derandomize=True, database=None, deadline=None,
              phases=[Phase.generate], suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.data())
    def one(data):
        with tempfile.TemporaryDirectory() as root, bounded():
            folder = shutil.copytree(clean, Path(root) / "data")
            expected = fault(data.draw, folder)
            with counted(name):
                assert_survived(folder, expected)

    one()
    assert ROWS[name].survived == number
