"""A short training in every precision, and its losses beside those on the CPU."""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

import pandas as pd
import torch
from detectron2.engine import default_setup
from matplotlib.figure import Figure

from scopenet.config_file import find_config
from scopenet.data.digits import prepare_digits
from scopenet.engine import command

from .settings import Settings

CONFIG = "configs/Digits-ScopeNet_R_18_FPN.yaml"
FEW = 20  # iterations that are averaged
SAME = 5  # iterations, the first, after which rounding has not yet made another training of it
CPU = "CPU, float32"


def train(settings: Settings, name: str, device: str, precision: str) -> dict:
    """Train on Digits; return the "losses" by iteration, "seconds" of an iteration, "MiB" and how
    many iterations were "skipped"."""
    digits = settings.work / "digits"
    overrides = {
        "MODEL.DEVICE": device,
        "SOLVER.AMP.ENABLED": precision != "float32",
        "SOLVER.AMP.PRECISION": precision if precision != "float32" else "float16",
        "SOLVER.MAX_ITER": settings.iterations,
        "SOLVER.CHECKPOINT_PERIOD": 10**9,
        "OUTPUT_DIR": settings.work / name.replace(", ", "_"),
    }
    data = ["--train-json", str(digits / "annotations" / "instances_train.json")]
    data += ["--train-images", str(digits / "train")]
    options = ["--config-file", find_config(CONFIG), *data]
    options += [str(x) for pair in overrides.items() for x in pair]
    args = command.parser().parse_args(options)
    trainer_class, cfg = command.prepare(args)
    cfg.INPUT.MIN_SIZE_TRAIN = (settings.image_side,)
    cfg.freeze()
    default_setup(cfg, args)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trainer = trainer_class(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    history = {k: [v for v, _ in x.values()] for k, x in trainer.storage.histories().items()}
    return {
        "losses": history["total_loss"],
        "seconds": median(history["time"]),
        "MiB": torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else None,
        "skipped": settings.iterations - len(history["total_loss"]),
    }


def run(settings: Settings) -> None:
    """Train in every precision and then on the CPU; ``training.md`` has what is done so far."""
    prepare_digits(settings.work, train=settings.images, val=1, size=settings.image_side)
    runs: dict[str, dict] = {}
    failed = []
    todo = [(f"{settings.device}, {x}", settings.device, x) for x in settings.precisions]
    for name, device, precision in [*todo, (CPU, "cpu", "float32")]:
        try:
            runs[name] = train(settings, name, device, precision)
        except Exception:  # a precision that this device has not; the others are of interest still
            traceback.print_exc()
            failed.append(name)
            continue
        draw({k: x["losses"] for k, x in runs.items()}, settings.output / "losses.png")
        table = compared(runs).to_markdown(index=False, disable_numparse=True)
        (settings.output / "training.md").write_text(
            f"{settings.iterations} iterations of `{CONFIG}` at {settings.image_side} px, the same "
            f"weights and batches for all; total losses, and the largest difference to the CPU's "
            f"in the first {SAME} iterations.\n\n{table}\n\n![Losses](losses.png)\n"
        )
    if failed:
        sys.exit(f"Failed: {'; '.join(failed)}.")


def compared(runs: dict[str, dict]) -> pd.DataFrame:
    """Make a row of each training."""
    rows = []
    for name, x in runs.items():
        losses = x["losses"]
        rows.append(
            {
                "training": name,
                "first loss": f"{losses[0]:.4f}",
                f"last {FEW}": f"{mean(losses[-FEW:]):.3f}",
                "difference": "–" if CPU not in runs else difference(losses, runs[CPU]["losses"]),
                "skipped": x["skipped"],
                "ms per iteration": f"{1000 * x['seconds']:.0f}",
                "peak MiB": "–" if x["MiB"] is None else f"{x['MiB']:.0f}",
            }
        )
    return pd.DataFrame(rows)


def difference(losses: Sequence[float], expected: Sequence[float]) -> str:
    """Return the largest relative difference in the first few iterations."""
    pairs = [*zip(losses, expected, strict=False)][:SAME]
    return f"{max(abs(x - y) / abs(y) for x, y in pairs):.1e}"


def draw(losses: dict[str, list[float]], path: Path) -> None:
    """Plot the total losses, means over some iterations each."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    for name, values in losses.items():
        smooth = pd.Series(values, range(1, len(values) + 1)).rolling(FEW, min_periods=1).mean()
        axis.plot(smooth, label=name, linestyle="--" if name == CPU else "-")
    axis.set(xlabel="iteration", ylabel=f"total loss, mean of {FEW} iterations")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)
