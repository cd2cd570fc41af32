"""`scopenet predict --engine ray`: what one machine gives, whatever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import pytest
from builders import write_training
from miniature import mini_datasets, one_thread, write_photos
from object_store import SETTINGS, object_store

from scopenet import cli
from scopenet.errors import ImageError
from scopenet.predict.cluster import TRIES, Attempts, shard_rows
from scopenet.predict.dataset import DATASET
from scopenet.predict.shards import Numbered, write_shards
from scopenet.predict.sources import Item
from scopenet.storage import LocalFolder, open_folder

ROOT = Path(__file__).resolve().parent.parent
COUNT = 60


# --- a shard, without Ray -------------------------------------------------------------------------


class Died(BaseException):
    """In place of the end of a process."""


class Deadly:
    """A detector that dies of some images, and finds nothing in the others."""

    def __init__(self, *deadly: str):
        self.deadly, self.seen = deadly, []

    def stream(self, images):
        for image in images:
            self.seen.append(image)
            if image in self.deadly:
                raise Died
            yield ImageError(f"{image} is empty")


def look_until_whole(detector: Deadly, folder: LocalFolder, names: str) -> int:
    """Look at a shard again and again; return how often it took."""
    items = [Numbered(3, Item(x, x)) for x in names]
    for attempt in range(1, 20):
        attempts = Attempts(folder, 3)
        try:
            list(write_shards(shard_rows(detector, items, 0.5, attempts), folder, "jsonl"))
        except Died:
            assert "detections-000003.jsonl" not in folder.names()
            continue
        attempts.done()
        return attempt
    raise AssertionError("never done")


def test_an_image_that_kills_its_worker_is_set_aside(tmp_path):
    folder, detector = LocalFolder(tmp_path), Deadly("c", "e")
    # Once all together, then three times for each of the two.
    assert look_until_whole(detector, folder, "abcdef") == 1 + 2 * TRIES + 1
    rows = [json.loads(x) for x in folder.read("detections-000003.jsonl").splitlines()]
    assert [x["path"] for x in rows] == list("abcdef")
    died = [x["path"] for x in rows if "died, 3 times" in x["error"]]
    assert died == ["c", "e"] and detector.seen.count("c") == 1 + TRIES
    assert sorted(folder.names()) == ["_failures-000003.jsonl", "detections-000003.jsonl"]


def test_a_worker_that_was_killed_once_costs_no_image(tmp_path):
    folder = LocalFolder(tmp_path)
    Attempts(folder, 3)
    assert look_until_whole(Deadly(), folder, "abc") == 1
    rows = [json.loads(x) for x in folder.read("detections-000003.jsonl").splitlines()]
    assert [x["error"] for x in rows] == ["it is empty"] * 3


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A trained detector, and photographs in `photos`, of which number 7 is damaged."""
    folder = tmp_path_factory.mktemp("cluster")
    with mini_datasets(folder), one_thread():
        write_training(folder)
        write_photos(folder / "photos", COUNT, damaged=7)
        cli.run("predict", flags(folder, folder / "expected", engine="local"))
        yield folder


