"""What a run records of where it ran."""

import re
import subprocess

from scopenet import __version__
from scopenet.engine import environment


def test_commit_of_the_clone():
    assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?", environment.commit())


def test_without_git(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.commit() == f"v{__version__}"


def test_in_somebody_else_s_repository(monkeypatch, tmp_path):
    file = tmp_path / "environment.py"
    file.write_text("")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(environment, "__file__", str(file))
    assert environment.commit() == f"v{__version__}"
    subprocess.run([*git, "add", "environment.py"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "tracked"], check=True)
    assert re.fullmatch(r"[0-9a-f]{7,40}", environment.commit())
