"""A machine reads a COCO json once, whoever starts its worker processes."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.utils import comm
from miniature import TINY, write_split

import scopenet
from scopenet import ConfigError
from scopenet.data import shared_labels
from scopenet.data.labels import KEPT, keep_labels
from scopenet.data.shared_labels import share_labels

ROOT = Path(scopenet.__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("train_noting_reads.py")
CONFIG = "configs/OwnData-ScopeNet_R_50_FPN_GN.yaml"
LAUNCHERS = {
    "--num-gpus": ([], ["--num-gpus", "2", "--dist-url", "auto"]),
    "torchrun": (["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"], []),
}


def train(folder: Path, launcher: str) -> tuple[subprocess.CompletedProcess, Counter[str]]:
    """Let two workers train and evaluate on ``folder``; count how often each json was read."""
    before, after = LAUNCHERS[launcher]
    flags = [
        f"--{split}-{kind}={folder / split}{suffix}"
        for split in ("train", "val")
        for kind, suffix in (("json", ".json"), ("images", ""))
    ]
    schedule = [
        "MODEL.SCOPENET.NORM",
        "",
        "TEST.EVAL_PERIOD",
        "1",
        "OUTPUT_DIR",
        f"{folder / 'out'}",
    ]
    reads = folder / "reads"
    reads.touch()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", *before, str(PROGRAM), "--config-file", CONFIG,
         *after, *flags, *TINY, *schedule],
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "",
                          "OMP_NUM_THREADS": "1", "READS": str(reads)},
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    return done, Counter(x for x in reads.read_text().split() if x in ("train.json", "val.json"))


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_workers_read_each_json_once(tmp_path, launcher):
    for split, number in (("train", 4), ("val", 3)):
        write_split(tmp_path / f"{split}.json", tmp_path / split, num_images=number)
    done, reads = train(tmp_path, launcher)
    assert done.returncode == 0, done.stderr
    assert "by 2 workers on cpu" in done.stdout + done.stderr
    assert reads == {"train.json": 1, "val.json": 1}
    results = json.loads((tmp_path / "out/inference/coco_instances_results.json").read_text())
    assert {x["image_id"] for x in results} <= {1, 2, 3}
    (tmp_path / "val.json").write_text("[]")
    done, _ = train(tmp_path, launcher)
    assert done.returncode != 0 and "val.json holds a list" in done.stderr


class TwoWorkers:
    """Stands for ``comm``: the calls of one worker, to which the answers of the other are known,
    or are what a function of the call returns."""

    def __init__(self, monkeypatch, rank: int, others: list):
        self.rank, self.others, self.told = rank, iter(others), []
        monkeypatch.setattr(comm, "get_local_size", lambda: 2)
        monkeypatch.setattr(comm, "get_local_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_rank", lambda: 2 + rank)  # of the second machine
        monkeypatch.setattr(comm, "all_gather", self.all_gather)

    def all_gather(self, mine):
        self.told.append(mine)
        answer = next(self.others)
        answer = answer(mine) if callable(answer) else answer
        pair = [mine, answer] if self.rank == 0 else [answer, mine]
        return ["of", "the first machine", *pair]


@pytest.fixture
def path(tmp_path) -> Iterator[str]:
    write_split(tmp_path / "x.json", tmp_path / "x", num_images=2)
    yield str(tmp_path / "x.json")
    KEPT.pop(str(tmp_path / "x.json"), None)


def test_what_one_worker_offers_the_other_takes(path, monkeypatch):
    expected, taken = keep_labels(path), []
    del KEPT[path]

    def take(offer) -> None:
        """Be the second worker, while the first one waits for it."""
        del KEPT[path]
        with monkeypatch.context() as patched:
            second = TwoWorkers(patched, 1, [False, offer])
            patched.setattr(shared_labels, "keep_labels", None)  # it must not read
            taken.append(share_labels(path))
        assert second.told == [False, None]

    TwoWorkers(monkeypatch, 0, [False, take])
    assert share_labels(path) == expected and taken == [expected]
    assert len(expected.packed) > 100


def test_what_all_have_is_not_handed_around(path, monkeypatch):
    expected = keep_labels(path)
    workers = TwoWorkers(monkeypatch, 1, [True])
    assert share_labels(path) is expected and workers.told == [True]


def test_a_bad_json_is_bad_for_all(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    path.write_text("[]")
    first = TwoWorkers(monkeypatch, 0, [False, None])
    with pytest.raises(ConfigError, match="holds a list") as raised:
        share_labels(str(path))
    assert first.told == [False, raised.value]
    TwoWorkers(monkeypatch, 1, [False, raised.value])
    with pytest.raises(ConfigError, match="holds a list"):
        share_labels(str(path))
