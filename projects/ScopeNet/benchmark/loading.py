"""How long one loader process takes for an image, from its JPEG file to the batch, and how many of
them a GPU needs."""

import math
from collections.abc import Iterator, Sequence
from importlib.resources import files

import torch
from detectron2.data import DatasetMapper
from detectron2.data.detection_utils import read_image
from detectron2.structures import BoxMode

from scopenet.config_file import load_config
from scopenet.data.loader import build_train_loader
from scopenet.errors import ConfigError

from .contestants import STOCK_CONFIGS, Contestant
from .measure import Laps, Work, peak_memory, time_in_turns
from .suites import Record, Settings
from .workload import Case

TO_THE_BATCH = "from file to batch"  # the lap of all that a loader process does
IMAGES_PER_GPU = 2  # of an iteration of the 1x schedule: 16 on 8 GPUs


def processes_per_gpu(gpu_rate: float, seconds_per_image: float) -> int:
    """Return how many loader processes, each on a core of its own, a GPU needs to train on
    ``gpu_rate`` images/s: that rate by the images/s of one process, rounded up."""
    return math.ceil(round(gpu_rate * seconds_per_image, 6))


class LoadingSuite:
    """A photograph of 640 x 427 px (JPEG, of scikit-learn) as the 1x schedule loads it; on the CPU
    whatever the device."""

    name = "loading"

    def run(self, contestants: Sequence[Contestant], settings: Settings) -> Iterator[Record]:
        """Time the loading of an image.

        Raises:
            ConfigError: scikit-learn is missing.
        """
        device = torch.device("cpu")
        work, case = self._work(), Case(1, 427, 640, 7)
        times = time_in_turns({self.name: work}, device, repeats=settings.repeats)
        yield Record(self.name, "one process", case, times[self.name], peak_memory(work, device))

    @staticmethod
    def _work() -> Work:
        try:
            path = str(files("sklearn.datasets.images") / "china.jpg")
        except ModuleNotFoundError:
            raise ConfigError(
                "The photograph of the suite loading comes with scikit-learn; pip install it."
            ) from None
        mapper = DatasetMapper(load_config(STOCK_CONFIGS["ScopeNet"]), is_train=True)
        box = {"bbox": [10, 20, 110, 220], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
        sample = {"file_name": path, "height": 427, "width": 640, "annotations": [box] * 7}
        batches = iter(build_train_loader([sample], mapper=mapper, total_batch_size=1, seed=0))

        def run(laps: Laps) -> None:
            read_image(path, "BGR")
            laps.mark("read and decode")
            mapper(sample)
            laps.mark("all, with augmentation")
            next(batches)
            laps.mark(TO_THE_BATCH)

        return Work(run)
