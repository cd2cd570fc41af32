"""The subcommand ``scopenet analyze``."""

import argparse
from pathlib import Path

from .. import cli
from ..errors import import_extra

PACKAGES = ("jinja2", "pandas")  # not every installation has them


def parser() -> argparse.ArgumentParser:
    about = "Show on one HTML page what a detector does well and badly, see docs/analysis.md."
    parser = argparse.ArgumentParser(description=about)
    cli.add_detector(parser)
    compare = ("--compare", "--compare-config")
    parser.add_argument(*compare, default="", metavar="SOURCE", help="another one, named likewise")
    parser.add_argument("--compare-weights", default="", help="a checkpoint of the other detector")
    parser.add_argument("--name", default="", help="in legends, by default that of the source")
    parser.add_argument("--compare-name", default="", help="likewise of the other detector")
    parser.add_argument("--dataset", default="", help="by default the test set of the config")
    parser.add_argument("--output", type=Path, required=True, help="the HTML file to write")
    parser.add_argument("--max-images", type=int, help="look at the first so many images only")
    cli.add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Write the page and say where; see :func:`parser`."""
    for package in PACKAGES:
        import_extra(package, "analysis")
    from .report import analyze

    analyze(args)
    print(f"Written to {args.output}.")
