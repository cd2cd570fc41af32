"""``scopenet demo``: the whole way once, on Bright Digits: prepare, train, evaluate, look."""

import argparse
import json
import logging
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from PIL import Image
from tabulate import tabulate

from .atomic import write_json
from .cli import add_overrides
from .config_file import load_config
from .data.digits import prepare_digits
from .detector import Detector
from .engine import command
from .training_metrics import read_metrics
from .visualization import draw_beside_ground_truth, plot_anchors, plot_losses, stack_pictures

CONFIG = "configs/BrightDigits-ScopeNet_R_18_FPN.yaml"
NUM_PICTURES = 12
SCORE_THRESH = 0.5  # of the drawn detections


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Prepare Bright Digits, train a small ScopeNet on it, evaluate it, and draw "
        "what it finds."
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder to write")
    parser.add_argument("--train", type=int, default=2000, help="training images to make")
    parser.add_argument("--val", type=int, default=300, help="validation images to make")
    add_overrides(parser)
    return parser


def train(cfg: CfgNode, overrides: list[str]) -> dict[str, float]:
    """Train and evaluate, going on with an interrupted run; a finished one is not repeated. Return
    the box metrics of ``COCOEvaluator``, AP in percent."""
    output_dir = Path(cfg.OUTPUT_DIR)
    finished = output_dir / "results.json"
    if not finished.exists():
        arguments = ["--config-file", CONFIG, "--resume", *overrides]
        command.run(command.parser().parse_args(arguments))
        metrics = read_metrics(output_dir / "metrics.json")
        box = {k[5:]: [*x.values()][-1] for k, x in metrics.items() if k.startswith("bbox/")}
        write_json(finished, box)
    return json.loads(finished.read_text())


def draw(detector: Detector, cfg: CfgNode, output: Path) -> None:
    """Draw detections, anchors and losses into the folder ``output``."""
    (dataset_name,) = cfg.DATASETS.TEST
    pictures = []
    for dataset_dict in DatasetCatalog.get(dataset_name)[:NUM_PICTURES]:
        instances = detector(dataset_dict["file_name"])["instances"]
        pictures.append(
            draw_beside_ground_truth(
                dataset_dict, instances, dataset_name, score_thresh=SCORE_THRESH, scale=2
            )
        )
    Image.fromarray(stack_pictures(pictures, columns=2)).save(output / "detections.png")
    assert detector.network is not None
    model = detector.network.model
    learned = model.log2_anchors.detach().cpu()
    plot_anchors(model.log2_anchor_start.cpu(), learned, model.bin_edges.cpu(),
                 output / "anchors.png")  # fmt: skip
    plot_losses(read_metrics(Path(cfg.OUTPUT_DIR) / "metrics.json"), output / "losses.png")


def write_table(results: dict[str, float], cfg: CfgNode, path: Path) -> str:
    """Write the AP table in Markdown to ``path``, and return it."""
    names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
    table = tabulate([[results[n] for n in names]], names, tablefmt="github", floatfmt=".1f")
    path.write_text(
        f"{table}\n\n{CONFIG}, {cfg.SOLVER.MAX_ITER} iterations, seed {cfg.SEED}; "
        f"box AP in percent on {cfg.DATASETS.TEST[0]}.\n"
    )
    return table


def run(args: argparse.Namespace) -> None:
    """Do it all; what an earlier call has finished is not done again."""
    training = args.output / "training"
    overrides = [*args.opts, "OUTPUT_DIR", str(training)]
    cfg = load_config(CONFIG, overrides)
    prepare_digits(dataset="bright_digits", train=args.train, val=args.val)
    results = train(cfg, overrides)
    for name in ("detectron2", "fvcore"):  # they would print the model once more
        logging.getLogger(name).setLevel(logging.WARNING)
    draw(Detector.load(cfg, weights=str(training / "model_final.pth")), cfg, args.output)
    table = write_table(results, cfg, args.output / "ap.md")
    print(f"""
{table}

Written to {args.output}:
  ap.md            the table above
  detections.png   ground truth (left) and detections (right) of {NUM_PICTURES} validation images
  anchors.png      the learned anchors against their start
  losses.png       the loss curves
  training/        checkpoints, log, TensorBoard events

Next: find objects with it, and then train it on your own images (README.md):
  scopenet predict --model {args.output}/training --input IMAGE --output {args.output}/found""")
