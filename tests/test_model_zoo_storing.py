"""Writing into a zoo: whatever happens, its index names whole models only."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from scopenet.model_zoo import zoo as zoo_module
from scopenet.model_zoo.index import Entry, File, parse_index
from scopenet.model_zoo.zoo import Zoo

ROOT = Path(__file__).parents[1]


def make_model(name: str, seed: int = 0) -> tuple[str, Entry, dict[str, bytes]]:
    """Arguments of ``Zoo.add``; another seed gives other contents."""
    names = ("w.pth", "w.safetensors", "config.yaml")
    files = {x: f"{name} {x} {seed} ".encode() * 5000 for x in names}
    digests = {k: File.of(x) for k, x in files.items()}
    folder = f"{name.removesuffix('.yaml')}/{seed:010}"
    return name, Entry(folder, "w", digests, {"iterations": "5"}, {}), files


def index_of(zoo: Path) -> dict[str, Entry]:
    path = zoo / "index.json"
    return parse_index(path.read_bytes(), "index") if path.exists() else {}


def tree(zoo: Path) -> dict[str, bytes]:
    files = [x for x in zoo.rglob("*") if x.is_file() and x.name != ".lock"]
    return {str(x.relative_to(zoo)): x.read_bytes() for x in files}


def assert_whole(zoo: Path) -> None:
    """All that the index names is there and as it should be."""
    for entry in index_of(zoo).values():
        for name, file in entry.files.items():
            content = (zoo / entry.folder / name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == file.sha256


def test_two_publishers_at_once(tmp_path, monkeypatch):
    def slow(text, where):
        entries = parse_index(text, where)
        time.sleep(0.05)  # time enough for the others to read the same
        return entries

    monkeypatch.setattr(zoo_module, "parse_index", slow)
    names = [f"model{i}.yaml" for i in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: Zoo(tmp_path).add(*make_model(name)), names))
    assert sorted(index_of(tmp_path)) == names
    assert_whole(tmp_path)
    table = (tmp_path / "MODEL_ZOO.md").read_text()
    assert [table.count(f"[{name}]") for name in names] == [1] * 6


def test_two_publishers_of_the_same(tmp_path):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: Zoo(tmp_path).add(*make_model("same.yaml")), range(3)))
    assert_whole(tmp_path)
    assert list(index_of(tmp_path)) == ["same.yaml"]


def test_a_damaged_model_is_mended(tmp_path):
    Zoo(tmp_path).add(*make_model("a.yaml"))
    before = tree(tmp_path)
    (tmp_path / "a/0000000000/w.pth").write_bytes(b"damaged")
    Zoo(tmp_path).add(*make_model("a.yaml"))
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["a.yaml", "b.yaml"])
@pytest.mark.parametrize("leftover", [".unfinished", ".unfinished/of_another_model.pth"])
def test_leftovers_of_a_killed_publisher(tmp_path, name, leftover):
    Zoo(tmp_path).add(*make_model("a.yaml"))
    (tmp_path / leftover).parent.mkdir(exist_ok=True)
    (tmp_path / leftover).write_text("half")
    _, entry, files = make_model(name)
    Zoo(tmp_path).add("a.yaml", replace(entry, facts={"iterations": "6"}), files)
    assert not [x for x in tree(tmp_path) if "unfinished" in x or "another" in x]
    assert index_of(tmp_path)["a.yaml"].facts == {"iterations": "6"}


def test_full_disk(tmp_path, monkeypatch):
    """A write that fails, be it the first or the last one."""
    for i in range(100):
        zoo = tmp_path / str(i)
        Zoo(zoo).add(*make_model("a.yaml"))
        before = (zoo / "index.json").read_bytes()
        calls = iter(range(100))

        def fsync(descriptor, i=i, calls=calls):
            if next(calls) == i:
                raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            try:
                Zoo(zoo).add(*make_model("a.yaml", seed=1))
                break
            except OSError:
                assert_whole(zoo)
                is_old = (zoo / "index.json").read_bytes() == before
                assert is_old or i > 5  # three files and three folders come before the index
    assert i > 5 and index_of(zoo)["a.yaml"].folder.endswith("1")


# Kills itself before the n-th line of this package that is run, for all n.
KILL_EVERYWHERE = """
import os, shutil, signal, sys
from pathlib import Path
from scopenet.model_zoo.zoo import Zoo
from test_model_zoo_storing import assert_whole, index_of, make_model, tree

folder = Path(sys.argv[1])
old, new = make_model("a.yaml"), make_model("b.yaml", seed=1)
Zoo(folder / "start").add(*old)
shutil.copytree(folder / "start", folder / "whole")
Zoo(folder / "whole").add(*new)

def die_at(n):
    count = 0
    def trace(frame, event, argument):
        nonlocal count
        if not frame.f_code.co_filename.endswith(("zoo.py", "atomic.py", "shutil.py")):
            return None
        if event == "line":
            count += 1
            if count == n:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace
    sys.settrace(trace)

kills = {"old": 0, "new": 0}
for n in range(1, 100_000):
    zoo = folder / "zoo"
    shutil.copytree(folder / "start", zoo)
    child = os.fork()
    if not child:
        die_at(n)
        Zoo(zoo).add(*new)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert_whole(zoo)
    kills["new" if "b.yaml" in index_of(zoo) else "old"] += 1
    Zoo(zoo).add(*new)
    assert tree(zoo) == tree(folder / "whole"), n
    shutil.rmtree(zoo)
    if status == 0:
        break
print(n, kills["old"], kills["new"])
"""


@pytest.mark.faults
def test_killed_at_any_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILL_EVERYWHERE, tmp_path],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    total, old, new = map(int, done.stdout.split())
    assert total == old + new and old > 30 and new > 5
