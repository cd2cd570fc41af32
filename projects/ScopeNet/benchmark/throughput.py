"""How many images per second a stream of JPEG files takes, beside the network alone."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from detectron2.data import DatasetMapper
from PIL import Image

from scopenet import Detector
from scopenet.config_file import load_config
from scopenet.engine.network import Network
from scopenet.images import read_image
from scopenet.modeling import ScopeNet
from scopenet.runtime.backends import Backend, Options, load_backend

from .contestants import Contestant
from .deployment import export, scopenet_of, set_candidates
from .measure import Laps, Work, time_in_turns
from .suites import Record, Settings
from .workload import Case

FILES = Case(64, 480, 640, 0)
SMALL = Case(64, 320, 320, 0)
AT_A_TIME = 2  # images, on OpenVINO
BATCH = 8  # in PyTorch


class ThroughputSuite:
    """Files of 480 x 640 px to instances on OpenVINO in 8-bit integers, and arrays of 320 x 320 px
    in PyTorch, single and in batches; on the CPU whatever the device."""

    name = "throughput"

    def run(self, contestants: Sequence[Contestant], settings: Settings) -> Iterator[Record]:
        """Time the ways of each in turns.

        Raises:
            ConfigError: ScopeNet is not among the contestants, or a package is missing.
        """
        contestant = scopenet_of(contestants, self.name)
        with TemporaryDirectory() as folder:
            paths = write_photographs(Path(folder), FILES)
            exported = Path(folder, "model.xml")
            set_candidates(contestant, settings)
            export(contestant.model, exported, "openvino", "int8")
            one, several = (Detector.load(exported, batch_size=x) for x in (1, AT_A_TIME))
            backend = load_backend(exported, Options(num_streams=AT_A_TIME))
            images = [read_image(path) for path in paths]
            yield from self._timed(FILES, settings, {
                "network alone, int8": lambda: at_a_time(backend, images),
                "files one after another, int8": lambda: map(one, paths),
                "stream of files, int8": lambda: several.stream(paths),
            })  # fmt: skip
        images = [x[: SMALL.height, : SMALL.width] for x in images]
        detectors = {n: in_pytorch(contestant.model, n) for n in (1, BATCH)}
        yield from self._timed(SMALL, settings, {
            f"PyTorch, {'single' if n == 1 else f'batches of {n}'}": partial(x.stream, images)
            for n, x in detectors.items()
        })  # fmt: skip

    def _timed(
        self, case: Case, settings: Settings, ways: dict[str, Callable[[], Iterable]]
    ) -> Iterator[Record]:
        works = {name: Work(partial(_run, make)) for name, make in ways.items()}
        device = torch.device("cpu")
        times = time_in_turns(works, device, repeats=settings.repeats)
        for name in works:
            yield Record(self.name, name, case, times[name], 0)


def _run(make: Callable[[], Iterable], laps: Laps) -> None:
    deque(make(), maxlen=0)
    laps.mark("images")


def at_a_time(backend: Backend, images: Sequence[np.ndarray]) -> Iterable:
    """Run several images at a time, as many as the backend has streams."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        return list(pool.map(backend, images))


def in_pytorch(model: ScopeNet, batch_size: int) -> Detector:
    """Make a detector that takes images as they are."""
    cfg = load_config(overrides=["INPUT.MIN_SIZE_TEST", "0"])
    network = Network(model.eval(), DatasetMapper(cfg, is_train=False), [], [], cfg, "")
    return Detector(network, "", [], network=network, batch_size=batch_size)


def write_photographs(folder: Path, case: Case) -> list[str]:
    """Write as many JPEG files as the case has images, parts of scikit-learn's photographs."""
    photos = [
        np.asarray(Image.open(files("sklearn.datasets.images") / name).resize((800, 600)))
        for name in ("china.jpg", "flower.jpg")
    ]
    paths = []
    for i in range(case.batch):
        y, x = 3 * i % (600 - case.height), 5 * i % (800 - case.width)
        part = photos[i % 2][y : y + case.height, x : x + case.width]
        paths.append(str(folder / f"{i:03d}.jpg"))
        Image.fromarray(part).save(paths[-1], quality=90)
    return paths
