"""``--resume`` with damaged or missing checkpoints, and downloads of weights that fail."""

import http.server
import os
import shutil
import threading
from contextlib import contextmanager

import pytest
import torch
from tally import counted
from trainings import ITERATIONS, assert_same, final_state, train_here

from scopenet.engine.reliability.checkpoint_file import TAG, is_sound

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("mini", "quiet_after")]


@pytest.fixture
def folder(undisturbed_here, tmp_path):
    """With the checkpoints of a whole training."""
    return shutil.copytree(undisturbed_here.folder, tmp_path / "output")


def flip(path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path) -> None:
    os.truncate(path, path.stat().st_size // 2)


DAMAGES = {"flipped": flip, "truncated": truncate, "removed": os.unlink}


@pytest.mark.parametrize("damage", DAMAGES)
def test_falls_back_to_the_newest_sound_one(folder, undisturbed_here, damage, caplog):
    DAMAGES[damage](folder / "model_final.pth")
    with counted(f"the last checkpoint {damage}") as row:
        training = train_here(folder, "--resume")
        said = f"{folder / 'model_final.pth'} is damaged or missing; going on from"
        assert f"{said} model_0000011.pth" in caplog.text
        assert training.iterations() == [12, 13]
        assert dict(training.entries()).items() <= dict(undisturbed_here.entries()).items()
        assert final_state(folder).keys() == final_state(undisturbed_here.folder).keys()
        assert is_sound(folder / "model_final.pth")
        row.again.append(ITERATIONS - 12)


def test_falls_back_over_several(folder, undisturbed_here, caplog):
    for name, damage in (("final", truncate), ("0000011", flip), ("0000007", os.unlink)):
        damage(folder / f"model_{name}.pth")
    training = train_here(folder, "--resume")
    assert "model_0000011.pth is damaged or missing; going on from model_0000003" in caplog.text
    assert training.iterations() == [*range(4, ITERATIONS)]
    assert dict(training.entries()).items() <= dict(undisturbed_here.entries()).items()


@pytest.mark.parametrize("content", [b"\0\xff", b"", b"model_best.pth", None])
def test_last_checkpoint_garbled_or_missing(folder, content, caplog):
    (folder / "model_final.pth").unlink()
    (folder / TAG).unlink() if content is None else (folder / TAG).write_bytes(content)
    shutil.copy(folder / "model_0000003.pth", folder / "model_best.pth")
    with counted("last_checkpoint garbled or missing") as row:
        training = train_here(folder, "--resume")
        assert "last_checkpoint is damaged or missing; going on from model_0000011" in caplog.text
        assert training.iterations() == [12, 13]
        row.again.append(0)


def test_goes_on_from_what_the_tag_names(folder):
    (folder / TAG).write_text("model_0000003.pth\n")
    assert train_here(folder, "--resume").iterations()[0] == 4


def test_nothing_sound(folder):
    for path in folder.glob("model_*.pth"):
        truncate(path)
    before = {x.name: x.read_bytes() for x in folder.glob("model_*")}
    with counted("all checkpoints truncated: refused with a sentence"):
        with pytest.raises(SystemExit, match=f"error: No checkpoint in {folder} is sound"):
            train_here(folder, "--resume")
        assert {x.name: x.read_bytes() for x in folder.glob("model_*")} == before


def test_eval_only_falls_back(folder, caplog):
    flip(folder / "model_final.pth")
    with counted("--eval-only --resume with the last checkpoint flipped"):
        train_here(folder, "--eval-only", "--resume", "DATASETS.TEST", "('mini_val',)")
        assert "model_final.pth is damaged or missing; going on from" in caplog.text
        assert (folder / "inference/coco_instances_results.json").exists()


def test_eval_only_without_a_checkpoint(tmp_path):
    with pytest.raises(SystemExit, match="error: --eval-only --resume, but .* has no checkpoint"):
        train_here(
            tmp_path / "output",
            *("--eval-only", "--resume"),
            *("DATASETS.TEST", "('mini_val',)"),
        )


def test_a_finished_training_says_so(folder, caplog):
    assert train_here(folder, "--resume").iterations() == []
    assert f"has had its {ITERATIONS} iterations" in caplog.text


def stop(iteration: int) -> None:
    """Ends a training in an iteration without a checkpoint."""
    if iteration == 9:
        raise MemoryError


def test_the_best_checkpoint_goes_on_too(undisturbed_here, tmp_path):
    """Stopped between two evaluations; also the random states do not move by an evaluation."""
    more = ["DATASETS.TEST", "('mini_val',)", "TEST.EVAL_PERIOD", "4"]
    whole, output = tmp_path / "whole", tmp_path / "output"
    undisturbed = train_here(whole, *more)
    with pytest.raises(MemoryError):
        train_here(output, *more, after=stop)
    assert is_sound(output / "model_best.pth")
    assert (output / TAG).read_text() == "model_0000007.pth"
    training = train_here(output, "--resume", *more)
    assert_same(training, undisturbed)
    best = [torch.load(x / "model_best.pth", weights_only=True)["best"] for x in (whole, output)]
    assert best[0] == best[1]


OPTIONS = {
    "average": ["SOLVER.EMA.ENABLED", "True"],
    "parts": ["SOLVER.ACCUMULATION", "2"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options_that_go_on(tmp_path, option):
    more = OPTIONS[option]
    undisturbed = train_here(tmp_path / "whole", *more)

    with counted(f"stopped and resumed with {more[0]}") as row:
        with pytest.raises(MemoryError):
            train_here(tmp_path / "output", *more, after=stop)
        training = train_here(tmp_path / "output", "--resume", *more)
        assert_same(training, undisturbed)
        row.again.append(2)


@pytest.mark.parametrize("before, after", [("True", "False"), ("False", "True")])
def test_an_average_that_comes_or_goes_changes_no_training(
    undisturbed_here, tmp_path, before, after
):
    key = "SOLVER.EMA.ENABLED"
    output = tmp_path / "other"
    with pytest.raises(MemoryError):
        train_here(output, key, before, after=stop)
    train_here(output, "--resume", key, after)
    found, expected = final_state(output), final_state(undisturbed_here.folder)
    weights = ".trainer.training_weights" if after == "True" else ".model"
    names = [k for k in expected if k.startswith(".model.")]
    for name in names:
        assert torch.equal(found[name.replace(".model", weights, 1)], expected[name]), name
    if after == "True":
        assert found[".trainer.averaged_iterations"] == ITERATIONS - 8
        assert not all(torch.equal(found[x], expected[x]) for x in names)
    else:
        assert ".trainer.averaged_iterations" not in found


# What a training starts from.


@contextmanager
def server(content: bytes, announced: int):
    """Its one file ends before its announced size."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(announced))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}/weights.pth"
        web.shutdown()


def test_download_that_breaks_off(undisturbed_here, tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    content = (undisturbed_here.folder / "model_final.pth").read_bytes()
    more = ["MODEL.WEIGHTS"]
    with counted("a download of weights that breaks off: refused with a sentence"):
        with server(content[:1000], len(content)) as address:
            with pytest.raises(SystemExit, match="error: The weights could not be downloaded"):
                train_here(tmp_path / "output", *more, address)
        assert not [*(tmp_path / "cache").rglob("weights.pth")]
    with counted("a server of weights that is not there: refused with a sentence"):
        with pytest.raises(SystemExit, match="error: The weights could not be downloaded"):
            train_here(tmp_path / "output", *more, address)
    assert not [*(tmp_path / "output").glob("model_*")]
