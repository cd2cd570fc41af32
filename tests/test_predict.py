"""``scopenet predict`` on files: what it finds, writes and refuses."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from builders import write_detector
from detectron2.structures import Boxes, Instances
from miniature import VAL, mini_datasets, one_thread
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from scopenet import ConfigError, Detector, cli
from scopenet.predict.files import coco_results, image_ids, write_results
from scopenet.predict.pictures import draw, write_picture
from scopenet.predict.video import run_video
from scopenet.visualization import CONFIDENCE_COLORS, CONFIDENCES

CONFIG = "configs/ScopeNet_R_50_FPN_1x.yaml"


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    with mini_datasets(folder), one_thread():
        yield folder


@pytest.fixture(scope="module")
def detector_files(tmp_path_factory) -> list[str]:
    """The flags of a detector that finds something, of a data set that is not registered."""
    folder = tmp_path_factory.mktemp("detector")
    config, weights = folder / "config.yaml", folder / "model.pth"
    config.write_text(write_detector(weights).dump())
    return ["--model", str(config), "--weights", str(weights)]


@pytest.fixture
def photos(data, tmp_path) -> Path:
    """A folder of four images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted((data / VAL).iterdir()):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def predict(*arguments: object) -> None:
    assert cli.run("predict", [str(x) for x in arguments]) == 0


def ends_with(*arguments: object) -> str:
    with pytest.raises(SystemExit) as ended:
        cli.run("predict", [str(x) for x in arguments])
    return str(ended.value)


def test_images_of_a_folder(detector_files, photos, tmp_path, capsys):
    output, results = tmp_path / "new" / "pictures", tmp_path / "out" / "found.json"
    arguments = ["--input", photos, "--output", output, "--json", results, "--borders"]
    more = ["--confidence-threshold", 0.2]
    predict(*detector_files, *arguments, *more)
    expected = f"4 images looked at; written to {output} and {results}.\n"
    assert capsys.readouterr().out == expected
    names = sorted(x.name for x in photos.iterdir())
    assert sorted(x.name for x in output.iterdir()) == names
    assert [x.name for x in results.parent.iterdir()] == ["found.json"]
    records = json.loads(results.read_text())
    assert {x["image_id"] for x in records} == {1, 2, 3, 4}
    assert min(x["score"] for x in records) >= 0.2
    image = cv2.imread(str(output / names[0]))
    assert image.shape[1] == 640 and image.shape[0] > 640 * 64 // 96  # a legend is below


