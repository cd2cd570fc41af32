"""Hands hostile files to a process that reads them, and replaces it when one has killed it."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
SECONDS = 10  # for one file
STARTING = 300  # for imports and sound files
AT_ONCE = 5000  # files of one process


class Reader:
    """One process at a time; ``folder`` is for its files."""

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self.seed = folder, seed
        self._process: subprocess.Popen | None = None
        self._unread = b""

    def answers(self, kind: str, first: int, last: int) -> Iterator[dict]:
        """What became of each file from ``first`` up to ``last``, see :mod:`hostile.child`."""
        for start in range(first, last, AT_ONCE):
            end = min(start + AT_ONCE, last)
            while start < end:
                self._ask(kind, start, end)
                while start < end and (answer := self._answer(SECONDS)):
                    yield answer
                    start = answer["number"] + 1
                if start < end:
                    yield {"number": start, "what": "", "outcome": "failed", "detail": self.close()}
                    start += 1
            if last - first > AT_ONCE:
                self.close()

    def _ask(self, kind: str, first: int, last: int) -> None:
        self._process = self._process or self._start()
        request = json.dumps([kind, self.seed, first, last]) + "\n"
        self._process.stdin.write(request.encode())
        self._process.stdin.flush()
        if not self._answer(STARTING):
            raise AssertionError(f"{kind}: no child: {self.close()}")

    def _start(self) -> subprocess.Popen:
        self.folder.mkdir(parents=True, exist_ok=True)
        places = [TESTS / "faults", TESTS, TESTS.parent]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}
        env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with open(self.folder / "child.log", "wb") as log:
            command = [sys.executable, "-W", "ignore", "-m", "hostile.child", str(self.folder)]
            return subprocess.Popen(command, env=env, cwd=self.folder, stderr=log, **pipes)

    def _answer(self, seconds: float) -> dict | None:
        """The next line, or None if there is none in time."""
        out = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            if not select.select([out], [], [], seconds)[0]:
                return None
            read = os.read(out, 2**16)
            if not read:
                return None
            self._unread += read
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def close(self) -> str:
        """End the process; how it had ended, if it had."""
        process, self._process, self._unread = self._process, None, b""
        if process is None:
            return ""
        process.stdin.close()
        process.stdout.close()
        try:
            code = process.wait(1)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return f"no answer within {SECONDS} s"
        log = (self.folder / "child.log").read_text(errors="replace")
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the process ended with {name}: {log[-2000:]}"
