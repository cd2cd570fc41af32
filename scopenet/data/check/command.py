"""``scopenet check``: look at everything once, print, draw, write a cleaned copy.

The exit code is 0 if training can use everything, 1 if not, 2 if it cannot be told.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from tabulate import tabulate

from ...atomic import write_json
from ...cli import add_overrides
from ...config_file import load_config
from ...errors import ConfigError, import_extra, refused
from ..coco_json import check_entries, classes_of, clean, complete_entries, parse_json
from ..custom import to_dicts
from .borders import BorderCounts, build_scopenet, count_borders, find_narrow, training_size
from .findings import UNUSABLE, Finding, check_annotations, check_images
from .leaks import MAX_DISTANCE, NUM_BITS, find_leaks, look_at_all
from .pictures import draw_samples, plot_boxes

ERROR_CODE = 2
CONFIG = "configs/OwnData-ScopeNet_R_50_FPN_GN.yaml"


def parser() -> argparse.ArgumentParser:
    """Take the flags of ``scopenet check``."""
    about = "Find what is wrong with a data set in COCO format before training on it."
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--json", type=Path, required=True, help="the COCO json to check")
    parser.add_argument("--images", type=Path, required=True, help="folder of its images")
    parser.add_argument(
        "--config-file",
        default=CONFIG,
        help="of the training, with its overrides: how it sees the images",
    )
    parser.add_argument("--output", type=Path, default=Path("output/check"))
    parser.add_argument("--num-samples", type=int, default=8, help="images to draw")
    parser.add_argument("--fix", type=Path, metavar="OUT.json", help="write a cleaned copy")
    about = "e.g. for validation: find its images, and near copies of them, in the set to check"
    parser.add_argument("--against", type=Path, metavar="OTHER.json", help=about)
    parser.add_argument("--against-images", type=Path, help="folder of these, by default --images")
    about = f"of near copies: bits of {NUM_BITS} that may differ, by default {MAX_DISTANCE}"
    parser.add_argument("--max-distance", type=int, default=MAX_DISTANCE, help=about)
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Check, and return 1 if there are errors, else 0."""
    # Texts of the json may be anything.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return int(any(x.severity == "error" for x in check(args)))


def check(args: argparse.Namespace) -> list[Finding]:
    """Look at the data set, and write what was found to ``args.output``; if the json, the folder or
    the config is not what it should be, that is a ConfigError."""
    if args.against:
        import_extra("imagehash", "check")  # before all images are read
    other_images = args.against_images or args.images
    for folder in (args.images, other_images):
        if not folder.is_dir():
            raise ConfigError(f"The image folder {folder} does not exist.")
    content = parse_json(args.json)
    if args.fix and args.fix.exists() and args.fix.samefile(args.json):
        raise ConfigError(f"--fix {args.fix} is the file to check; name another one.")
    cfg = load_config(args.config_file, args.opts)
    model = build_scopenet(cfg)
    findings = [
        *check_annotations(content, str(args.json)),
        *check_images(content["images"], str(args.images)),
        *find_narrow(complete_entries(content)["images"], cfg),
    ]
    if args.against:
        others = look_at_all(parse_json(args.against)["images"], str(other_images))
        ours = look_at_all(content["images"], str(args.images))
        findings += find_leaks(ours, others, args.max_distance)
    args.output.mkdir(parents=True, exist_ok=True)
    write_findings(findings, args.output / "findings.csv")
    usable, dropped = clean(content, {x.id: x.kind for x in findings if x.kind in UNUSABLE})
    counts = count_borders(usable, cfg, model)
    describe(content, findings, counts, seen(cfg))
    plot_boxes(counts, model, args.output / "boxes.png")
    if usable["images"]:
        dicts, names = to_dicts(usable, str(args.images)), [*classes_of(usable).values()]
        draw_samples(dicts, names, cfg, args.output / "samples", number=args.num_samples)
    print(f"\nWritten to {args.output}: findings.csv, boxes.png, samples/.")
    if args.fix:
        write_fixed(usable, dropped, args.fix)
    return findings


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write a table of all findings, one a line."""
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as f:
        writer = csv.writer(f)
        writer.writerow(["severity", *Finding._fields])
        writer.writerows([x.severity, *x] for x in findings)


def seen(cfg: CfgNode) -> str:
    """Say at which size the images are judged."""
    size, sizes = training_size(cfg), ", ".join(map(str, cfg.INPUT.MIN_SIZE_TRAIN))
    middle = f", the middle of {sizes}" * (len(cfg.INPUT.MIN_SIZE_TRAIN) > 1)
    return (
        f"Judged with the shorter side of images at {size} px{middle} (INPUT.MIN_SIZE_TRAIN), the "
        f"longer up to {cfg.INPUT.MAX_SIZE_TRAIN}; give the config and overrides of the training."
        if size
        else "Judged with images in their own size (INPUT.MIN_SIZE_TRAIN is 0)."
    )


def describe(
    content: dict[str, Any], findings: list[Finding], counts: BorderCounts, judged: str
) -> None:
    """Print what was found, and at which size."""
    sizes = ", ".join(f"{len(content[k])} {k}" for k in ("images", "annotations", "categories"))
    print(f"\n{sizes}.\n")
    print(summary(findings) if findings else "Nothing is wrong.")
    if number := len(counts.is_missed):
        missed, borders = counts.is_missed.sum(), max(1, counts.bins.sum())
        print(
            f"\n{judged}\nBoxes that no location of any level can represent: {missed} of {number} "
            f"({missed / number:.1%}).\nBorders beyond the nominal edges of the bins: "
            f"{counts.outside / borders:.1%} of {borders}."
        )


def summary(findings: Sequence[Finding]) -> str:
    """Count how often each kind was found, in a table with an example each, errors first."""
    counts = Counter(x.kind for x in findings)
    first = {x.kind: x for x in reversed(findings)}.values()
    rows = []
    for x in sorted(first, key=lambda x: (x.severity, x.kind)):
        entry = "" if x.id is None else f" ({x.part} {x.id})"
        rows.append([x.severity, x.kind, counts[x.kind], Path(x.file).name + entry, x.detail])
    return tabulate(rows, ["", "what", "how often", "for example", ""], "github")


def write_fixed(content: dict[str, Any], dropped: Counter[str], path: Path) -> None:
    """Write the cleaned copy and say what is not in it, unless it still cannot be trained on."""
    if all(x["iscrowd"] for x in content["annotations"]):
        raise ConfigError(f"No usable boxes are left, or of crowds only: {path} is not written.")
    with refused("This has to be mended by hand"):
        check_entries(content, "The cleaned copy")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, content)
    numbers = f"{len(content['images'])} images, {len(content['annotations'])} boxes"
    print(f"Written to {path}: {numbers}. Left out:")
    for reason, number in dropped.items():
        print(f"  {number} {reason}")
