"""No format, but everything that must not happen: what the suite itself is tested with."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hostile.case import Case
from scopenet.errors import ConfigError


def refuse(sentence: str) -> None:
    raise ConfigError(sentence)


def use_memory(path: Path) -> None:
    b"x" * (1200 << 20)
    refuse(f"{path} is large.")


def import_anew(_: Path) -> None:
    sys.modules.pop("colorsys", None)
    __import__("colorsys")


# By name: what is done on reading, and what the suite is to say of it.
HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "signal": (lambda _: os.kill(os.getpid(), signal.SIGSEGV), "ended with SIGSEGV"),
    "exit": (lambda _: os._exit(0), "ended with exit code 0"),
    "hang": (lambda _: time.sleep(60), "no answer within"),
    "import": (lambda _: __import__("this_module_is_not_there"), "this_module_is_not_there"),
    "import of what is there": (import_anew, "import colorsys"),
    "write": (lambda path: path.with_name("x").write_bytes(b""), "for writing"),
    "read": (lambda _: open(os.path.expanduser("~")), "for reading"),
    "process": (lambda _: subprocess.run(["true"]), "subprocess.Popen"),
    "shell": (lambda _: os.system("true"), "os.system"),
    "connection": (lambda _: socket.create_connection(("127.0.0.1", 9)), "socket."),
    "folder": (lambda path: path.with_name("y").mkdir(), "os.mkdir"),
    "memory": (lambda _: bytearray(1 << 40), "MemoryError"),
    "much memory": (use_memory, "MiB of memory used"),
    "another error": (lambda _: [][1], "IndexError"),
    "no sentence": (lambda path: refuse(f"{path} is bad"), "no sentence"),
    "no name": (lambda _: refuse("It is bad."), "it does not name the file"),
    "another value": (lambda _: 1, "AssertionError"),
    "refused": (lambda path: refuse(f"{path} is bad."), ""),
    "loaded": (lambda _: 2, ""),
}


class Harmful:
    suffix = ".x"
    packages = frozenset()
    reads = ()

    def __init__(self, folder: Path):
        self.sound_file = folder / "sound.x"
        self.sound_file.write_bytes(b"loaded")

    def make(self, rng: random.Random) -> Case:
        name = rng.choice([*HARMS])
        return Case(name, name.encode())

    def load(self, path: Path) -> object:
        return HARMS[path.read_text()][0](path)

    def check(self, case: Case, path: Path, value: object) -> None:
        assert value == 2
