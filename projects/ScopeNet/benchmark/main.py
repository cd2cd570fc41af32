"""What ``benchmark.py`` does: build the detectors, run the suites, write JSON, tables and plots."""

import argparse
import math
import shlex
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from scopenet.engine.environment import commit, hardware, versions
from scopenet.errors import ConfigError, one_sentence_errors

from .contestants import STOCK_CONFIGS, TUNED_CONFIGS, Contestant, build_contestant
from .deployment import DeploymentSuite
from .light import LightSuite
from .loading import LoadingSuite
from .plots import draw_areas, draw_boxes
from .report import GPU_RATE, markdown
from .results import Results, describe
from .suites import BOXES, Settings, all_suites
from .throughput import ThroughputSuite
from .variants import VariantsSuite
from .workload import Case, random_inputs


def named_config(text: str) -> tuple[str, str]:
    """Split "NAME=CONFIG" at its first "=".

    Raises:
        ArgumentTypeError: it is not of that form.
    """
    name, _, config = text.partition("=")
    if not (name and config) or ":" in name:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=CONFIG")
    return name, config


def positive(text: str) -> float:
    """Read a positive, finite number.

    Raises:
        ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return value


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["loading", *all_suites(Settings(torch.device("cpu")))]
    others = ["deployment", "light", "throughput", "variants"]
    parser.add_argument("--suites", nargs="+", choices=[*names, *others],
                        default=names, metavar="SUITE", help=f"some of: {', '.join(names)} (these "
                        "by default), deployment, light, throughput (they need the extras onnx and "
                        "openvino), variants (precisions, channels last, compiled)")  # fmt: skip
    parser.add_argument("--boxes", type=int, nargs="+", default=BOXES, help="per image, in tables")
    parser.add_argument("--detectors", nargs="+", choices=[*STOCK_CONFIGS, *TUNED_CONFIGS],
                        default=list(STOCK_CONFIGS))  # fmt: skip
    parser.add_argument("--config", action="append", default=[], type=named_config,
                        metavar="NAME=CONFIG", help="another config of one of the three, to be "
                        "compared with them; its name may not hold a colon")  # fmt: skip
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "float16", "bfloat16")
    )
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement")
    parser.add_argument("--gpu-rate", type=positive, metavar="IMAGES/S", help="what one GPU trains "
                        "on, at the 1x schedule 2 by the seconds of an iteration: the suite "
                        "loading then says how many loader processes it needs")  # fmt: skip
    parser.add_argument("--sizes", type=int, nargs="+", default=(320, 640), metavar="PX",
                        help="of the suite light: sides of its square images")  # fmt: skip
    parser.add_argument("--photographs", default="", metavar="IMAGES", help="of the suite light: "
                        "a data set or folder to calibrate int8 on")  # fmt: skip
    parser.add_argument("--peer", action="append", default=[], type=named_config,
                        metavar="NAME=FILE", help="of the suite light: an OpenVINO .xml of another "
                        "detector, which takes (1, 3, H, W) float32")  # fmt: skip
    parser.add_argument("--output", type=Path, default=Path("output/benchmark"))
    return parser


def contestants_of(args: argparse.Namespace) -> list[Contestant]:
    """Build the detectors, see :func:`~benchmark.contestants.build_contestant`."""
    configs = dict(args.config)
    configs |= {name: (STOCK_CONFIGS | TUNED_CONFIGS)[name] for name in args.detectors}
    sample = Case(1, 320, 320, 0)
    contestants = []
    for name, config in configs.items():
        contestant = build_contestant(name, config, args.device)
        num_classes = contestant.model.num_classes
        contestant.imitate_training(random_inputs(sample, num_classes, args.device))
        contestants.append(contestant)
    return contestants


def benchmark(args: argparse.Namespace) -> Results:
    """Run the suites; what is done is in ``args.output/benchmark.json`` at any time.

    Raises:
        ConfigError: a config is not of the detectors that can be compared, or there is no GPU.
    """
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("There is no GPU for --device cuda; leave the option out.")
    device, precision = torch.device(args.device), getattr(torch, args.precision)
    settings = Settings(device, precision, args.repeats)
    contestants = contestants_of(args)
    about = {
        "command": f"python {shlex.join(sys.argv)}",
        "commit": commit(),
        "hardware": hardware(args.device),
        "versions": versions(),
        "precision": args.precision,
        "repeats": str(args.repeats),
    }
    if args.gpu_rate:
        about[GPU_RATE] = f"{args.gpu_rate:g}"
    results = Results(about, [describe(x) for x in contestants], [])
    others = LoadingSuite(), DeploymentSuite(), ThroughputSuite(), VariantsSuite()
    peers = [(k, Path(x)) for k, x in args.peer]
    others += (LightSuite(args.sizes, args.photographs, peers),)
    suites = {x.name: x for x in others}
    suites |= all_suites(settings, args.boxes)
    progress = tqdm(args.suites, unit="suite")
    for name in progress:
        progress.set_description(name)
        for record in suites[name].run(contestants, settings):
            results.add(record)
            results.save(args.output / "benchmark.json")
    return results


def write_report(results: Results, output: Path) -> None:
    """Write `benchmark.md`, and the plots of the suites that were run."""
    output.mkdir(parents=True, exist_ok=True)
    (output / "benchmark.md").write_text(markdown(results))
    table = results.table()
    suites = set(table["suite"])
    if "boxes" in suites:
        draw_boxes(table).savefig(output / "boxes.png", dpi=150)
    if {"inference by area", "training by area"} <= suites:
        draw_areas(table).savefig(output / "areas.png", dpi=150)


def run() -> None:
    """Run the program; what is wrong with its input ends it with one sentence."""
    args = parser().parse_args()
    with one_sentence_errors():
        results = benchmark(args)
        write_report(results, args.output)
    print(markdown(results))
    print(f"Written to {args.output}.")
