"""The process that reads hostile files: one line of JSON for each, on what its parent asks for.

A request is a line "KIND SEED FIRST LAST"; the answers are ``{"ready": true}`` when the kind is set
up, then for each number ``{"number", "what", "outcome", "detail"}``. An outcome is "refused",
"loaded" or "failed".
"""

import importlib
import json
import os
import random
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from hostile.case import Case, Kind
from hostile.watch import Watch, limit_memory, peak

KINDS = {
    "pkl": "weights_pkl:Pkl",
    "pth": "weights_pth:Pth",
    "safetensors": "weights_safetensors:Safetensors",
    "yaml": "configs:Yaml",
    "published yaml": "configs:Published",
    "coco json": "coco:CocoJson",
    "zoo index": "zoo:ZooIndex",
    "onnx": "exported:Onnx",
    "openvino": "exported:OpenVino",
    "image": "pictures:Picture",
    "harmful": "harmful:Harmful",
}
LONGEST = 2000  # characters of a sentence


def set_up(name: str, folder: Path) -> Kind:
    """Import what the kind needs, and write what its files need, into ``folder``."""
    module, _, kind = KINDS[name].partition(":")
    folder.mkdir(parents=True, exist_ok=True)
    made = getattr(importlib.import_module(f"hostile.{module}"), kind)(folder)
    made.load(made.sound_file)  # what that imports and sets up is not the doing of a hostile file
    return made


def make(kind: Kind, name: str, seed: int, number: int) -> Case:
    """The file of that number."""
    return kind.make(random.Random(f"{name} {seed} {number}"))


def write(case: Case, kind: Kind, folder: Path) -> Path:
    """Write the file and those beside it, and nothing else, into ``folder``."""
    shutil.rmtree(folder, ignore_errors=True)  # also faster than to write files anew
    path = folder / f"file{case.suffix or kind.suffix}"
    for name, content in [*case.beside.items(), (path.relative_to(folder), case.content)]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return path


def examine(kind: Kind, case: Case, path: Path, watch: Watch) -> tuple[str, str]:
    """Read the file and say what came of it, and why that is a failure."""
    value, sentence, used = None, None, []
    try:
        reads = (str(path.parent), *kind.reads)
        with peak(used), watch.over(kind.packages, reads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = kind.load(path)
    except ValueError as error:
        if type(error).__name__ not in ("ConfigError", "ImageError"):
            return "failed", traceback.format_exc(limit=-4)
        sentence = error
    except BaseException:
        return "failed", "; ".join([*watch.seen, traceback.format_exc(limit=-4)])
    if watch.seen or used:
        return "failed", "; ".join([*watch.seen, *used])
    if sentence is not None:
        wrong = fault_of(sentence, path)
        return ("failed", wrong) if wrong else ("refused", str(sentence))
    try:
        sys.setrecursionlimit(3000)
        kind.check(case, path, value)
    except Exception:
        return "failed", traceback.format_exc(limit=-3)
    finally:
        sys.setrecursionlimit(1000)
    return "loaded", ""


def fault_of(error: Exception, path: Path) -> str:
    """Say why this is not one sentence that names the file; "" if it is."""
    text, cause, met = str(error), error, []
    while cause is not None and cause not in met:
        met.append(cause)
        place = traceback.format_tb(cause.__traceback__, -2)
        # Python makes room for what it is to read, but does not use more of it than there is.
        if isinstance(cause, MemoryError) and ".read(" not in place[-1]:
            return f"it wants more memory than there is: {text[:300]} {place}"
        cause = cause.__cause__ or cause.__context__
    if len(text) > LONGEST:
        return f"a sentence of {len(text)} characters: {text[:300]}"
    if not text.isprintable() or text[-1] not in ".?" or text[-2] in ".!":
        return f"no sentence: {text!r}"
    return "" if str(path.parent) in text else f"it does not name the file: {text}"


def serve(folder: Path) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print
    kinds: dict[str, Kind] = {}
    watch = Watch()

    def answer(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")

    for line in sys.stdin:
        name, seed, first, last = json.loads(line)
        own = folder / name.replace(" ", "_")
        if name not in kinds:
            kinds[name] = set_up(name, own / "sound")
        limit_memory()
        answer(ready=True)
        for number in range(first, last):
            case = make(kinds[name], name, seed, number)
            path = write(case, kinds[name], own / "read")
            outcome, detail = examine(kinds[name], case, path, watch)
            answer(number=number, what=case.what, outcome=outcome, detail=detail[:4000])


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