@pytest.fixture(scope="module")
def cluster():
    """Two cores of a cluster of Ray, of this machine; yields its address."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests", "OMP_NUM_THREADS": "1"}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    environment |= {"RAY_worker_niceness": "0", **SETTINGS}
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    start = ["start", "--head", "--num-cpus", "2", "--port", "6391", "--include-dashboard", "false"]
    start += ["--object-store-memory", str(100 * 2**20)]
    subprocess.run([*ray, *start], env=environment, check=True, capture_output=True, timeout=120)
    yield "127.0.0.1:6391"
    subprocess.run([*ray, "stop", "--force"], capture_output=True, timeout=60)


@pytest.fixture
def joined(cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # its token is below a HOME that tests change


def flags(folder: Path, output: object, *more: object, engine: str = "ray") -> list[str]:
    given = ["--model", folder, "--input", folder / "photos", "--output", output]
    given += ["--confidence-threshold", "0.1", "--format", "coco", "--shard-size", "6"]
    given += ["--engine", engine, *(["--worker-cpus", "1"] if engine == "ray" else []), *more]
    return list(map(str, given))


def predict(folder: Path, output: object, *more: object, engine: str = "ray") -> str:
    """Run the command in a process of its own, as Ray wants it; return what it says in the end."""
    process = drive(folder, output, *more, engine=engine)
    out, errors = process.communicate(timeout=300)
    return out + errors.rpartition("error: ")[2] if process.returncode else out


def drive(folder: Path, output: object, *more: object, engine: str = "ray") -> subprocess.Popen:
    command = [sys.executable, "-m", "scopenet", "predict"]
    command += flags(folder, output, *more, engine=engine)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def dataset_of(output: object) -> bytes:
    return open_folder(str(output)).read(DATASET)


def shards_of(output: object) -> dict[str, bytes]:
    written = open_folder(str(output))
    return {x: written.read(x) for x in written.names() if x.startswith(("detections", "_fail"))}


def wait_for_shards(output: Path, count: int, process: subprocess.Popen) -> None:
    while len(list(output.glob("detections-*"))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def workers() -> list[int]:
    """List the processes that hold a detector."""
    return [
        int(x.name)
        for x in Path("/proc").iterdir()
        if x.name.isdigit() and (x / "cmdline").read_bytes().startswith(b"ray::MapWorker")
    ]


@pytest.mark.slow
def test_it_gives_what_one_machine_gives(folder, joined, tmp_path):
    assert f"{COUNT} images looked at, 1 of them failed" in predict(folder, tmp_path / "out")
    assert shards_of(tmp_path / "out") == shards_of(folder / "expected")
    assert dataset_of(tmp_path / "out") == dataset_of(folder / "expected")
    assert not list((tmp_path / "out").glob("_trying*"))
    assert "0 images looked at" in predict(folder, tmp_path / "out", "--resume")


@pytest.mark.slow
def test_it_starts_a_cluster_where_there_is_none(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_worker_niceness", "0")
    assert f"{COUNT} images looked at" in predict(folder, tmp_path / "out")
    assert shards_of(tmp_path / "out") == shards_of(folder / "expected")


@pytest.mark.slow
def test_a_killed_worker_costs_nothing(folder, joined, tmp_path):
    process = drive(folder, tmp_path)
    wait_for_shards(tmp_path, 2, process)
    for x in workers():
        os.kill(x, signal.SIGKILL)
    assert process.wait(timeout=120) == 0
    assert shards_of(tmp_path) == shards_of(folder / "expected")


@pytest.mark.slow
def test_a_killed_driver_goes_on(folder, joined, tmp_path):
    process = drive(folder, tmp_path)
    wait_for_shards(tmp_path, 2, process)
    process.kill()
    process.wait()
    assert len(shards_of(tmp_path)) < len(shards_of(folder / "expected"))
    predict(folder, tmp_path, "--resume")
    assert shards_of(tmp_path) == shards_of(folder / "expected")


@pytest.mark.slow
def test_an_image_that_kills_its_worker_is_named(folder, joined, tmp_path):
    process = subprocess.run(
        [sys.executable, ROOT / "tests/look_with_a_deadly_image.py", "011.png",
         *flags(folder, tmp_path)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert f"{COUNT} images looked at, 2 of them failed" in process.stdout
    failures = [json.loads(x) for x in (tmp_path / "_failures.jsonl").read_text().splitlines()]
    assert [Path(x["path"]).name for x in failures] == ["007.png", "011.png"]
    assert "died, 3 times" in failures[1]["error"]
    expected = shards_of(folder / "expected")
    same = {k: x for k, x in shards_of(tmp_path).items() if x == expected.get(k)}
    assert expected.keys() - same.keys() == {"detections-000001.jsonl", "_failures-000001.jsonl",
                                             "_failures.jsonl"}  # fmt: skip


@pytest.mark.slow
def test_from_and_to_an_object_store(folder, joined, tmp_path):
    with object_store("bucket") as query:
        photos = open_folder(f"s3://bucket/photos{query}")
        for x in sorted((folder / "photos").iterdir())[:12]:
            with photos.writing(x.name) as path:
                path.write_bytes(x.read_bytes())
        output = f"s3://bucket/rows{query}"
        more = ["--input", f"s3://bucket/photos{query}", "--output", output]
        assert "12 images looked at, 1 of them failed" in predict(folder, output, *more)
        found, dataset = shards_of(output), json.loads(dataset_of(output))
    names = [f"{i:03d}.png" for i in range(12) if i != 7]
    assert [x["file_name"] for x in dataset["images"]] == names
    expected = shards_of(folder / "expected")
    for name in ("detections-000000.jsonl", "detections-000001.jsonl"):
        rows, others = ([json.loads(x) for x in y[name].splitlines()] for y in (found, expected))
        assert [x | {"path": 0} for x in rows] == [x | {"path": 0} for x in others]


@pytest.mark.parametrize(
    "more, said",
    [
        (["--input", "PHOTOS.tar"], "takes no tar files"),
        (["--worker-cpus", "0"], "--worker-cpus must be at least 1"),
        (["--weights", "absent.pth"], "absent.pth"),
        (["--input", "absent"], "absent does not exist"),
        ([], r"no Ray cluster .* at \$RAY_ADDRESS, 127.0.0.1:1 "),
    ],
)
def test_what_cannot_be(folder, tmp_path, monkeypatch, more, said):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    (tmp_path / "PHOTOS.tar").touch()
    more = [str(tmp_path / x) if x == "PHOTOS.tar" else x for x in more]
    with pytest.raises(SystemExit, match=said):
        cli.run("predict", flags(folder, tmp_path / "out", *more))
    assert not (tmp_path / "out/_run.json").exists() or "cluster" in said


def test_flags_of_the_other_engine(folder, tmp_path):
    with pytest.raises(SystemExit, match="--worker-cpus is of --engine ray"):
        cli.run("predict", flags(folder, tmp_path, "--worker-cpus", "1", engine="local"))
    with pytest.raises(SystemExit, match="--engine is of runs with --format"):
        cli.run("predict", ["--model", "x", "--input", "y", "--output", "z", "--engine", "ray"])


def test_arguments_of_a_worker_are_sent_as_they_are(folder, tmp_path):
    """What the program's parser makes is plain data, which other machines can read."""
    from scopenet.predict.command import parser

    args = parser().parse_args(flags(folder, tmp_path))
    assert isinstance(args, Namespace)
    assert all(isinstance(x, str | int | float | list | None) for x in vars(args).values())
