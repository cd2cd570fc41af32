"""Files that somebody has made to do harm, or that are damaged: each is refused by one sentence or
is read as what its bytes say, and nothing else happens. In full these are more than 100 000."""

from itertools import count
from random import Random

import pytest
from hostile.harmful import HARMS
from hostile.parent import Reader
from tally import FILES_ROWS, FilesRow
from trainings import FULL

pytestmark = pytest.mark.faults

# How many of each kind, in full and in short; by what one of them takes.
FILES = {
    "pkl": (30_000, 400),
    "pth": (20_000, 300),
    "safetensors": (15_000, 200),
    "yaml": (6_000, 60),
    "published yaml": (3_000, 40),
    "coco json": (16_000, 300),
    "zoo index": (8_000, 200),
    "onnx": (3_000, 60),
    "openvino": (1_500, 30),
    "image": (10_000, 150),
}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """One process for all kinds; in full, a new one after every few thousand files."""
    reader = Reader(tmp_path_factory.mktemp("hostile"))
    yield reader
    reader.close()


def test_what_must_not_happen_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("hostile.parent.SECONDS", 5)
    reader = Reader(tmp_path)
    for name, (_, said) in HARMS.items():
        numbers = (n for n in count() if Random(f"harmful 0 {n}").choice([*HARMS]) == name)
        number = next(numbers)
        (answer,) = reader.answers("harmful", number, number + 1)
        assert answer["outcome"] == (name if name in ("refused", "loaded") else "failed"), name
        assert said in answer["detail"]
    reader.close()


def test_there_are_enough_of_them():
    assert sum(full for full, _ in FILES.values()) >= 100_000


@pytest.mark.parametrize("kind", FILES)
def test_hostile_files(reader, kind):
    row, failed = FILES_ROWS.setdefault(kind, FilesRow()), []
    for answer in reader.answers(kind, 0, FILES[kind][0 if FULL else 1]):
        row.count(answer["outcome"])
        if answer["outcome"] == "failed":
            failed.append(answer)
            where = f"{kind} {answer['number']} ({answer['what']})"
            print(
                f"{where}: {answer['detail']}\npython -m hostile '{kind}' {answer['number']} FOLDER"
            )
    assert row.loaded and row.refused > row.files / 10  # neither all nor none of them is hostile
    assert not failed, f"{len(failed)} of {row.files}: {failed[0]}"
