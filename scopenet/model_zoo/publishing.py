"""From a checkpoint of a training to an entry of a zoo."""

import hashlib
import json
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from detectron2.config import CfgNode
from omegaconf import DictConfig
from safetensors.numpy import save

from ..config_file import config_dir, find_config
from ..errors import ConfigError
from ..engine.checkpoint import load_tensors
from .card import write_card
from .facts import changes, config_facts, recorded_facts, run_settings_of
from .index import Entry, File, Metrics, check_path
from .metrics import read_metrics, training_metrics
from .models import get_config_file, load_model
from .published_config import is_lazy, publishable, read_published, read_source
from .storing import store


def publish(
    checkpoint: Path,
    config_file: str,
    zoo: Path,
    *,
    metrics_file: Path | None = None,
    recorded: dict[str, str] | None = None,
) -> Entry:
    """Publish a checkpoint of train_net.py, without optimizer and schedule. The same again changes
    nothing; another model of the same config takes its place in the index.

    Args:
        config_file: which the training was started with, here or below the project's configs.
        zoo: the folder of the zoo, made if need be.
        metrics_file: an evaluation, by default that of the training; see
            :mod:`scopenet.model_zoo.metrics`.
        recorded: what is known of the training under :data:`~scopenet.model_zoo.facts.RECORDED`,
            by default what the checkpoint says.

    Raises:
        ConfigError: the checkpoint, the config or the evaluation is not what it should be.
    """
    config_file = find_config(config_file)
    name, content = config_name(config_file), _read_checkpoint(checkpoint)
    if config_file.endswith(".py"):
        get_config_file(name)  # which is what will be trusted when the model is loaded
    config = publishable(content["config"], str(checkpoint))
    if is_lazy(config) != config_file.endswith(".py"):
        raise ConfigError(f"{checkpoint} was not trained with {config_file}; give its own config.")
    files = _weights(content["model"], checkpoint)
    files["config.yaml"] = yaml.safe_dump(config).encode()
    class_names = [str(x) for x in content["class_names"]]
    files["class_names.json"] = _json(class_names)
    trained = _read_back(files, config_file, checkpoint)
    metrics = _metrics(checkpoint, content["iteration"] + 1, trained, metrics_file)
    if metrics:
        files["metrics.json"] = _json({k: {"bbox": v} for k, v in metrics.items()})
    facts = config_facts(trained, content["iteration"] + 1)
    facts |= recorded_facts(content) | (recorded or {})
    card = write_card(
        name,
        facts=facts,
        metrics=metrics,
        changes=changes(config, read_source(config_file)),
        class_names=class_names,
        files=_digests(files),
    )
    files["README.md"] = card.encode()
    entry = _entry(name, files, facts, metrics)
    store(zoo, name, entry, files)
    return entry


def config_name(config_file: str) -> str:
    """The name of a config in the zoo: relative to the project's configs, elsewhere its own.

    Raises:
        ConfigError: it has characters that addresses must not have.
    """
    path = Path(config_file).resolve()
    folder = config_dir().resolve()
    return check_path(path.relative_to(folder).as_posix() if folder in path.parents else path.name)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ConfigError(f"The checkpoint {path} does not exist.")
    content = load_tensors(str(path))
    expected = {"model": dict, "config": str, "class_names": list, "iteration": int}
    missing = [x for x, kind in expected.items() if not isinstance(content.get(x), kind)]
    if missing:
        raise ConfigError(
            f"{path} holds no {' and no '.join(missing)}; only checkpoints that train_net.py has "
            "written during a training can be published."
        )
    return content


def _weights(model: dict, checkpoint: Path) -> dict[str, bytes]:
    """The two files of weights, under the name that the first has by its sha256."""
    try:
        arrays = {k: x.detach().contiguous().numpy() for k, x in model.items()}
        as_safetensors = save(arrays, metadata={"format": "pt"})
    except Exception as error:  # nearly anything, where it is no model
        reason = " ".join(str(error).split()).rstrip(".")
        raise ConfigError(f"{checkpoint} holds weights that numpy cannot: {reason}.") from error
    in_detectron2_format = pickle.dumps({"model": arrays, "__author__": "ScopeNet"}, protocol=4)
    name = f"model_final_{hashlib.sha256(in_detectron2_format).hexdigest()[:6]}"
    return {f"{name}.pkl": in_detectron2_format, f"{name}.safetensors": as_safetensors}


def _read_back(files: dict[str, bytes], config_file: str, checkpoint: Path) -> CfgNode | DictConfig:
    """The config, read as it will be from the zoo, once the weights are seen to fit it."""
    with TemporaryDirectory() as folder:
        paths = {Path(name).suffix: Path(folder, name) for name in files}
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        try:
            config = read_published(paths[".yaml"], config_file)
            load_model(config, str(paths[".safetensors"]), "cpu")
        except ConfigError as error:
            raise ConfigError(f"{checkpoint} cannot be published: {error}") from error
    return config


def _metrics(
    checkpoint: Path, iterations: int, config: CfgNode | DictConfig, given: Path | None
) -> Metrics:
    settings = run_settings_of(config)
    dataset_names = list(settings.DATASETS.TEST)
    if given:
        return read_metrics(given, dataset_names)
    max_iter = settings.SOLVER.MAX_ITER
    return training_metrics(checkpoint.parent, iterations, max_iter, dataset_names)


def _digests(files: dict[str, bytes]) -> dict[str, File]:
    return {k: File(hashlib.sha256(x).hexdigest(), len(x)) for k, x in files.items()}


def _entry(name: str, files: dict[str, bytes], facts: dict[str, str], metrics: Metrics) -> Entry:
    """The folder is named by what is in it: other contents never come under the same address."""
    digests = _digests(files)
    identity = hashlib.sha256("".join(x.sha256 for x in digests.values()).encode()).hexdigest()[:10]
    weights = next(x for x in files if x.endswith(".pkl")).removesuffix(".pkl")
    return Entry(f"{name.rsplit('.', 1)[0]}/{identity}", weights, digests, facts, metrics)


def _json(content: Any) -> bytes:
    return (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
