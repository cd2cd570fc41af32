"""A function in a process of its own, which may take so long and no longer."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

LAST_LINES = 15


class Outcome(NamedTuple):
    """How it ended."""

    state: str  # "done", "failed" or "stopped"
    seconds: float
    last_lines: list[str]  # of what it printed, unless it is done


def _redirected(log: Path, function: Callable, arguments: tuple) -> None:
    os.setsid()  # what it starts is stopped with it
    with open(log, "w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        function(*arguments)


def run_limited(function: Callable, arguments: tuple, log: Path, seconds: float) -> Outcome:
    """Call ``function(*arguments)`` in a new process, and stop it, with all that it has started,
    after so many seconds. What it prints goes to the file ``log``.

    A fault of a GPU spoils the process that has met it: the next function gets another one.
    """
    process = multiprocessing.get_context("spawn").Process(
        target=_redirected, args=(log, function, arguments)
    )
    start = time.monotonic()
    process.start()
    try:
        process.join(seconds)
        state = {None: "stopped", 0: "done"}.get(process.exitcode, "failed")
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # if it was not yet the leader of its group
        process.join()
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    last_lines = [] if state == "done" else lines[-LAST_LINES:]
    return Outcome(state, time.monotonic() - start, last_lines)
