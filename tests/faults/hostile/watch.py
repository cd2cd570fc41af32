"""What a file may do to the process that reads it: an audit hook that notes everything else."""

import os
import resource
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = 2 << 30  # bytes of address space for one file, besides what the process has already
RESIDENT = 1 << 30  # bytes that it may really use
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Events (Python's "audit events table") that no reader has a reason for, by their beginnings.
_FORBIDDEN = (
    *("os.system", "os.exec", "os.fork", "os.spawn", "os.posix_spawn", "os.startfile", "os.kill"),
    *("subprocess.", "pty.", "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "webbrowser."),
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"),
    *("os.chmod", "os.chown", "os.chdir", "os.putenv", "os.unsetenv", "os.utime", "os.setxattr"),
    *("shutil.", "tempfile.", "ctypes.", "code.", "sqlite3.", "cpython.run", "sys.addaudithook"),
    *("sys.setprofile", "sys.settrace", "signal.", "syslog.", "gc.get", "mmap."),
)
_PYTHON = tuple(
    {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), "/proc", "/sys", "/etc", "/usr"}
)


class Watch:
    """Notes what happens while :meth:`over` is active.

    Attributes:
        seen: what must not happen, but did.
    """

    def __init__(self):
        self.seen: list[str] = []
        self._active = False
        self._packages: frozenset[str] = frozenset()
        self._reads: tuple[str, ...] = ()
        sys.addaudithook(self._hook)

    @contextmanager
    def over(self, packages: frozenset[str], reads: tuple[str, ...]) -> Iterator[None]:
        """Let these packages be imported and files below these folders be read, and nothing else
        happen."""
        self.seen, self._packages, self._reads = [], packages, (*_PYTHON, *reads)
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def _hook(self, event: str, args: tuple) -> None:
        if not self._active:
            return
        if event == "import":
            if args[0].split(".")[0] not in self._packages:
                self.seen.append(f"import {args[0]}")
        elif event == "open":
            self._opened(*args)
        elif event.startswith(_FORBIDDEN):
            self._active = False  # the text of an argument may do something, too
            self.seen.append(f"{event} {args!r:.200}")
            self._active = True

    def _opened(self, path: object, mode: str | None, flags: int) -> None:
        if isinstance(path, int):
            return
        name = os.path.abspath(os.fsdecode(path))
        if set(mode or "") & set("wax+") or (mode is None and flags & _WRITING):
            self.seen.append(f"open {name} for writing")
        elif not name.startswith(self._reads):
            self.seen.append(f"open {name} for reading")


def limit_memory() -> None:
    """Let the process have ``MEMORY`` more than it has."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, ((_status("VmSize") << 10) + MEMORY, hard))


@contextmanager
def peak(seen: list[str]) -> Iterator[None]:
    """Note in ``seen`` that more than ``RESIDENT`` was used."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the highest use so far
    before = _status("VmRSS")
    try:
        yield
    finally:
        used = (_status("VmHWM") - before) << 10
        if used > RESIDENT:
            seen.append(f"{used >> 20} MiB of memory used")


def _status(field: str) -> int:
    """In KiB, from what Linux says of this process."""
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(f"{field}:"))
