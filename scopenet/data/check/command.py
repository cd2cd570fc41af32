"""``scopenet check``: look at everything once, print, draw, write a cleaned copy.

The exit code is 0 if training can use everything, 1 if not, 2 if it cannot be told.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

from ...cli import add_overrides
from ...config_file import load_config
from ...errors import ConfigError
from ..coco_json import class_names, is_given, parse_json
from ..custom import to_dicts
from .annotations import check_annotations, complete_entries
from .borders import BorderCounts, build_scopenet, count_borders, find_narrow
from .findings import Finding, summary, write_findings
from .fix import check_target, fixed, write_fixed
from .images import check_images
from .pictures import draw_samples
from .plots import plot_boxes

ERROR_CODE = 2
CONFIG = "configs/OwnData-ScopeNet_R_50_FPN_GN.yaml"


def parser() -> argparse.ArgumentParser:
    """Take the flags of ``scopenet check``."""
    parser = argparse.ArgumentParser(
        description="Find what is wrong with a data set in COCO format before training on it."
    )
    parser.add_argument("--json", type=Path, required=True, help="the COCO json to check")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument("--config-file", default=CONFIG, help="how training sees the images")
    parser.add_argument("--output", type=Path, default=Path("output/check"))
    parser.add_argument("--num-samples", type=int, default=8, help="images to draw")
    parser.add_argument("--fix", type=Path, metavar="OUT.json", help="write a cleaned copy")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Check, and return 1 if there are errors, else 0."""
    sys.stdout.reconfigure(errors="backslashreplace")  # texts of the json may be anything
    return int(any(x.severity == "error" for x in check(args)))


def check(args: argparse.Namespace) -> list[Finding]:
    """Look at the data set, and write what was found to ``args.output``.

    Args:
        args: of :func:`parser`.

    Raises:
        ConfigError: the json, the folder or the config is not what it should be.
    """
    if args.fix:
        check_target(args.fix, args.json)
    if not args.images.is_dir():
        raise ConfigError(f"The image folder {args.images} does not exist.")
    cfg = load_config(args.config_file, args.opts)
    model = build_scopenet(cfg)
    content = parse_json(args.json)
    findings = [*check_annotations(content, str(args.json))]
    named = ("id", "file_name")
    files = [x for x in content["images"] if all(is_given(x.get(k), k) for k in named)]
    findings += check_images(files, str(args.images))
    findings += find_narrow(complete_entries(content, "images"), cfg)
    usable, dropped = fixed(content, findings)
    args.output.mkdir(parents=True, exist_ok=True)
    write_findings(findings, args.output / "findings.csv")
    counts = count_borders(usable, cfg, model)
    describe(content, findings, counts)
    draw(usable, counts, cfg, args)
    if args.fix:
        write_fixed(usable, args.fix)
        print(f"Written to {args.fix}: {len(usable['images'])} images, "
              f"{len(usable['annotations'])} boxes. Left out:")  # fmt: skip
        for reason, number in dropped.items():
            print(f"  {number} {reason}")
    return findings


def describe(content: dict[str, Any], findings: list[Finding], counts: BorderCounts) -> None:
    """Print what was found."""
    sizes = ", ".join(f"{len(content[k])} {k}" for k in ("images", "annotations", "categories"))
    print(f"\n{sizes}.\n")
    print(summary(findings) if findings else "Nothing is wrong.")
    if number := len(counts.is_missed):
        missed, borders = counts.is_missed.sum(), max(1, counts.bins.sum())
        print(
            f"\nBoxes that no location of any level can represent: {missed} of {number} "
            f"({missed / number:.1%}).\nBorders beyond the nominal edges of the bins: "
            f"{counts.outside / borders:.1%} of {borders}."
        )


def draw(
    content: dict[str, Any], counts: BorderCounts, cfg: CfgNode, args: argparse.Namespace
) -> None:
    """Draw histograms of what is usable, and some of its images."""
    plot_boxes(counts, args.output / "boxes.png")
    if content["images"]:
        dicts, names = to_dicts(content, str(args.images)), class_names(content)
        draw_samples(dicts, names, cfg, args.output / "samples", number=args.num_samples)
    print(f"\nWritten to {args.output}: findings.csv, boxes.png, samples/.")
