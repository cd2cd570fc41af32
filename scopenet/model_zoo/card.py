"""What people read: a model's card, and the table of the whole zoo. Both are Markdown."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from ..config_file import Config, settings_of
from .index import Entry, Metrics

RECORDED = ("hardware", "versions", "commit")  # what a checkpoint says and no config
UNKNOWN = "not recorded"
_SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR10", "AR100")
_CARD = """\
# {name}

{facts}

Box AP in percent:

{metrics}

`config.yaml` is the full config, without paths of the machine. Its differences from the config of
this name:

{changes}

{usage}

{files}
"""
_FROM_ZOO = """\
`scopenet.model_zoo.get("{name}", trained=True)` loads the model from the `.safetensors`, with
`SCOPENET_MODEL_ZOO` set to the folder or address of the zoo; `{checkpoint}` holds the same
tensors for Detectron2's own checkpointer."""
_FROM_HUB = """\
`scopenet.Detector.load("{address}")` loads the model, and runs nothing that it reads;
`{address}@<commit>` remains the same model for ever."""
_OF_HUB = "---\nlibrary_name: scopenet\npipeline_tag: object-detection\ntags: [detectron2]\n---\n"


def training_facts(config: Config, checkpoint: dict[str, Any]) -> dict[str, str]:
    """Say what is known of a training from its config and its checkpoint without the weights, label
    -> text; what is not known is said to be so."""
    settings, iterations = settings_of(config), checkpoint["iteration"] + 1
    whole, class_names = settings.SOLVER.MAX_ITER, checkpoint["class_names"]
    is_lazy = isinstance(config, DictConfig)
    rate = config.optimizer.get("lr", UNKNOWN) if is_lazy else settings.SOLVER.BASE_LR
    facts = {
        "architecture": settings.MODEL.META_ARCHITECTURE.rsplit(".", 1)[-1],
        "classes": f"{len(class_names)}: {', '.join(map(str, class_names))}",
        "training data": ", ".join(settings.DATASETS.TRAIN),
        "started from": settings.MODEL.WEIGHTS or "random weights",
        "iterations": iterations if iterations == whole else f"{iterations} of {whole}",
        "images per iteration": settings.SOLVER.IMS_PER_BATCH,
        "learning rate": rate,
        "seed": settings.SEED if settings.SEED >= 0 else UNKNOWN,
        **{x: checkpoint.get(x, UNKNOWN) for x in RECORDED},
    }
    return {label: str(x) for label, x in facts.items()}


def _text(value: Any) -> str:
    """Write any value as text that is neither markup nor the end of a table's cell."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", " ".join(str(value).split()))


def _table(header: Sequence[str], *rows: Sequence[str]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _evaluations(metrics: Metrics, names: Sequence[str]) -> Iterator[list[str]]:
    """Yield a row of each evaluation: its data set and the named metrics."""
    for dataset, values in metrics.items():
        known = [values.get(x) for x in names]
        yield [_text(dataset), *("–" if x is None else f"{x:.1f}" for x in known)]


def write_card(name: str, entry: Entry, changes: dict[str, Any], address: str = "") -> str:
    """Write the card of the model of the config ``name``; ``changes`` are the keys that differ from
    the config file, and their values; ``address`` is that of a repository of the Hub."""
    shown = [x for x in _SHOWN if any(x in values for values in entry.metrics.values())]
    evaluations = _table(["data set", *shown], *_evaluations(entry.metrics, shown))
    digests = [[f"`{k}`", f"{x.bytes:,}", f"`{x.sha256}`"] for k, x in entry.files.items()]
    usage = _FROM_HUB if address else _FROM_ZOO
    return _OF_HUB * bool(address) + _CARD.format(
        name=name,
        usage=usage.format(name=name, checkpoint=entry.checkpoint, address=address),
        facts=_table(["", ""], *([_text(k), _text(x)] for k, x in entry.facts.items())),
        metrics=evaluations if entry.metrics else "No evaluation of these weights is known.",
        changes="\n".join(f"- {_text(k)}: {_text(x)}" for k, x in changes.items()) or "none.",
        files=_table(["file", "bytes", "sha256"], *digests),
    )


def write_table(entries: dict[str, Entry]) -> str:
    """Write MODEL_ZOO.md, of all models by name; one without evaluation has a row, too."""
    rows = []
    for name, entry in sorted(entries.items()):
        card = f"[{_text(name)}]({entry.folder}/README.md)"
        facts = [_text(entry.facts.get(x, "")) for x in ("training data", "iterations")]
        names = {"safetensors": f"{entry.weights}.safetensors"}
        names |= {entry.checkpoint.rpartition(".")[2]: entry.checkpoint, "config": "config.yaml"}
        links = ", ".join(f"[{label}]({entry.folder}/{x})" for label, x in names.items())
        for evaluation in _evaluations(entry.metrics or {"–": {}}, _SHOWN[:3]):
            rows.append([card, *facts, *evaluation, links])
    header = ["config", "trained on", "iterations", "evaluated on", *_SHOWN[:3], "files"]
    return (
        "# Model zoo\n\nWritten from `index.json` by `scopenet publish`; box AP in percent.\n\n"
        f"{_table(header, *rows)}\n"
    )
