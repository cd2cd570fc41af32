"""Running exported files: resizing, results, settings and what is wrong with a file, on a model
that tells the size and brightness of its image."""

import itertools
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import cv2
import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge, ResizeTransform
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from onnx import TensorProto, helper

from scopenet import ConfigError
from scopenet.runtime import Predictor, backends
from scopenet.runtime.backends import load_backend
from scopenet.runtime.metadata import KEY, Metadata, Outputs, parse_metadata
from scopenet.runtime.predictor import ArrayInstances, network_size, rescale, resize, to_instances

METADATA = Metadata(
    version="0.1.0",
    class_names=["red", "green", "blue"],
    min_size=20,
    max_size=40,
    precision="float32",
    thresholds={"score_thresh": 0.05},
    config="MODEL: {}\n",
)


def toy_model() -> onnx.ModelProto:
    """Two boxes: the whole image, scored by its first pixel's blue / 255, and one that is empty."""
    constants = {
        "empty": np.float32([[3, 3, 3, 9]]),
        "zeros": np.float32([[0, 0]]),
        "wh": np.int64([1, 0]),
        "first": np.int64([0, 0, 0]),
        "max": np.float32(255),
        "classes": np.int64([2, 1]),
        "two": np.int64([2]),
        "borders": np.float32([[0.1, 0.2, 0.3, 0.4]] * 2),
        "row": np.int64([1, 2]),
    }
    nodes = [
        ("Shape", ["image"], "shape"),
        ("Gather", ["shape", "wh"], "size"),
        ("Cast", ["size"], "size_f", {"to": TensorProto.FLOAT}),
        ("Reshape", ["size_f", "row"], "size_row"),
        ("Concat", ["zeros", "size_row"], "whole", {"axis": 1}),
        ("Concat", ["whole", "empty"], "boxes", {"axis": 0}),
        ("Cast", ["image"], "image_f", {"to": TensorProto.FLOAT}),
        ("GatherND", ["image_f", "first"], "blue"),
        ("Div", ["blue", "max"], "score"),
        ("Expand", ["score", "two"], "scores"),
        ("Identity", ["scores"], "cls_scores"),
        ("Identity", ["scores"], "loc_scores"),
        ("Identity", ["borders"], "border_scores"),
        ("Identity", ["classes"], "classes_out"),
    ]
    nodes = [helper.make_node(x[0], x[1], [x[2]], **(x[3] if x[3:] else {})) for x in nodes]
    nodes[-1].output[0], nodes[-1].input[0] = "classes", "class_values"
    constants["class_values"] = constants.pop("classes")
    outputs = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if name == "classes" else TensorProto.FLOAT, None
        )
        for name in Outputs._fields[:-1]  # without border_stds
    ]
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3])],
        outputs,
        [onnx.numpy_helper.from_array(x, name) for name, x in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def write_toy(path, metadata: Metadata | None = METADATA, text: str | None = None):
    """An .onnx or .xml file of the toy model."""
    model = toy_model()
    text = metadata.to_json() if text is None and metadata else text
    if path.suffix == ".onnx":
        if text is not None:
            helper.set_model_props(model, {KEY: text})
        onnx.save(model, path)
        return path
    model = openvino.Core().read_model(model.SerializeToString())
    if text is not None:
        model.set_rt_info(text, [KEY])
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def run_python(program: str, *arguments, flags=()) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, *flags, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(params=[".onnx", ".xml"])
def toy(request, tmp_path):
    return write_toy(tmp_path / f"model{request.param}")


def image(height, width, blue=51):
    pixels = np.full((height, width, 3), 7, np.uint8)
    pixels[..., 0] = blue
    return pixels


# --- resizing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_resize_is_that_of_detectron2(seed):
    generator = np.random.default_rng(seed)
    old = generator.integers(1, 200, 2)
    new = generator.integers(1, 260, 2)
    if seed % 2:  # sharp edges
        pixels = (generator.random((*old, 3)) > 0.5).astype(np.uint8) * 255
    else:
        pixels = generator.integers(0, 256, (*old, 3), dtype=np.uint8)
    found = resize(pixels, *new)
    assert found.dtype == np.uint8 and found.flags.writeable
    assert np.array_equal(found, ResizeTransform(*old, *new).apply_image(pixels))


def test_resize_to_the_same_size_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(resize(pixels, 5, 7), pixels)


@pytest.mark.parametrize("seed", range(20))
def test_network_size_is_that_of_detectron2(seed):
    height, width, min_size, max_size = np.random.default_rng(seed).integers(30, 900, 4).tolist()
    expected = ResizeShortestEdge.get_output_shape(height, width, min_size, max_size)
    assert network_size(height, width, min_size, max_size) == expected


def test_network_size_of_extremes():
    assert network_size(33, 47, 0, 0) == (33, 47)
    assert network_size(1, 5000, 800, 1333) == (1, 1333)


# --- results --------------------------------------------------------------------------------------


def outputs(boxes) -> Outputs:
    count = len(boxes)
    values = np.linspace(0.9, 0.1, count, dtype=np.float32)
    borders = np.arange(4 * count, dtype=np.float32).reshape(count, 4)
    classes = np.arange(count)
    return Outputs(np.float32(boxes), values, classes, values / 2, values / 3, borders)


def test_rescale_is_that_of_detectron2():
    generator = np.random.default_rng(0)
    corners = generator.uniform(-20, 120, (50, 4)).astype(np.float32)
    corners[::5, 2:] = corners[::5, :2]  # empty
    found = rescale(outputs(corners), (100, 120), (333, 250))
    instances = Instances((100, 120), pred_boxes=Boxes(torch.from_numpy(corners.copy())))
    instances.row = torch.arange(50)
    expected = detector_postprocess(instances, 333, 250)
    assert 5 < len(expected) < 45
    assert found.classes.tolist() == expected.row.tolist()
    np.testing.assert_allclose(found.boxes, expected.pred_boxes.tensor, rtol=1e-6)
    assert np.array_equal(found.border_scores[:, 0], 4 * found.classes)


def test_instances_have_the_fields_of_the_model():
    instances = to_instances(outputs([[1, 2, 3, 4]]), (10, 20))
    assert isinstance(instances, Instances) and instances.image_size == (10, 20)
    assert instances.pred_boxes.tensor.tolist() == [[1, 2, 3, 4]]
    assert instances.pred_classes.tolist() == [0]
    names = {"pred_boxes", "pred_classes", "scores", "cls_scores", "loc_scores", "border_scores"}
    assert set(instances.get_fields()) == names


# --- predictor ------------------------------------------------------------------------------------


def test_predictor_resizes_and_scales_back(toy):
    predictor = Predictor(toy)
    assert predictor.class_names == ["red", "green", "blue"]
    instances = predictor(image(100, 50))["instances"]
    # 100 x 50 becomes 40 x 20; the whole of that is the whole image, the empty box is gone.
    assert instances.image_size == (100, 50)
    assert instances.pred_boxes.tensor.tolist() == [[0, 0, 50, 100]]
    assert instances.pred_classes.tolist() == [2]
    assert instances.scores.tolist() == pytest.approx([0.2])
    assert instances.border_scores.tolist() == [pytest.approx([0.1, 0.2, 0.3, 0.4])]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_lists_keep_their_order(toy, batch_size):
    predictor = Predictor(toy, batch_size=batch_size, num_threads=2)
    images = [image(30 + i, 40, blue=5 * i) for i in range(20)]
    found = predictor(images)
    assert [x["instances"].image_size for x in found] == [(30 + i, 40) for i in range(20)]
    scores = [x["instances"].scores.item() for x in found]
    assert scores == pytest.approx([5 * i / 255 for i in range(20)])
    assert predictor([]) == []
    endless = predictor.stream(image(30, 40, blue=i % 50) for i in itertools.count())
    scores = [next(endless)["instances"].scores.item() for _ in range(9)]
    assert scores == pytest.approx([i / 255 for i in range(9)])


@pytest.mark.parametrize(
    "wrong, named",
    [
        (np.zeros((4, 4), np.uint8), "(4, 4)"),
        (np.zeros((4, 4, 4), np.uint8), "(4, 4, 4)"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (None, "NoneType"),  # what cv2.imread returns for a file it cannot read
    ],
)
def test_what_is_no_image(toy, wrong, named):
    with pytest.raises(ValueError, match="uint8, BGR, not") as error:
        Predictor(toy)([wrong])
    assert named in str(error.value)


# --- files ----------------------------------------------------------------------------------------


def error_of(path, **options) -> str:
    with pytest.raises(ConfigError) as error:
        Predictor(path, **options)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")
    return str(error.value)


def test_files_that_are_none(tmp_path):
    assert "neither .onnx nor .xml" in error_of(tmp_path / "model.pth")
    for suffix in (".onnx", ".xml"):
        path = tmp_path / f"model{suffix}"
        assert "does not exist" in error_of(path)
        path.write_bytes(b"\x80\x04garbage")
        assert str(path) in error_of(path) and "cannot be read" in error_of(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize(
    "text, named",
    [
        (None, "scopenet export"),
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({"format": 2} | asdict(METADATA)), "format 2"),
        (json.dumps({"format": 1} | asdict(METADATA) | {"precision": "int3"}), "int3"),
        (json.dumps({"format": 1} | asdict(METADATA) | {"min_size": -1}), "damaged"),
        (json.dumps({"format": 1} | asdict(METADATA) | {"class_names": [1]}), "damaged"),
        (json.dumps({"format": 1, "class_names": []}), "damaged"),
    ],
)
def test_metadata_that_are_missing_or_damaged(tmp_path, suffix, text, named):
    message = error_of(write_toy(tmp_path / f"model{suffix}", None, text))
    assert named in message and str(tmp_path) in message


def test_metadata_that_are_no_text(tmp_path):
    path = write_toy(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes().replace(b'"red"', b'"r\xffd"'))
    assert f"{path} cannot be read as ONNX: UnicodeDecodeError" in error_of(path)


@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
@pytest.mark.parametrize("old, new", [(b"image", b"imagx"), (b"border_scores", b"border_scorex")])
def test_graphs_that_are_no_detectors(tmp_path, suffix, old, new):
    path = write_toy(tmp_path / f"model{suffix}")
    path.write_bytes(path.read_bytes().replace(old, new))
    message = error_of(path)
    assert str(path) in message and f"{new.decode()}" in message and "no detections." in message


def test_graphs_that_openvino_cannot_compile(tmp_path):
    path = write_toy(tmp_path / "model.xml")
    path.write_text(path.read_text().replace('element_type="u8"', "", 1))
    assert f"{path} cannot be compiled by OpenVINO" in error_of(path)


def test_damaged_metadata_are_refused_by_an_optimized_python_too():
    program = (
        "import sys; from scopenet.runtime.metadata import *; parse_metadata(sys.argv[1], 'x')"
    )
    # Without torch: Python would compile all of it anew for -O.
    program = f"HIDDEN = {HIDDEN}\n{HIDE}\n{program}"
    done = run_python(program, replace(METADATA, min_size=-1).to_json(), flags=["-O"])
    assert done.returncode == 1 and "The metadata in x are damaged: " in done.stderr


def test_metadata_come_back():
    metadata = replace(METADATA, class_names=["à propos", '"quoted"'])
    assert parse_metadata(metadata.to_json(), "x") == metadata


@pytest.mark.parametrize(
    "suffix, options, named",
    [
        (".onnx", {"device": "npu9"}, "npu9"),
        (".xml", {"device": "npu9"}, "NPU9"),
        (".onnx", {"precision": "bfloat16"}, "export it to OpenVINO"),
        (".xml", {"precision": "int8"}, "--precision int8"),
        (".xml", {"precision": "fp4"}, "fp4"),
        (".xml", {"batch_size": 0}, "at least 1"),
        (".onnx", {"num_threads": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be(tmp_path, suffix, options, named):
    assert named in error_of(write_toy(tmp_path / f"model{suffix}"), **options)


@pytest.mark.parametrize("device", ["cpu", "CUDA", "tensorrt", "TensorRT"])
def test_devices_of_onnxruntime(tmp_path, monkeypatch, device):
    available = [f"{x}ExecutionProvider" for x in ("Tensorrt", "CUDA", "CPU")]
    seen, session = [], onnxruntime.InferenceSession

    def spy(path, options, providers):
        seen.extend(providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    path = write_toy(tmp_path / "model.onnx")
    Predictor(path, device=device)
    assert len(seen) == 1 and seen[0].lower() == f"{device}ExecutionProvider".lower()
    assert seen[0] in available
    assert "which has tensorrt, cuda, cpu." in error_of(path, device="rocm")


@pytest.mark.parametrize(
    "recorded, given, capabilities, expected",
    [
        ("float32", None, ["FP32", "BF16"], "f32"),
        ("bfloat16", None, ["FP32", "BF16"], "bf16"),
        ("bfloat16", None, ["FP32"], "f32"),
        ("float32", "bfloat16", ["FP32", "BF16"], "bf16"),
        ("bfloat16", "float32", ["FP32", "BF16"], "f32"),
        ("int8", None, ["FP32", "BF16"], "f32"),
    ],
)
def test_precision_of_openvino(tmp_path, monkeypatch, recorded, given, capabilities, expected):
    path = write_toy(tmp_path / "model.xml", replace(METADATA, precision=recorded))
    seen = []
    compile_model = openvino.Core.compile_model

    def spy(core, model, device, settings):
        seen.append(settings)
        return compile_model(core, model, device, {"INFERENCE_PRECISION_HINT": "f32"})

    monkeypatch.setattr(openvino.Core, "compile_model", spy)
    monkeypatch.setattr(openvino.Core, "get_property", lambda core, device, name: capabilities)
    Predictor(path, precision=given, batch_size=2, num_threads=1)
    assert seen == [
        {"INFERENCE_PRECISION_HINT": expected, "NUM_STREAMS": 2, "INFERENCE_NUM_THREADS": 1}
    ]


def test_threads_of_onnxruntime_are_shared(tmp_path):
    path = write_toy(tmp_path / "model.onnx")
    for batch_size, num_threads, each in ((1, 3, 3), (2, 4, 2), (4, 2, 1)):
        predictor = Predictor(path, batch_size=batch_size, num_threads=num_threads)
        options = predictor._backend.session.get_session_options()
        assert options.intra_op_num_threads == each


def test_results_outlive_the_next_call(toy):
    backend = load_backend(toy)
    first = backend(image(10, 20, blue=51))
    backend(image(30, 40, blue=255))
    assert first.boxes[0].tolist() == [0, 0, 20, 10]
    assert first.scores[0] == pytest.approx(0.2)


@pytest.mark.parametrize("suffix, package", [(".onnx", "onnxruntime"), (".xml", "openvino")])
def test_missing_packages_are_named(tmp_path, monkeypatch, suffix, package):
    path = write_toy(tmp_path / f"model{suffix}")
    monkeypatch.setattr(backends, "openvino_core", backends.openvino_core.__wrapped__)
    monkeypatch.setitem(sys.modules, package, None)
    message = error_of(path)
    assert f"pip install {package}" in message and "scopenet[" in message


def test_signals_are_handled_after_predictors_are_gone(tmp_path):
    """OpenVINO frees what signal handlers run on with the second of two cores, see the backend."""
    path = write_toy(tmp_path / "model.xml")
    program = """
import os, signal, sys
from scopenet.runtime import Predictor
first, second = Predictor(sys.argv[1]), Predictor(sys.argv[1])
del first
del second
signal.signal(signal.SIGUSR1, lambda *x: print("handled"))
os.kill(os.getpid(), signal.SIGUSR1)
"""
    assert run_hidden(program, path) == ["handled"]


HIDE = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in HIDDEN:
            raise ModuleNotFoundError(name)

import importlib.util
find = importlib.util.find_spec
importlib.util.find_spec = lambda x, *a: None if x in ("torch", "detectron2") else find(x, *a)
sys.meta_path.insert(0, Without())

def show(found):
    print(type(found).__name__, len(found), found.pred_boxes.tolist(), found.pred_classes.tolist(),
          found.image_size)
"""
FOUND = f"{ArrayInstances.__name__} 1 [[0.0, 0.0, 50.0, 100.0]] [2] (100, 50)"
HIDDEN = ["torch", "torchvision", "detectron2", "omegaconf", "yacs", "yaml", "pycocotools", "cv2"]


def run_hidden(program: str, *arguments) -> list[str]:
    """The lines that a program prints in a process that cannot import these packages."""
    done = run_python(f"HIDDEN = {HIDDEN}\n{HIDE}\n{program}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_without_torch_and_detectron2(toy, tmp_path):
    """In a process that has neither, results are plain arrays and nothing of the rest is loaded."""
    cv2.imwrite(str(tmp_path / "image.png"), image(100, 50))
    program = """
from scopenet.images import read_image
from scopenet.runtime import Predictor
show(Predictor(sys.argv[1])(read_image(sys.argv[2]))["instances"])
"""
    assert run_hidden(program, toy, tmp_path / "image.png") == [FOUND]


def test_detector_without_torch_and_detectron2(toy, tmp_path):
    """The same by the one object for all detectors, which reads files with Pillow."""
    cv2.imwrite(str(tmp_path / "image.png"), image(100, 50))
    (tmp_path / "broken.png").write_bytes(b"no image")
    program = """
from scopenet import Detector
detector = Detector.load(sys.argv[1])
show(detector(sys.argv[2])["instances"])
show(Detector.load(sys.argv[3], device="CPU")([sys.argv[2]])[0]["instances"])
print(detector.class_names, detector.category_ids, detector.network)
try:
    detector(sys.argv[4])
except ValueError as error:
    print(error)
"""
    files = [toy, tmp_path / "image.png", tmp_path, tmp_path / "broken.png"]
    assert run_hidden(program, *files) == [
        FOUND,
        FOUND,
        "['red', 'green', 'blue'] [1, 2, 3] None",
        f"{tmp_path / 'broken.png'} cannot be read (no known image format).",
    ]
