"""The subcommand ``publish``: from a checkpoint of a training to an entry of a zoo."""

import argparse
import json
import math
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save

from ..config_file import config_dir, find_config, leaves, settings_of
from ..engine.network import load_model
from ..engine.reliability.safe_files import load_tensors
from ..errors import ConfigError, refused
from ..training_metrics import read_metrics
from . import hub
from .card import RECORDED, training_facts, write_card
from .index import CLASS_NAMES, Entry, File, Metrics, check_path
from .models import get_config_file
from .published_config import publishable, read_published, read_source
from .zoo import Zoo


def publish(
    checkpoint: Path,
    config_file: str,
    zoo: Path | str,
    metrics_file: Path | None = None,
    recorded: dict[str, str] | None = None,
) -> Entry:
    """Publish a checkpoint of a training, without optimizer and schedule. The same again changes
    nothing; another model of the same config takes its place in the index. A ConfigError says that
    the checkpoint, the config or the evaluation is not what it should be.

    Args:
        config_file: which the training was started with, here or below the project's configs.
        zoo: its folder, or "hf://owner/name" in the Hugging Face Hub; made if need be.
        metrics_file: an evaluation for :func:`read_evaluation`, by default that of the training.
        recorded: what is known under :data:`~scopenet.model_zoo.card.RECORDED`, by default what the
            checkpoint says.
    """
    source = find_config(config_file)
    name, content = config_name(source), _read_checkpoint(checkpoint)
    config = publishable(content["config"], str(checkpoint))
    weights, files = _weights(content["model"], checkpoint)
    unshared = json.loads(json.dumps(config))  # YAML would refer back to a list that comes twice
    files["config.yaml"] = yaml.safe_dump(unshared).encode()
    files[CLASS_NAMES] = _json([str(x) for x in content["class_names"]])
    with refused(f"{checkpoint} cannot be published"):
        trained = read_published(files["config.yaml"], str(checkpoint), source)
        load_model(trained, str(checkpoint), "cpu")
    settings = settings_of(trained)
    test_sets, max_iter = list(settings.DATASETS.TEST), settings.SOLVER.MAX_ITER
    if metrics_file:
        metrics = read_evaluation(metrics_file, test_sets)
    else:
        iterations = content["iteration"] + 1
        metrics = training_evaluation(checkpoint.parent, iterations, max_iter, test_sets)
    if metrics:
        files["metrics.json"] = _json({k: {"bbox": x} for k, x in metrics.items()})
    facts = training_facts(trained, content | (recorded or {}))
    stem = name.rpartition(".")[0]
    entry = Entry(stem, weights, {k: File.of(x) for k, x in files.items()}, facts, metrics)
    changed = changes(config, read_source(source))
    if str(zoo).startswith(hub.PREFIX):
        return hub.add(str(zoo), name, entry, files, changed)
    files["README.md"] = write_card(name, entry, changed).encode()
    # The folder is named by what is in it: other contents never come under the same address.
    digests = {k: File.of(x) for k, x in files.items()}
    identity = File.of("".join(x.sha256 for x in digests.values()).encode()).sha256[:10]
    entry = replace(entry, folder=f"{stem}/{identity}", files=digests)
    Zoo(zoo).add(name, entry, files)
    return entry


def config_name(config_file: str) -> str:
    """Name a config in the zoo: relative to the project's configs, elsewhere by its file. A
    ConfigError says that the name makes no address, or that nobody could tell what it may call."""
    path, folder = Path(config_file).resolve(), config_dir().resolve()
    name = path.relative_to(folder).as_posix() if folder in path.parents else path.name
    if name.endswith(".py"):
        get_config_file(name)
    return check_path(name)


def changes(config: dict, source: dict) -> dict[str, Any]:
    """Find what a config has otherwise than the file it was started from, but for the seed."""
    before = dict(leaves(source)).items()
    names = {"SEED", "train.seed"}
    return {k: x for k, x in leaves(config) if k not in names and (k, x) not in before}


