"""What the subcommand does: load, run, measure, put the page together and write it."""

import argparse
import platform

import matplotlib
import torch

from .. import __version__
from ..detector import Detector
from ..errors import ConfigError
from . import (
    anchors,
    bin_choice,
    border_calibration,
    calibration,
    error_types,
    hedging,
    pictures,
    shapes,
    thresholds,
)
from .dataset import read_dataset
from .page import Page, write_page
from .plots import STYLE
from .run import Run, choose_dataset, run_detector

# In the order in which they are read.
SECTIONS = (
    *(shapes, calibration, bin_choice, border_calibration, hedging),
    *(anchors, thresholds, error_types, pictures),
)


def analyze(args: argparse.Namespace) -> Page:
    """Run the detectors and write the page to ``args.output``; see :func:`.command.parser`. A
    detector or data set that is not what it should be is a ConfigError."""
    if args.compare_weights and not args.compare:
        raise ConfigError("--compare-weights are those of --compare; give both.")
    if args.max_images is not None and args.max_images < 1:
        raise ConfigError(f"--max-images must be at least 1, got {args.max_images}.")
    sources, dataset_name = [(args.model, args.weights, args.opts)], args.dataset
    if args.compare:
        sources.append((args.compare, args.compare_weights, []))
    detectors = []
    for source, weights, opts in sources:
        detector = Detector.load(source, weights=weights, device=args.device, overrides=opts)
        if detector.network is None:
            what = f"{source} is an exported model, which cannot be looked into"
            raise ConfigError(f"{what}; give the config and the checkpoint that it was made from.")
        # The second one is run on what the first one is.
        dataset_name = choose_dataset(detector, dataset_name)
        detectors.append(detector)
    dataset = read_dataset(dataset_name, args.max_images)
    names = legend_names(args, *(x.name for x in detectors))
    runs = [run_detector(x, dataset, name) for x, name in zip(detectors, names, strict=True)]
    with matplotlib.rc_context(STYLE):
        sections = [x.section(runs) for x in SECTIONS]
    subtitle = ", beside ".join([f"on {dataset.name}", *names[1:]])
    page = Page(names[0], subtitle, facts(runs, detectors, args), sections)
    write_page(page, args.output)
    return page


def legend_names(args: argparse.Namespace, *names: str) -> list[str]:
    """Choose what legends call the detectors: as the user wants, or else by their own names;
    numbered if these are equal."""
    chosen = [x or y for x, y in zip((args.name, args.compare_name), names, strict=False)]
    if len(set(chosen)) < len(chosen):
        return [f"{x} ({i})" for i, x in enumerate(chosen, start=1)]
    return chosen


def facts(
    runs: list[Run], detectors: list[Detector], args: argparse.Namespace
) -> list[tuple[str, str]]:
    """Say what was measured with what, as pairs of a name and a text."""
    dataset = runs[0].dataset
    used = len(dataset.dicts)
    share = "all" if used == dataset.size else f"the first {used} of"
    images = f"{dataset.name}: {share} {dataset.size} images, {len(dataset.truths)} objects"
    pairs = [("Data set", f"{images}, classes: {len(dataset.class_names)}")]
    sources = ("Detector", args.model), ("Compared with", args.compare)
    for run, x, (title, source) in zip(runs, detectors, sources, strict=False):
        text = f"{run.name} ({type(run.model).__name__}), {len(run.detections)} detections"
        pairs += [(title, text), ("Loaded from", source), ("Weights", x.network.weights)]  # type: ignore[union-attr]
    versions = f"scopenet {__version__}, torch {torch.__version__}"
    return [*pairs, ("Versions", f"{versions}, Python {platform.python_version()}")]
