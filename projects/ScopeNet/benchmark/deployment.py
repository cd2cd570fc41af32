"""How long the exported formats of ScopeNet take for an image, beside the model in PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from scopenet import __version__
from scopenet.errors import ConfigError
from scopenet.export.formats import FORMATS
from scopenet.export.graph import DetectionGraph
from scopenet.modeling import ScopeNet
from scopenet.runtime.metadata import Metadata
from scopenet.runtime.predictor import predict

from .contestants import Contestant
from .measure import Laps, Work, time_in_turns
from .suites import Record, Settings
from .workload import Case, random_inputs

CASE = Case(1, 480, 640, 0)
TURN = 2.0  # seconds
EXPORTS = {
    "TorchScript": ("torchscript", "float32"),
    "pt2": ("pt2", "float32"),
    "onnxruntime": ("onnx", "float32"),
    "OpenVINO float32": ("openvino", "float32"),
    "OpenVINO bfloat16": ("openvino", "bfloat16"),
    "OpenVINO int8": ("openvino", "int8"),
}


class DeploymentSuite:
    """From a BGR image of the network's size to instances; on the CPU whatever the device."""

    name = "deployment"

    def run(self, contestants: Sequence[Contestant], settings: Settings) -> Iterator[Record]:
        """Time PyTorch and the exported formats in turns.

        Raises:
            ConfigError: ScopeNet is not among the contestants, or a package is missing.
        """
        contestant = scopenet_of(contestants, self.name)
        image = set_candidates(contestant, settings)
        with TemporaryDirectory() as folder:
            works = {"PyTorch": image_work(_eager(contestant.model), image)}
            for name, (format_name, precision) in EXPORTS.items():
                path = Path(folder, f"{format_name}-{precision}{FORMATS[format_name].suffix}")
                export(contestant.model, path, format_name, precision)
                backend = FORMATS[format_name].load(path)
                works[name] = image_work(partial(predict, backend), image)
            device, repeats = torch.device("cpu"), settings.repeats
            times = time_in_turns(works, device, repeats=repeats, turn=TURN)
        for name in works:
            yield Record(self.name, name, CASE, times[name], 0)


def scopenet_of(contestants: Sequence[Contestant], suite: str) -> Contestant:
    """Return the first ScopeNet; a ConfigError says that a suite has none to measure."""
    contestant = next((x for x in contestants if isinstance(x.model, ScopeNet)), None)
    if contestant is None or contestant.model.device.type != "cpu":
        raise ConfigError(f"The suite {suite} needs ScopeNet among the detectors, on a CPU.")
    return contestant


def _eager(model: ScopeNet) -> Callable[[np.ndarray], dict]:
    """Do what Detectron2's ``DefaultPredictor`` does after the resizing."""
    model.eval()

    @torch.no_grad()
    def run(image: np.ndarray) -> dict:
        height, width = image.shape[:2]
        pixels = torch.from_numpy(image.astype("float32").transpose(2, 0, 1))
        return model([{"image": pixels, "height": height, "width": width}])[0]

    return run


def set_candidates(contestant: Contestant, settings: Settings) -> np.ndarray:
    """Set the score threshold by an image of the suite's size, and return it, BGR."""
    inputs = random_inputs(CASE, contestant.model.num_classes, "cpu")
    contestant.set_candidates(inputs, settings.candidates, settings.nms_thresh)
    return inputs[0]["image"].permute(1, 2, 0).contiguous().numpy()


def export(
    model: ScopeNet,
    path: Path,
    format_name: str,
    precision: str,
    calibration: Sequence[np.ndarray] = (),
) -> None:
    """Write an exported file that takes images as they are, for int8 calibrated on BGR images, by
    default random ones."""
    metadata = Metadata(__version__, [], 0, 0, precision, model.detection_options, "")
    graph = DetectionGraph(model, reverses_channels=False)
    calibration = calibration or [
        x["image"].permute(1, 2, 0).contiguous().numpy()
        for seed in range(4)
        for x in random_inputs(CASE, model.num_classes, "cpu", seed)
    ]
    FORMATS[format_name].write(graph, metadata, path, calibration)


def image_work(run: Callable[[np.ndarray], dict], image: np.ndarray) -> Work:
    def timed(laps: Laps) -> None:
        run(image)
        laps.mark("image")

    return Work(timed)
