"""What ``try_gpu.py`` does: one step after the other, each in a process of its own and with a
limit of its own, and a page of them all."""

import argparse
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from scopenet.engine.environment import commit, hardware, versions
from scopenet.errors import ConfigError, one_sentence_errors

from . import device_tests, timing, traces, training
from .process import Outcome, run_limited
from .settings import Settings

LIMIT = 590.0  # seconds, of all together
PAGE = "page.md"


class Step(NamedTuple):
    """A part of the trial."""

    title: str
    run: Callable[[Settings], None]  # writes `<name>.md`, and what that names
    limit: float  # seconds


# What takes all the time that it is given comes last.
STEPS = {
    "tests": Step("Tests", device_tests.run, 180.0),
    "training": Step("Training", training.run, 140.0),
    "traces": Step("A step in detail", traces.run, 90.0),
    "timing": Step("Times", timing.run, LIMIT),
}


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/gpu"), help="folder to write")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"),
                        help="cpu: everything small, to see that the program works")  # fmt: skip
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    return parser


def facts(device: str) -> dict[str, str]:
    """Say what is tried, and where."""
    found = {
        "command": f"python {shlex.join(sys.argv)}",
        "commit": commit(),
        "hardware": hardware(device),
        "versions": versions(),
    }
    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        found["GPUs"] = f"{torch.cuda.device_count()}, the first with {memory:.0f} GiB"
        found["CUDA"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    return found


def page(settings: Settings, about: dict[str, str], outcomes: dict[str, Outcome]) -> str:
    """Put together what the steps have written, and how they ended."""
    lines = [f"# A trial on {about['hardware']}", ""]
    lines += [f"- {key}: {value}" for key, value in about.items()]
    lines += ["", "| step | outcome | seconds |", "|:--|:--|--:|"]
    lines += [f"| {STEPS[k].title} | {x.state} | {x.seconds:.0f} |" for k, x in outcomes.items()]
    for name, outcome in outcomes.items():
        lines += ["", f"## {STEPS[name].title}", ""]
        fragment = settings.output / f"{name}.md"
        lines += [fragment.read_text().rstrip()] if fragment.is_file() else []
        if outcome.state == "stopped":
            lines += ["", f"Stopped after {outcome.seconds:.0f} s; there is no more than this."]
        if outcome.state != "done":
            lines += ["", f"The last lines of `{name}.log`:", "", "```", *outcome.last_lines, "```"]
    return "\n".join(lines) + "\n"


def try_out(settings: Settings, names: list[str]) -> dict[str, Outcome]:
    """Run the steps; the page has what is done at any time."""
    settings.output.mkdir(parents=True, exist_ok=True)
    end, about, outcomes = time.monotonic() + LIMIT, facts(settings.device), {}
    for name in names:
        (settings.output / f"{name}.md").unlink(missing_ok=True)  # of an earlier trial
        print(f"{STEPS[name].title} ...", end=" ", flush=True)
        limit = min(STEPS[name].limit, end - time.monotonic())
        log = settings.output / f"{name}.log"
        outcomes[name] = run_limited(STEPS[name].run, (settings,), log, limit)
        print(f"{outcomes[name].state} after {outcomes[name].seconds:.0f} s", flush=True)
        (settings.output / PAGE).write_text(page(settings, about, outcomes))
        shutil.rmtree(settings.work, ignore_errors=True)
    return outcomes


def run() -> None:
    """Run the program; it fails if a step did. One that was stopped has shown what it had."""
    args = parser().parse_args()
    with one_sentence_errors():
        if args.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("There is no GPU here; --device cpu runs everything, but small.")
        outcomes = try_out(Settings.of(args.device, args.output), args.steps)
        print(f"Written to {args.output / PAGE}.")
        if failed := [k for k, x in outcomes.items() if x.state == "failed"]:
            raise ConfigError(f"Failed: {', '.join(failed)}; see {args.output / PAGE}.")
