"""What ``analyze.py`` does: load, run, measure, write the page."""

import argparse
import sys
from pathlib import Path
from urllib.error import URLError

import matplotlib
from detectron2.data import get_detection_dataset_dicts

from ..errors import ConfigError
from .detector import Detector, load_detector
from .ground_truth import class_names, read_ground_truth
from .overview import facts, headlines
from .page import Page, write_page
from .plots import STYLE
from .run import run_detector
from .sections import SECTIONS
from .study import Dataset, Measurement, Study


def read_dataset(dataset_name: str, max_images: int | None = None) -> Dataset:
    """The first ``max_images`` images of a registered data set, or all.

    Raises:
        ConfigError: there are no images, or no boxes in them.
    """
    all_dicts = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    dicts = all_dicts[:max_images]
    if not dicts:
        raise ConfigError(f"Data set {dataset_name} has no images.")
    truth = read_ground_truth(dataset_name, [x["image_id"] for x in dicts])
    names = class_names(dataset_name, int(truth.label.max()) + 1)
    return Dataset(dataset_name, len(all_dicts), dicts, truth, names)


def measure(detector: Detector, dataset: Dataset) -> Measurement:
    """
    Raises:
        ConfigError: the detector knows classes that the data set has not.
    """
    run = run_detector(detector, dataset.dicts)
    if len(run.detections) and run.detections.label.max() >= len(dataset.class_names):
        raise ConfigError(
            f"{detector.name} has found class {run.detections.label.max()}, but data set "
            f"{dataset.name} has {len(dataset.class_names)} classes."
        )
    return Measurement(run, dataset)


def build_page(study: Study) -> Page:
    """The page with all its sections."""
    with matplotlib.rc_context(STYLE):
        sections = [section(study) for section in SECTIONS]
    subtitle = f"on {study.dataset.name}"
    subtitle += f", beside {study.other.name}" if study.other else ""
    return Page(
        title=study.main.name,
        subtitle=subtitle,
        headlines=headlines(study),
        facts=facts(study),
        sections=sections,
    )


def _names(args: argparse.Namespace) -> tuple[str, str]:
    """Two different names for legends, where none are given from the config files."""
    name = args.name or Path(args.config_file).stem
    other = args.compare_name or Path(args.compare_config).stem
    return (f"{name} (1)", f"{other} (2)") if name == other else (name, other)


def analyze(args: argparse.Namespace) -> Page:
    """Run the detectors and write the page to ``args.output``; see :func:`parser`.

    Raises:
        ConfigError: a config, its weights or the data set is not what it should be.
    """
    if bool(args.compare_config) != bool(args.compare_weights):
        raise ConfigError("--compare-config and --compare-weights go together; give both.")
    if args.max_images is not None and args.max_images < 1:
        raise ConfigError(f"--max-images must be at least 1, got {args.max_images}.")
    name, other_name = _names(args)
    detector = load_detector(
        args.config_file, args.weights, name=name, dataset_name=args.dataset, overrides=args.opts
    )
    other = None
    if args.compare_config:
        other = load_detector(
            args.compare_config,
            args.compare_weights,
            name=other_name,
            dataset_name=detector.dataset_name,
        )
    dataset = read_dataset(detector.dataset_name, args.max_images)
    study = Study(dataset, measure(detector, dataset), measure(other, dataset) if other else None)
    page = build_page(study)
    write_page(page, args.output)
    return page


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", required=True, help="YAML or LazyConfig of the detector")
    parser.add_argument("--weights", required=True, help="its checkpoint")
    parser.add_argument("--compare-config", default="", help="config of another detector")
    parser.add_argument("--compare-weights", default="", help="its checkpoint")
    parser.add_argument("--name", default="", help="in legends, by default that of the config")
    parser.add_argument("--compare-name", default="", help="likewise of the other detector")
    parser.add_argument("--dataset", default="", help="by default the test set of the config")
    parser.add_argument("--output", type=Path, required=True, help="the HTML file to write")
    parser.add_argument("--max-images", type=int, help="look at the first so many images only")
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        help="overrides of the first config: KEY VALUE, of a LazyConfig path.key=value",
    )
    return parser


def run() -> None:
    """The program; what is wrong with its input ends it with one sentence."""
    args = parser().parse_args()
    try:
        analyze(args)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    except URLError as error:
        sys.exit(f"error: The weights could not be downloaded ({error.reason}).")
    except OSError as error:
        sys.exit(f"error: {args.output} cannot be written ({error.strerror}).")
    print(f"Written to {args.output}.")
