"""What people read: a model's card, and the table of the whole zoo. Both are Markdown."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from .index import Entry, File, Metrics

_SHOWN = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR10", "AR100")
_CARD = """\
# {name}

{facts}

## Box AP

{metrics}

## Config

`config.yaml` is the full config, without paths of the machine. It differs from the config of this
name by:

{changes}

## Classes

{classes}

## Files

{files}

The `.pkl` is in Detectron2's model zoo format, the `.safetensors` holds the same tensors. To load
the model, with `SCOPENET_MODEL_ZOO` set to the folder or address of the zoo:

```python
from scopenet import model_zoo

model = model_zoo.get("{name}", trained=True)
```
"""
_TABLE = """\
# Model zoo

Written from `index.json` by `projects/ScopeNet/publish_model.py`; box AP in percent.

{table}
"""


def _text(value: Any) -> str:
    """As text, whatever it holds: neither markup nor the end of a table's cell."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", " ".join(str(value).split()))


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _percent(metrics: dict[str, float | None], name: str) -> str:
    value = metrics.get(name)
    return "–" if value is None else f"{value:.1f}"


def _metrics(metrics: Metrics) -> str:
    if not metrics:
        return "No evaluation of these weights is known."
    shown = [x for x in _SHOWN if any(x in values for values in metrics.values())]
    rows = [[_text(k), *(_percent(v, x) for x in shown)] for k, v in metrics.items()]
    return _markdown(["data set, in percent", *shown], rows)


def _files(files: dict[str, File]) -> str:
    rows = [[f"`{k}`", f"{v.bytes:,}", f"`{v.sha256}`"] for k, v in files.items()]
    return _markdown(["file", "bytes", "sha256"], rows)


def write_card(
    name: str,
    *,
    facts: dict[str, str],
    metrics: Metrics,
    changes: dict[str, Any],
    class_names: Sequence[str],
    files: dict[str, File],
) -> str:
    """The card of one model.

    Args:
        name: of the config.
        facts: label -> text.
        changes: keys of the config that differ from the config file, and their values.
        files: those worth a checksum.
    """
    differing = "\n".join(f"- {_text(k)}: {_text(v)}" for k, v in changes.items())
    return _CARD.format(
        name=name,
        facts=_markdown(["", ""], [[_text(k), _text(v)] for k, v in facts.items()]),
        metrics=_metrics(metrics),
        changes=differing or "nothing.",
        classes=f"{len(class_names)}: {', '.join(map(_text, class_names))}",
        files=_files(files),
    )


def _rows(name: str, entry: Entry) -> Iterator[list[str]]:
    """One per evaluation; a model without one has a row, too."""
    suffixes = {"pkl": ".pkl", "safetensors": ".safetensors"}
    links = [f"[{k}]({entry.folder}/{entry.weights}{v})" for k, v in suffixes.items()]
    links += [f"[config]({entry.folder}/config.yaml)"]
    facts = [_text(entry.facts.get(x, "")) for x in ("training data", "iterations")]
    for dataset, metrics in entry.metrics.items() or [("–", {})]:
        percents = [_percent(metrics, x) for x in _SHOWN[:3]]
        card = f"[{_text(name)}]({entry.folder}/README.md)"
        yield [card, *facts, _text(dataset), *percents, ", ".join(links)]


def write_table(entries: dict[str, Entry]) -> str:
    """MODEL_ZOO.md, of all models by name."""
    header = ["config", "trained on", "iterations", "evaluated on", *_SHOWN[:3], "files"]
    rows = [row for name in sorted(entries) for row in _rows(name, entries[name])]
    return _TABLE.format(table=_markdown(header, rows))
