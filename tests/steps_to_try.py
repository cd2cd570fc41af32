"""What :mod:`test_trial` runs in processes of their own, with next to nothing to import."""

import os
import subprocess
import sys
import time
from pathlib import Path


def prints(words: str) -> None:
    print(words)


def fails(count: int) -> None:
    print("\n".join(map(str, range(count))), flush=True)
    os._exit(3)


def hangs(pid_file: Path) -> None:
    """And has started something that would go on."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    print("waiting", flush=True)
    pid_file.write_text(str(child.pid))
    time.sleep(600)
