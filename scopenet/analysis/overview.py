"""The top of the page: what was measured with what, and the most important figures."""

import platform

import torch

import scopenet

from .bin_quality import border_figures, iou_figures
from .page import Headline, number
from .sections.without_bins import why_no_bins
from .study import Study


def headlines(study: Study) -> list[Headline]:
    """The figures at the top of the page."""
    main, other = study.main, study.other
    cards = []
    for name in ("AP", "AP50", "AP75"):
        note = f"compared: {number(other.summary[name])}" if other else "percent"
        cards.append(Headline(number(main.summary[name]), name, note))
    if len(main.run.detections):
        best = main.best_thresholds.loc["all"]
        cards.append(Headline(number(100 * best.f1), "best F1", f"score ≥ {best.threshold:.2f}"))
        quality = main.score_quality["of those found"]
        last = quality.index[-1]
        note = ", ".join(f"{k} {number(v, 2)}" for k, v in quality[-2::-1].items())
        label = f"rank correlation of {last} and IoU"
        cards.append(Headline(number(quality[last], 2), label, note))
    if not why_no_bins(main.run):
        accuracy = border_figures(main.run.bins.borders, "level").loc["all", "bin accuracy"]
        gap = iou_figures(main.run.bins.positives).gap["all"]
        cards.append(Headline(f"{accuracy:.1f}", "bin accuracy", "percent of borders"))
        cards.append(Headline(f"{gap:.1f}", "IoU lost by choosing bins", "points"))
    return cards


def facts(study: Study) -> list[tuple[str, str]]:
    """What was measured with what."""
    dataset = study.dataset
    used = len(dataset.dicts)
    share = "all" if used == dataset.size else f"the first {used} of"
    images = f"{dataset.name}: {share} {dataset.size} images, {len(dataset.truths)} objects"
    pairs = [("Data set", f"{images}, classes: {len(dataset.class_names)}")]
    for title, x in zip(("Detector", "Compared with"), study.both, strict=False):
        detector = x.run.detector
        text = f"{detector.name} ({detector.architecture}), {len(x.run.detections)} detections"
        pairs += [(title, text), ("Config", detector.config_file), ("Weights", detector.weights)]
    versions = (scopenet.__version__, torch.__version__, platform.python_version())
    pairs.append(("Versions", "scopenet {}, torch {}, Python {}".format(*versions)))
    return pairs
