"""The tests that are marked for a GPU."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from .settings import Settings

ROOT = Path(__file__).resolve().parents[3]
# Where all of them are, each with a variant that runs on the CPU.
TESTS = ROOT / "tests" / "test_cuda.py"


def run(settings: Settings) -> None:
    """Run them and write ``tests.md``; end the process if one failed."""
    report = (settings.output / "tests.xml").resolve()
    marks = "cuda" if settings.device == "cuda" else "not cuda and not slow"
    options = ["-v", "-m", marks, "--tb", "short", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", str(TESTS)]
    done = subprocess.run(command, cwd=ROOT)
    (settings.output / "tests.md").write_text(summary(report.read_text()))
    if done.returncode:
        sys.exit(done.returncode)


def summary(report: str) -> str:
    """Make Markdown of pytest's JUnit XML: how many tests passed, and which did not and why."""
    cases = list(ElementTree.fromstring(report).iter("testcase"))
    others = [(x, kind) for x in cases for kind in ("failure", "error", "skipped")]
    rows = []
    for case, kind in others:
        for found in case.findall(kind):
            reason = " ".join(found.get("message", "").split())[:200].replace("|", r"\|")
            rows.append(f"| `{case.get('name')}` | {kind} | {reason} |")
    text = f"{len(cases) - len(rows)} of {len(cases)} tests passed.\n"
    return text + (
        "\n| test | outcome | reason |\n|:--|:--|:--|\n" + "\n".join(rows) + "\n" if rows else ""
    )
