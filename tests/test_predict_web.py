"""The page in the browser: what it answers, whom it talks to, what a person sees."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from chromium import Browser
from detectron2.structures import Boxes, Instances
from PIL import Image

from scopenet import ConfigError, Detector, cli
from scopenet.predict import web
from scopenet.predict.command import look_at


def predict(image: np.ndarray) -> dict:
    """Two objects wherever one looks."""
    found = Instances(image.shape[:2])
    found.pred_boxes = Boxes(torch.tensor([[10.0, 20, 40, 60], [50, 20, 80, 30]]))
    found.pred_classes = torch.tensor([1, 0])
    found.scores = found.cls_scores = torch.tensor([0.9, 0.6])
    found.loc_scores = torch.tensor([0.975, 0.75])
    found.border_scores = torch.tensor([[0.95, 0.96, 1, 0.99], [0.5, 0.7, 0.8, 1]])
    return {"instances": found}


DETECTOR = Detector(predict, name="x", class_names=["<b>cat", "dog"])


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.new("RGB", (100, 80), "blue").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def respond(file: Path, *controls):
    return web.respond(str(file), *controls, detector=DETECTOR, look=look_at)


def test_answer(photo):
    picture, rows, summary = respond(photo, 0.5, 0.0, True)
    assert summary == "2 objects in 100 × 80 px."
    assert picture.shape[1] == 640 and picture.shape[0] > 512  # a legend is below
    assert picture[500, 600].tolist() == [0, 0, 255]  # RGB
    assert rows[0] == ["dog", "90%", "98%", "95%", "96%", "100%", "99%",
                       "10.0", "20.0", "30.0", "40.0"]  # fmt: skip
    assert respond(photo, 0.5, 0.0, False)[0].shape == (512, 640, 3)


def test_thresholds(photo):
    assert [x[0] for x in respond(photo, 0.7, 0.0, True)[1]] == ["dog"]
    assert [x[0] for x in respond(photo, 0.5, 0.94, True)[1]] == ["dog"]
    picture, rows, summary = respond(photo, 0.5, 0.96, True)  # one border of each is below
    assert (rows, summary) == ([], "0 objects in 100 × 80 px.") and picture is not None


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    picture, rows, summary = respond(tmp_path / "notes.txt", 0.5, 0.0, True)
    assert picture is None and rows == []
    assert summary == "This file cannot be shown: it cannot be read (no known image format)."
    nothing = web.respond(None, 0.5, 0.0, True, detector=DETECTOR, look=look_at)
    assert nothing == (None, [], "Drop an image on the left.")


def test_detector_without_confidences(photo):
    found = predict(np.zeros((80, 100, 3), np.uint8))["instances"]
    found.remove("border_scores")
    plain = Detector(lambda _: {"instances": found}, name="x", class_names=["cat", "dog"])
    picture, rows, _ = web.respond(str(photo), 0.5, 0.9, True, detector=plain, look=look_at)
    assert picture.shape == (512, 640, 3) and rows[0][2:7] == [""] * 5


def ends_with(*arguments: str) -> object:
    with pytest.raises(SystemExit) as ended:
        cli.run("web", arguments)
    return ended.value.code


def test_bad_flags_end_in_a_sentence():
    absent = ends_with("--model", "absent.onnx")
    assert absent == "error: The exported model absent.onnx does not exist."
    message = ends_with("--model", "absent.onnx", "--confidence-threshold", "2")
    assert message == "error: --confidence-threshold must be in [0, 1], got 2.0."
    assert "give --tile" in ends_with("--model", "absent.onnx", "--overlap", "2")


def test_without_gradio(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    message = ends_with("--model", "absent.onnx")
    assert message.startswith("error: gradio is missing here: pip install") and "[web]" in message
    assert ends_with("--help") == 0
    assert "--port" in capsys.readouterr().out


def test_telemetry_is_off_before_gradio_is_imported(tmp_path):
    """In a new process, with a Gradio that tells what it finds."""
    (tmp_path / "gradio.py").write_text(
        "import os\nprint('telemetry:', os.environ.get('GRADIO_ANALYTICS_ENABLED'))"
    )
    code = "from scopenet.predict import web; print('before'); web.import_gradio()"
    entries = [str(tmp_path), *sys.path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(entries)}
    environment.pop("GRADIO_ANALYTICS_ENABLED", None)
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == ["before", "telemetry: False"], done.stderr


@pytest.fixture(scope="module")
def address():
    page = web.build_page(DETECTOR, tile=None, overlap=None, score_thresh=0.5)
    with socket.create_server((web.HOST, 0)) as free:
        port = free.getsockname()[1]
    yield web.serve(page, port, block=False)
    page.close(verbose=False)


def upload(browser: Browser, address: str, file: Path, expected: str) -> None:
    browser("Page.navigate", url=address)
    browser.wait_for("document.querySelector('input[type=file]') !== null")
    browser.upload("input[type=file]", file)
    browser.wait_for(f"document.body.innerText.includes({expected!r})")


@pytest.mark.browser
def test_page_in_a_browser(address, photo, tmp_path):
    notes, screenshot = tmp_path / "notes.png", tmp_path / "page.png"
    notes.write_text("text")
    with Browser(tmp_path / "profile") as browser:
        upload(browser, address, photo, "2 objects in 100 × 80 px.")
        browser.wait_for("[...document.images].some(x => x.naturalWidth === 640)")
        browser.wait_for("document.body.innerText.includes('<b>cat')")  # text, not markup
        assert "dog" in browser.text() and "95%" in browser.text()
        browser.screenshot(screenshot)
        upload(browser, address, notes, "This file cannot be shown")
        browser.wait_for("![...document.images].some(x => x.naturalWidth === 640)")
        requests = browser.requests()
    local = [x for x in requests if x.startswith(address)]
    assert len(local) > 10
    elsewhere = set(requests) - set(local)
    assert all(x.startswith(("data:", "blob:")) for x in elsewhere), elsewhere
    with Image.open(screenshot) as image:
        assert image.width == 1250
        cyan = (np.abs(np.asarray(image.convert("RGB")).astype(int) - [46, 230, 214]) < 12).all(2)
        assert cyan.sum() > 200  # borders of full confidence


def test_page_is_of_this_machine_only(address):
    assert address.startswith("http://127.0.0.1:")
    page = web.build_page(DETECTOR, tile=None, overlap=None, score_thresh=0.5)
    assert not page.analytics_enabled
    with pytest.raises(ConfigError, match="is taken; choose another with --port"):
        web.serve(page, int(address.rstrip("/").rpartition(":")[2]), block=False)
    assert page.share_url is None
