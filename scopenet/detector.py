"""One trained detector, whatever it was loaded from."""

import copy
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import ConfigError, ImageError
from .images import read_image
from .runtime.predictor import check_image
from .streams import map_ahead, map_batches

if TYPE_CHECKING:
    from .engine.network import Network

EXPORTED_SUFFIXES = (".onnx", ".xml")
CHECKPOINTS = ("model_best.pth", "model_final.pth")  # of a training, the better one first
NUM_READERS = 2  # threads that read and resize images while others are in the network
Image = np.ndarray | str | os.PathLike | bytes


@dataclass
class Detector:
    """Finds objects in images; make one with :meth:`load`.

    Attributes:
        predict: from a BGR uint8 image (H, W, 3) to ``{"instances": ...}`` in px of it.
        name: short, for legends.
        class_names: by class.
        category_ids: of the data set, by class; from 1 where it is not known.
        network: the model in PyTorch; None of an exported one.
        batch_size: how many images of many go through the network together if they have one size
            there; of an exported model, how many are worked on at the same time.
    """

    predict: Callable[[np.ndarray], dict[str, Any]]
    name: str
    class_names: list[str]
    category_ids: list[int] = field(default_factory=list)
    network: "Network | None" = None
    batch_size: int = 1

    def __post_init__(self):
        self.category_ids = self.category_ids or list(range(1, len(self.class_names) + 1))

    @classmethod
    def load(
        cls,
        source: Any,
        *,
        weights: str = "",
        device: str | None = None,
        overrides: Sequence[str] = (),
        batch_size: int = 1,
        num_threads: int | None = None,
    ) -> "Detector":
        """Load a detector; raise a ConfigError if there is none, or its parts do not fit together.

        Args:
            source: one of
                - a config, YAML or LazyConfig (a program: trusted input), here or below the
                  project's configs, or one that was read already;
                - the output folder of a training: its ``config.yaml``, and ``model_best.pth`` or
                  else ``model_final.pth``;
                - the name of a published model, its config's without suffix, in the zoo of
                  ``$SCOPENET_MODEL_ZOO``;
                - an exported ``.onnx`` or ``.xml`` file, or a folder with one, which needs neither
                  PyTorch nor Detectron2.
            weights: a checkpoint in place of the source's own.
            device: in place of the config's; of an exported model by default the CPU.
            overrides: of the config: KEY VALUE ..., of a LazyConfig path.key=value ...
            batch_size: see :class:`Detector`.
            num_threads: for computing, of an exported model; by default as many as its library
                thinks best. PyTorch's are those of the process.
        """
        if batch_size < 1:
            raise ConfigError(f"The batch size must be at least 1, got {batch_size}.")
        if exported := _exported_file(source):
            if weights or overrides:
                raise ConfigError(
                    "Weights and overrides are of a config; an exported model has none."
                )
            from .runtime import Predictor

            options = {"batch_size": batch_size, "num_threads": num_threads}
            predictor = Predictor(exported, device=device or "cpu", **options)
            return cls(predictor, exported.stem, predictor.class_names, batch_size=batch_size)
        from .config_file import override
        from .engine.network import load_network

        name, config, weights, class_names = _read_source(source, weights)
        override(config, overrides, name)
        network = load_network(config, weights, device, class_names)
        return cls(network, name, network.class_names, network.category_ids, network, batch_size)

    def __call__(self, images: Image | Sequence[Image]) -> dict[str, Any] | list[dict[str, Any]]:
        """Detect objects in an image or in each of a list; of many see :meth:`stream`.

        Args:
            images: (H, W, 3) uint8 BGR, as ``cv2.imread`` gives it, the path of a file, or the
                bytes of one.

        Returns:
            what Detectron2's ``DefaultPredictor`` returns, ``{"instances": ...}`` in px of the
            image, or a list of it. The instances are on the CPU and hold ``pred_boxes``,
            ``scores``, ``pred_classes`` and, of a ScopeNet, ``cls_scores``, ``loc_scores`` and
            ``border_scores``.

        Raises:
            ImageError: a file cannot be read, or nothing of an image is left when it is resized.
            ValueError: something is no image at all, e.g. None.
        """
        is_list = isinstance(images, Sequence) and not isinstance(images, str | bytes)
        found = list(self.stream(images if is_list else [images]))
        for x in found:
            if isinstance(x, ImageError):
                raise x
        return found if is_list else found[0]

    def stream(self, images: Iterable[Image]) -> Iterator[dict[str, Any] | ImageError]:
        """Yield, in the order of any number of images, what calling the detector with each of them
        returns, or the ImageError that it raises. Images are read while others are detected in, and
        few are held at a time."""
        ahead = 2 * self.batch_size
        if self.network is None:
            with ThreadPoolExecutor(self.batch_size) as pool:
                yield from map_ahead(partial(_attempt, self.predict), images, pool, ahead)
            return
        with ThreadPoolExecutor(NUM_READERS) as pool:
            yield from map_batches(
                self._detect,
                map_ahead(partial(_attempt, self.network.prepare), images, pool, ahead),
                key=lambda x: None if isinstance(x, ImageError) else x["image"].shape,
                batch_size=self.batch_size,
                ahead=4 * self.batch_size,
            )

    def _detect(self, inputs: list) -> list[dict[str, Any] | ImageError]:
        if isinstance(inputs[0], ImageError):
            return inputs
        return [x | {"instances": x["instances"].to("cpu")} for x in self.network.detect(inputs)]


