"""What detectors take for an image on CPUs, in PyTorch and in OpenVINO, beside those of others."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import torch

from scopenet.export.graph import needs_square
from scopenet.export.verification import find_samples
from scopenet.images import read_image
from scopenet.runtime.backends import load_backend, openvino_core
from scopenet.runtime.predictor import predict

from . import works
from .contestants import Contestant
from .deployment import TURN, export, image_work
from .measure import Work, time_in_turns
from .suites import Record, Settings
from .workload import Case, random_inputs

NUM_PHOTOGRAPHS = 64  # that int8 is calibrated on
BOXES = 7  # in the image of a training step


class LightSuite:
    """A training step, and from a BGR image of the network's size to instances, all in turns; on
    the CPU whatever the device."""

    name = "light"

    def __init__(
        self,
        sizes: Sequence[int] = (320, 640),
        photographs: str = "",
        peers: Sequence[tuple[str, Path]] = (),
    ):
        """
        Args:
            sizes: px, of square images.
            photographs: a data set or folder, to calibrate int8 on; random images if "".
            peers: names and OpenVINO files of other detectors, which take (1, 3, H, W) float32,
                of one of ``sizes`` or of any.
        """
        self.sizes, self.photographs, self.peers = sizes, photographs, peers

    def run(self, contestants: Sequence[Contestant], settings: Settings) -> Iterator[Record]:
        """Time the detectors at each size; a ConfigError says that something is missing."""
        for size in self.sizes:
            case = Case(1, size, size, 0)
            images = self._photographs(size)
            with TemporaryDirectory() as folder:
                todo: dict[str, Work] = {}
                for x in contestants:
                    forms = self._forms(x, case, settings, images, Path(folder))
                    todo |= {f"{x.name}: {form}": work for form, work in forms.items()}
                for name, path in self.peers:
                    model = openvino_core().read_model(path)
                    if _takes(model, size):
                        todo[f"{name}: OpenVINO, one size"] = _peer(model, size)
                device, repeats = torch.device("cpu"), settings.repeats
                times = time_in_turns(todo, device, repeats=repeats, turn=TURN)
            for name in todo:
                yield Record(self.name, name, case, times[name], 0)

    def _photographs(self, size: int) -> list[np.ndarray]:
        records = find_samples(self.photographs, NUM_PHOTOGRAPHS) if self.photographs else []
        return [cv2.resize(read_image(x["file_name"]), (size, size)) for x in records]

    @staticmethod
    def _forms(contestant, case, settings, images, folder: Path) -> dict[str, Work]:
        model = contestant.model
        if needs_square(model):  # as all images of this suite are
            model.backbone._square_pad = case.width
        labelled = random_inputs(case._replace(boxes=BOXES), model.num_classes, "cpu")
        inputs = random_inputs(case, model.num_classes, "cpu")
        contestant.set_candidates(inputs, settings.candidates, settings.nms_thresh)
        image = inputs[0]["image"].permute(1, 2, 0).contiguous().numpy()
        forms = {
            "training step": works.training_step(contestant, labelled, settings.precision),
            "PyTorch": works.inference(contestant, inputs, torch.float32),
        }
        for precision in ("float32", "int8"):
            path = folder / f"{contestant.name} {precision}.xml"
            export(model, path, "openvino", precision, images)
            forms[f"OpenVINO {precision}"] = image_work(partial(predict, load_backend(path)), image)
        fixed = folder / f"{contestant.name} fixed.xml"
        _fix_size(path, case, fixed)
        backend = load_backend(fixed)
        return forms | {"OpenVINO int8, one size": image_work(partial(predict, backend), image)}


def _fix_size(path: Path, case: Case, output: Path) -> None:
    """Write an exported file anew for images of one size, as docs/backbones.md does."""
    import openvino

    model = openvino_core().read_model(path)
    model.reshape([case.height, case.width, 3])
    openvino.save_model(model, output, compress_to_fp16=False)


def _takes(model, size: int) -> bool:
    import openvino

    return model.input().partial_shape.compatible(openvino.PartialShape([1, 3, size, size]))


def _peer(model, size: int) -> Work:
    """Measure what OpenVINO's ``model`` does of an image that is prepared already; its boxes may
    still need NMS."""
    model.reshape([1, 3, size, size])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}  # as ours are run
    request = openvino_core().compile_model(model, "CPU", settings).create_infer_request()
    return image_work(lambda x: request.infer([x]), np.zeros((1, 3, size, size), np.float32))