def training_evaluation(
    folder: Path, iterations: int, max_iter: int, dataset_names: list[str]
) -> Metrics:
    """Look up what a training of ``max_iter`` iterations, in ``folder``, has found on the config's
    test sets for its checkpoint after ``iterations``; empty if it was not evaluated."""
    # Detectron2 counts from 0, and evaluates after the last iteration under the number of the next.
    wanted = iterations if iterations == max_iter else iterations - 1
    results: dict[str, dict] = {}
    for key, values in read_metrics(folder / "metrics.json").items():
        dataset, is_box, name = f"/{key}".partition("/bbox/")
        if is_box and wanted in values and (dataset or len(dataset_names) == 1):
            results.setdefault(dataset[1:] or dataset_names[0], {})[name] = values[wanted]
    return {dataset: _numbers(values) for dataset, values in results.items()}


def read_evaluation(path: Path, dataset_names: list[str]) -> Metrics:
    """Read an evaluation from JSON, as Detectron2's ``test`` returns it: of several data sets
    ``{"<data set>": {"bbox": {"AP": ...}}}``, of one ``{"bbox": {"AP": ...}}`` or ``{"AP": ...}``.
    A ConfigError says that the file holds something else."""
    text, number = path.read_text(errors="replace"), len(dataset_names)
    with refused(
        f'{path} is not an evaluation: write {{"<data set>": {{"bbox": {{"AP": 38.0}}}}}}, or only '
        f'{{"bbox": {{"AP": 38.0}}}} of a single test set (the config has {number} test sets)'
    ):
        content = json.loads(text)
        content = {"bbox": content} if "AP" in content else content
        if "bbox" in content and number == 1:
            content = {dataset_names[0]: content}
        return {dataset: _numbers(results["bbox"]) for dataset, results in content.items()}


def _numbers(values: dict[str, Any]) -> dict[str, float | None]:
    """Turn the NaN of a metric that the data set has no objects for into None."""
    return {name: float(x) if math.isfinite(x) else None for name, x in values.items()}


def _read_checkpoint(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"The checkpoint {path} does not exist.")
    content = load_tensors(str(path))
    expected = {"model": dict, "config": str, "class_names": list, "iteration": int}
    missing = [x for x, kind in expected.items() if not isinstance(content.get(x), kind)]
    if missing:
        raise ConfigError(
            f"{path} holds no {' and no '.join(missing)}; only checkpoints that scopenet train has "
            "written during a training can be published."
        )
    return content


def _weights(model: dict, checkpoint: Path) -> tuple[str, dict[str, bytes]]:
    """Return the name of the two files of weights, by the sha256 of the one that Detectron2 reads,
    and the files."""
    with refused(f"{checkpoint} holds weights that cannot be written"):
        # Copies: of a view, torch.save would write all that it is a view of.
        weights = {k: x.detach().contiguous().clone() for k, x in model.items()}
        safetensors = save(weights, metadata={"format": "pt"})
        pth = BytesIO()
        torch.save({"model": weights}, pth)
    name = f"model_final_{File.of(pth.getvalue()).sha256[:6]}"
    return name, {f"{name}.safetensors": safetensors, f"{name}.pth": pth.getvalue()}


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Publish a trained model, see docs/model_zoo.md.")
    parser.add_argument("checkpoint", type=Path, help="a .pth file that scopenet train has written")
    parser.add_argument("--config-file", required=True, help="that the training was started with")
    zoo = parser.add_mutually_exclusive_group(required=True)
    zoo.add_argument("--output", type=Path, help="folder of the zoo")
    zoo.add_argument("--hub", metavar="OWNER/NAME", help="a repository of the Hugging Face Hub")
    parser.add_argument("--metrics", type=Path, help="an evaluation, by default the training's own")
    for name in RECORDED:
        parser.add_argument(f"--{name}", help="of the training, for the model's card")
    return parser


def run(args: argparse.Namespace) -> None:
    given = {x: getattr(args, x) for x in RECORDED if getattr(args, x)}
    zoo = f"{hub.PREFIX}{args.hub}" if args.hub else args.output
    entry = publish(args.checkpoint, args.config_file, zoo, args.metrics, given)
    print(f"{args.checkpoint}: {args.checkpoint.stat().st_size:,} bytes")
    for name in dict.fromkeys((f"{entry.weights}.safetensors", entry.checkpoint)):
        place = name if args.hub else args.output / entry.folder / name
        print(f"{place}: {entry.files[name].bytes:,} bytes")
    if not entry.metrics:
        print("No evaluation of these weights is known; --metrics gives one.", file=sys.stderr)