def test_results_are_what_coco_evaluates(data, tmp_path):
    truth = COCO(str(data / f"{VAL}.json"))
    records, scores = [], torch.linspace(0.9, 0.8, 9)
    detector = Detector(None, name="x", class_names=["red", "green", "blue"])
    for image in truth.loadImgs(truth.getImgIds()):
        found = truth.imgToAnns[image["id"]]
        boxes = torch.tensor([x["bbox"] for x in found], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        instances = Instances(
            (image["height"], image["width"]),
            pred_boxes=Boxes(boxes),
            scores=scores[: len(boxes)],
            pred_classes=torch.tensor([x["category_id"] - 1 for x in found]),
            loc_scores=scores[: len(boxes)],
            border_scores=torch.tensor([[0.5, 0.6, 0.7, 0.8]] * len(boxes)),
        )
        records += coco_results(instances, detector, image["id"], image["file_name"])
    path = tmp_path / "found.json"
    path.write_text(json.dumps(records))
    evaluation = COCOeval(truth, truth.loadRes(str(path)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    first = records[0]
    assert first["border_scores"] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert first["category_name"] == detector.class_names[first["category_id"] - 1]
    assert first["file_name"] == "000000000001.png" and first["loc_score"] == pytest.approx(0.9)


def test_ids_of_ones_own_json(detector_files, data, photos, tmp_path):
    content = json.loads((data / f"{VAL}.json").read_text())
    for x in content["images"]:  # in deep/, but for the last one
        x["file_name"] = f"deep/{x['file_name']}" if x["id"] < 4 else x["file_name"]
    for x in (*content["images"], *content["categories"]):
        x["id"] = 1000 - x["id"]
    truth, results = tmp_path / "truth.json", tmp_path / "x.json"
    truth.write_text(json.dumps(content | {"annotations": []}))
    (photos / "deep").mkdir()
    for path in sorted(photos.glob("*.png"))[:3]:
        path.rename(photos / "deep" / path.name)
    inputs = ["--input", photos / "deep", photos, "--json", results]
    predict(*detector_files, *inputs, "--images-json", truth, "--confidence-threshold", 0.1)
    records = json.loads(results.read_text())
    # The detector's classes are the json's, and its own data set, which has ids of 1 to 3, is gone.
    assert {(x["image_id"], Path(x["file_name"]).stem[-1]) for x in records} == {
        (1000 - i, str(i)) for i in (1, 2, 3, 4)
    }
    for x in records:
        assert x["category_id"] == 1000 - 1 - ["red", "green", "blue"].index(x["category_name"])


@pytest.mark.parametrize(
    "change, part",
    [
        (lambda x: x["images"].pop(), "000000000004.png is none of the images of"),
        (lambda x: x["categories"].pop(), "has no category blue"),
    ],
)
def test_a_json_of_other_images_or_classes(detector_files, data, photos, tmp_path, change, part):
    content = json.loads((data / f"{VAL}.json").read_text())
    change(content)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    arguments = ["--input", photos, "--json", tmp_path / "x.json"]
    ids = ["--images-json", tmp_path / "truth.json"]
    assert part in ends_with(*detector_files, *arguments, *ids)
    assert not (tmp_path / "x.json").exists()
    only_pictures = ["--input", photos, "--output", tmp_path / "out"]
    assert "give --input and --json" in ends_with(*detector_files, *only_pictures, *ids)


def test_nothing_above_the_threshold_is_told(detector_files, photos, tmp_path, capsys):
    arguments = ["--input", photos, "--json", tmp_path / "x.json"]
    predict(*detector_files, *arguments, "--confidence-threshold", 0.0)
    capsys.readouterr()
    highest = max(x["score"] for x in json.loads((tmp_path / "x.json").read_text()))
    predict(*detector_files, *arguments, "--confidence-threshold", 0.999)
    told = f"with a score of 0.999 or more, the highest is {int(100 * highest) / 100:g};"
    assert highest < 0.999 and told in capsys.readouterr().out
    assert json.loads((tmp_path / "x.json").read_text()) == []


@pytest.mark.parametrize("width", [120, 320, 480, 599, 600, 640, 1500])
def test_text_and_scale_of_a_legend_are_apart(width):
    found = one_box([1.0] * 4)
    picture = draw(np.full((1500, width, 3), 128, np.uint8), found, ["x"], borders=True)
    legend = picture[1500:].astype(int)
    is_text = legend.min(2) > 180
    is_scale = legend.max(2) - legend.min(2) > 100
    rows, columns = (np.flatnonzero(is_scale.sum(axis) > 2) for axis in (1, 0))
    assert is_text.any() and rows.size and columns.size > width / 3
    around = is_text[rows.min() : rows.max() + 1, columns.min() - width // 40 : columns.max() + 1]
    assert not around.any()
    assert not is_text[:, [0, -1]].any()  # nothing is cut off


def test_image_ids():
    assert image_ids(["a/000000000139.jpg", "b/7.png"]) == [139, 7]
    assert image_ids(["a/7.jpg", "b/7.png"]) == [1, 2]
    assert image_ids(["a/7.jpg", "b/x.png"]) == [1, 2]


def test_broken_images_are_left_out_and_the_rest_goes_on(detector_files, photos, tmp_path, capsys):
    (photos / "000000000002.png").write_bytes(b"no image")
    whole = (photos / "000000000003.png").read_bytes()
    (photos / "000000000003.png").write_bytes(whole[: len(whole) // 2])
    results = tmp_path / "found.json"
    more = ["--confidence-threshold", 0.2]
    message = ends_with(*detector_files, "--input", photos, "--json", results, *more)
    assert message == "error: 2 of 4 images could not be read."
    captured = capsys.readouterr()
    assert f"{photos / '000000000002.png'} is left out: it cannot be read" in captured.err
    assert "Traceback" not in captured.err and "2 images looked at" in captured.out
    assert {x["image_id"] for x in json.loads(results.read_text())} == {1, 4}


def test_images_too_thin_are_left_out(detector_files, photos, tmp_path, capsys):
    Image.new("RGB", (9000, 1)).save(photos / "thin.png")
    message = ends_with(*detector_files, "--input", photos, "--json", tmp_path / "x.json")
    assert message == "error: 1 of 5 images could not be read."
    captured = capsys.readouterr()
    thin = f"{photos / 'thin.png'} is left out: An image of 9000 x 1 px is too thin.\n"
    assert thin in captured.err and captured.out.startswith("4 images looked at")


def one_box(border_scores: list[float]) -> Instances:
    return Instances(
        (640, 640),
        pred_boxes=Boxes(torch.tensor([[100.0, 200, 300, 500]])),
        scores=torch.tensor([0.9]),
        pred_classes=torch.tensor([0]),
        border_scores=torch.tensor([border_scores]),
    )


def test_every_border_has_the_colour_of_its_own_confidence():
    confidences = [0.5, 0.7, 0.85, 1.0]  # l, t, r, b
    picture = draw(np.full((640, 640, 3), 128, np.uint8), one_box(confidences), ["x"], borders=True)
    # Two px within the box, far from its corners: the borders are 640 / 110 px wide.
    places = ((350, 102), (202, 250), (350, 297), (497, 200))  # y, x
    for (y, x), confidence in zip(places, confidences, strict=True):
        expected = 255 * np.array(CONFIDENCE_COLORS(CONFIDENCES(confidence))[2::-1])
        assert np.abs(picture[y, x] - expected).max() < 12
    assert picture[350, 200].tolist() == [128] * 3


@pytest.mark.parametrize("shape", [(64, 40), (641, 333), (1000, 1501)])
def test_size_of_pictures_and_names_that_are_no_formulas(shape):
    image, found = np.zeros((*shape, 3), np.uint8), one_box([1.0] * 4)
    plain = draw(image, found, [r"$\frac$"], borders=False)
    scale = max(1, 640 / max(shape))
    assert plain.shape == (round(shape[0] * scale), round(shape[1] * scale), 3)
    with_legend = draw(image, found, [r"$\frac$"], borders=True)
    assert with_legend.shape[1] == plain.shape[1] and with_legend.shape[0] > plain.shape[0]


def test_detector_without_confidences_has_no_borders_to_draw():
    found = one_box([1.0] * 4)
    found.remove("border_scores")
    with pytest.raises(ConfigError, match="leave --borders out"):
        draw(np.zeros((640, 640, 3), np.uint8), found, ["x"], borders=True)
    detector = Detector(None, name="x", class_names=["x"])
    assert "border_scores" not in coco_results(found, detector, 1, "x.png")[0]


def test_tiles_by_flags(detector_files, photos, tmp_path):
    big = np.concatenate([cv2.imread(str(photos / "000000000001.png"))] * 3, axis=1)
    cv2.imwrite(str(tmp_path / "big.png"), big)
    arguments = ["--input", tmp_path / "big.png", "--json", tmp_path / "x.json"]
    predict(*detector_files, *arguments, "--tile", 96, "--overlap", 0)
    boxes = [x["bbox"] for x in json.loads((tmp_path / "x.json").read_text())]
    assert max(x + w for x, _, w, _ in boxes) > 200


def test_what_is_refused(detector_files, photos, tmp_path):
    files = sorted(photos.iterdir())
    text, video = tmp_path / "notes.txt", tmp_path / "film.mp4"
    text.write_text("text")
    video.write_text("no film")
    empty = tmp_path / "empty"
    empty.mkdir()
    clash = tmp_path / "clash"
    clash.mkdir()
    (clash / files[0].name).write_bytes(files[0].read_bytes())
    output = ["--output", tmp_path / "out"]
    weights = detector_files[3]
    for arguments, expected in (
        (["--input", "absent.png", *output], "absent.png does not exist"),
        (["--input", "absent*.png", *output], "matches nothing as a pattern"),
        (["--input", empty, *output], "holds no .png"),
        (["--input", text, *output], "is no image by its suffix"),
        (["--input", video, *output], "--video-input"),
        (["--input", photos], "Nothing would be kept"),
        (["--input", photos, "--output", text], "neither a folder nor a file"),
        (["--input", photos, "--output", tmp_path / "x.png"], "is one file, but there are 4"),
        (["--input", photos, "--output", photos], "is an input and would be overwritten"),
        (["--input", photos, clash, *output], "Two inputs are called"),
        (["--input", files[0], "--output", text / "sub"], "is a file; name a folder|cannot be"),
        (["--input", photos, "--json", tmp_path / "x.txt"], "not the name of a .json file"),
        (["--input", photos, *output, "--confidence-threshold", 1.1], "must be in [0, 1]"),
        (["--input", photos, *output, "--confidence-threshold", "nan"], "must be in [0, 1]"),
        (["--input", photos, *output, "--tile", 100, "--overlap", 100], "less than the tile"),
        (["--input", photos, *output, "--model", "x.onnx"], "an exported model has none"),
        (["--video-input", video, "--output", tmp_path / "x.gif"], "not the name of an .mp4"),
        (["--video-input", video, "--output", tmp_path / "x.mp4"], "cannot be opened"),
        (["--video-input", "absent.mp4", "--output", tmp_path / "x.mp4"], "does not exist"),
    ):
        message = ends_with(*detector_files, *arguments)
        assert message.startswith("error: ")
        assert any(x in message for x in expected.split("|")), message
    good = ["--input", photos, *output]
    config = detector_files[:2]
    absent = ends_with(*config, "--weights", "absent.pth", *good)
    assert absent.startswith("error: The weights absent.pth do not exist; ")
    assert "names no weights" in ends_with(*config, *good)
    other = ["MODEL.SCOPENET.NUM_CLASSES", "4"]
    assert "do not fit" in ends_with(*config, "--weights", weights, *good, *other)
    assert not list(tmp_path.glob("*.mp4.*")) and {x.name for x in photos.iterdir()} == {
        x.name for x in files
    }


def test_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    picture, results = tmp_path / "x.png", tmp_path / "x.json"
    write_picture(np.zeros((4, 5, 3), np.uint8), picture)
    write_results([{"score": 0.5}], results)
    before = {x: x.read_bytes() for x in (picture, results)}
    assert cv2.imread(str(picture)).shape == (4, 5, 3)

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    for write in (
        lambda: write_picture(np.ones((4, 5, 3), np.uint8), picture),
        lambda: write_results([{"score": 0.6}], results),
    ):
        with pytest.raises(OSError, match="No space left"):
            write()
    assert {x: x.read_bytes() for x in tmp_path.iterdir()} == before


def test_picture_that_a_format_cannot_hold(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot write .*x\.webp, a picture of 20000 x 2 px"):
        write_picture(np.zeros((2, 20000, 3), np.uint8), tmp_path / "x.webp")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fake_runtime(monkeypatch):
    """In place of ``scopenet.runtime``: a predictor that finds the whole image."""

    class Predictor:
        def __init__(self, path, device="cpu", batch_size=1, num_threads=None):
            self.class_names = ["thing"]

        def __call__(self, image):
            height, width = image.shape[:2]
            found = Instances((height, width))
            found.pred_boxes = Boxes(torch.tensor([[0.0, 0, width, height]]))
            found.pred_classes = torch.tensor([0])
            found.scores = found.cls_scores = found.loc_scores = torch.tensor([0.75])
            found.border_scores = torch.full((1, 4), 0.75)
            return {"instances": found}

    monkeypatch.setattr("scopenet.runtime.Predictor", Predictor)


def test_exported_models(fake_runtime, photos, tmp_path):
    folder = tmp_path / "exported"
    folder.mkdir()
    good = ["--input", photos, "--json", tmp_path / "x.json"]
    assert "it has none" in ends_with("--model", folder, *good)
    (folder / "model.onnx").touch()
    for model in (folder, folder / "model.onnx"):
        predict("--model", model, *good)
        first = json.loads((tmp_path / "x.json").read_text())[0]
        assert first["category_name"] == "thing" and first["bbox"] == [0, 0, 96, 64]
    (folder / "other.xml").touch()
    assert "has model.onnx, other.xml" in ends_with("--model", folder, *good)
    assert "is a checkpoint; name its config" in ends_with("--model", "x.pth", *good)
    one = ["--model", folder / "model.onnx", "--weights", "x.pth"]
    assert "of a config" in ends_with(*one, *good)


def test_exported_model_that_is_not_there(photos, tmp_path):
    message = ends_with("--model", "absent.onnx", "--input", photos, "--json", tmp_path / "x.json")
    assert message == "error: The exported model absent.onnx does not exist."


def write_video(path: Path, frames: int) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
    assert writer.isOpened()
    for i in range(frames):
        writer.write(np.full((64, 96, 3), 20 * i, np.uint8))
    writer.release()


@pytest.mark.parametrize("suffix", ["mp4", "avi", "mkv"])
def test_video(fake_runtime, tmp_path, suffix, capsys):
    model, source = tmp_path / "model.onnx", tmp_path / "film.avi"
    model.touch()
    write_video(source, frames=5)
    output, results = tmp_path / "out" / f"seen.{suffix}", tmp_path / "x.json"
    arguments = ["--video-input", source, "--output", output, "--json", results, "--borders"]
    predict("--model", model, *arguments)
    assert capsys.readouterr().out.startswith("5 frames looked at; written to ")
    seen = cv2.VideoCapture(str(output))
    frames = [seen.read() for _ in range(6)]
    assert [x for x, _ in frames] == [True] * 5 + [False]
    assert seen.get(cv2.CAP_PROP_FPS) == pytest.approx(10) and frames[0][1].shape[1] == 640
    assert [x["image_id"] for x in json.loads(results.read_text())] == [1, 2, 3, 4, 5]
    assert [x.name for x in output.parent.iterdir()] == [output.name]


def test_webcam_needs_a_display_or_a_file(fake_runtime, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    model = tmp_path / "model.onnx"
    model.touch()
    message = ends_with("--model", model, "--webcam")
    assert message.startswith("error: There is no display")
    absent = ends_with("--model", model, "--webcam", 99, "--output", model.parent / "x.mp4")
    assert absent == "error: Webcam 99 cannot be opened by OpenCV."


class FakeWebcam:
    """Gives black frames; somebody presses Ctrl-C during the fourth."""

    def __init__(self, number):
        self.frames = 0

    def isOpened(self):
        return True

    def get(self, what):
        return 0.0

    def read(self):
        self.frames += 1
        if self.frames == 4:
            raise KeyboardInterrupt
        return True, np.zeros((64, 96, 3), np.uint8)

    def release(self):
        pass


def test_interrupted_webcam_leaves_a_whole_video(tmp_path, monkeypatch):
    capture, output = cv2.VideoCapture, tmp_path / "seen.mp4"
    monkeypatch.setattr(cv2, "VideoCapture", FakeWebcam)
    assert run_video(0, output, lambda frame, _: frame) == (3, 0)
    assert int(capture(str(output)).get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    (tmp_path / "film.avi").touch()
    monkeypatch.setattr(FakeWebcam, "read", lambda _: (False, None))
    with pytest.raises(ConfigError, match="No frame of"):
        run_video(str(tmp_path / "film.avi"), tmp_path / "x.mp4", lambda frame, _: frame)
    assert {x.name for x in tmp_path.iterdir()} == {"film.avi", "seen.mp4"}


def test_interrupted_file_leaves_no_video(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeWebcam)
    (tmp_path / "film.avi").touch()
    with pytest.raises(KeyboardInterrupt):
        run_video(str(tmp_path / "film.avi"), tmp_path / "x.mp4", lambda frame, _: frame)
    assert {x.name for x in tmp_path.iterdir()} == {"film.avi"}