def _attempt(function: Callable[[np.ndarray], Any], image: Image) -> Any:
    """Return what the function gives for an image, which may have to be read, or the ImageError
    that this raises."""
    try:
        if not isinstance(image, str | os.PathLike | bytes):
            check_image(image)
            return function(image)
        pixels = read_image(image)
        try:
            return function(pixels)
        except ImageError as error:
            if isinstance(image, bytes):
                raise
            raise ImageError(f"{image}: {error}") from error
    except ImageError as error:
        return error


def _exported_file(source: Any) -> Path | None:
    """Return the exported model that the source is or holds; None if it is something else."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if not path.is_dir() or (path / "config.yaml").is_file():
        return path if path.suffix in EXPORTED_SUFFIXES else None
    found = sorted(x for x in path.iterdir() if x.suffix in EXPORTED_SUFFIXES)
    if len(found) != 1:
        has = ", ".join(x.name for x in found) or "none"
        raise ConfigError(
            f"{path} is neither the folder of a training (it has no config.yaml) nor of one "
            f"exported .onnx or .xml file (it has {has})."
        )
    return found[0]


def _read_source(source: Any, weights: str) -> tuple[str, Any, str, list[str] | None]:
    """Return a short name of the source, its config, the weights or else the source's own, and the
    names of the classes where the source has them beside the weights."""
    from .config_file import find_config, read_config

    if not isinstance(source, str | os.PathLike):
        return "config", copy.deepcopy(source), weights, None
    path = Path(source)
    if path.is_dir():
        found = [weights, *(str(path / x) for x in CHECKPOINTS if (path / x).is_file())]
        if not any(found):
            raise ConfigError(f"{path} has neither {' nor '.join(CHECKPOINTS)}.")
        return path.name, _read_training(path), next(filter(None, found)), None
    if path.suffix in (".yaml", ".yml", ".py"):
        return path.stem, read_config(find_config(str(source))), weights, None
    if path.suffix in (".pth", ".pkl", ".safetensors"):
        raise ConfigError(f"{path} is a checkpoint; name its config, and it as the weights.")
    from .model_zoo import published

    config, own_weights, class_names = published(str(source))
    return path.name, config, weights or own_weights, class_names


def _read_training(folder: Path) -> Any:
    """Read the config of a training, which names the device that it ran on, here or elsewhere."""
    from torch.cuda import is_available

    from .config_file import read_config

    try:
        config = read_config(str(folder / "config.yaml"))
        if not is_available():
            config.MODEL.DEVICE = "cpu"
        return config
    except ConfigError as error:
        if "_target_" not in (folder / "config.yaml").read_text(errors="replace"):
            raise
        raise ConfigError(
            f"{folder} was trained from a LazyConfig, which is a program: name its .py file, and a "
            "checkpoint of the folder as the weights."
        ) from error
