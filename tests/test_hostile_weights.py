"""Weights that a file describes so that reading them takes all memory, writes, or gives no weights:
each is refused by one sentence, before anything is made."""

import io
import pickle
import resource
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from scopenet import ConfigError
from scopenet.engine.checkpoint import SafeCheckpointer
from scopenet.engine.reliability.safe_files import load_pickled_arrays, load_tensors


def refusal(path: Path) -> str:
    """The message with which the file is refused, checked to be one sentence that names it."""
    with pytest.raises(ConfigError) as caught:
        SafeCheckpointer(nn.Linear(3, 2)).load(str(path), checkpointables=[])
    message = str(caught.value)
    assert str(path) in message and len(message.splitlines()) == 1
    assert message[-1] == "." and message[-2] != "." and message.isprintable()
    return message


def pkl(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "x.pkl"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, 2))
    return path


def archive(path: Path, entries: list[tuple[str, bytes]], kind: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as f:
        for name, content in entries:
            f.writestr(zipfile.ZipInfo(f"x/{name}"), content, kind)
    return path


@pytest.fixture
def entries(tmp_path) -> list[tuple[str, bytes]]:
    """Of a sound .pth."""
    torch.save({"model": nn.Linear(3, 2).state_dict()}, tmp_path / "sound.pth")
    with zipfile.ZipFile(tmp_path / "sound.pth") as f:
        return [(x.filename.partition("/")[2], f.read(x)) for x in f.infolist()]


@pytest.fixture
def little_memory():
    """2 GiB more than there is in use."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + 2**31
    resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(
    "code, reason",
    [
        (b"\x80\x02}r\xff\xff\xff\x7f.", "no object number 2147483647"),
        (b"\x80\x02}p2147483647\n.", "no object number 2147483647"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0fx.", "but only 2 remain"),
        (b"\x80\x05\x96\xff\xff\xff\xff\x0f\0\0\0x.", "but only 2 remain"),
        (b"\x80\x02X\xff\xff\xff\xffx.", "but only 2 remain"),
    ],
)
def test_pkl_with_numbers_beyond_all_memory(tmp_path, little_memory, code, reason):
    assert reason in refusal(pkl(tmp_path, code))


def test_pkl_with_an_array_of_another_size_than_its_bytes(tmp_path):
    content = pickle.dumps({"model": {"weight": np.zeros((2, 3), np.float32)}}, 2)
    huge = b"\x8a\x06\0\0\0\0\0\x01"  # 2^40, in place of the shape 2, 3
    assert content.count(b"K\x02K\x03\x86") == 1
    path = pkl(tmp_path, content.replace(b"K\x02K\x03\x86", huge + huge + b"\x86"))
    message = refusal(path)
    assert "refused: 24 bytes are no array of shape (1099511627776, 1099511627776)" in message
    path = pkl(tmp_path, content.replace(b"K\x02K\x03\x86", b"K\x03K\x02\x86"))
    assert load_pickled_arrays(str(path))["model"]["weight"].shape == (3, 2)


@pytest.mark.parametrize(
    "value",
    [b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\nscalar\n", b"]q\0h\0a", b"cnumpy\ndtype\n)R"],
)
def test_pkl_with_values_that_are_no_plain_ones(tmp_path, value):
    path = pkl(tmp_path, b"\x80\x02}X\x01\0\0\0a" + value + b"s.")
    assert "is not a file of tensors and plain types: " in refusal(path)


def test_pth_with_tensors_as_names(tmp_path):
    torch.save({"model": {}, torch.zeros(2): 1}, tmp_path / "x.pth")
    assert "it names something by a Tensor." in refusal(tmp_path / "x.pth")


def test_a_value_that_comes_twice_does_not_hold_itself(tmp_path):
    twice = [1, 2]
    path = pkl(tmp_path, {"model": {}, "a": [twice, twice], "b": twice})
    assert load_pickled_arrays(str(path))["a"] == [[1, 2], [1, 2]]
    laughs: list = [0]
    for _ in range(60):
        laughs = [laughs, laughs]
    assert len(load_pickled_arrays(str(pkl(tmp_path, {"a": laughs})))["a"]) == 2


@pytest.mark.parametrize(
    "weights, named",
    [
        ([1], "holds a list instead of a dict of weights"),
        ({3: np.zeros(2)}, "3 is no array"),
        ({"weight": np.array(["a"])}, "'weight' is no array of numbers"),
        ({"weight": np.float32(3)}, "'weight' is no array of numbers"),
        ({"weight": [1.0, 2.0]}, "'weight' is no array of numbers"),
        ({"weight": None}, "'weight' is no array of numbers"),
    ],
)
def test_weights_that_are_no_arrays(tmp_path, weights, named):
    content = {"model": weights, "__author__": "x"}
    assert named in refusal(pkl(tmp_path, content))
    if isinstance(weights, dict):  # Caffe2's
        assert named in refusal(pkl(tmp_path, {"blobs": weights}))


@pytest.mark.parametrize("names", ["red", {"red": 1}, ["red", 1], np.zeros(2)])
def test_names_of_classes_that_are_none(tmp_path, names):
    content = {"model": {}, "__author__": "x", "class_names": names}
    assert "does not name its classes by a list" in refusal(pkl(tmp_path, content))


def test_names_of_weights_that_match_nothing(tmp_path):
    content = {"model": {}, "__author__": "x", "matching_heuristics": True}
    assert "cannot be given to the model: IndexError" in refusal(pkl(tmp_path, content))


def test_pth_that_fills_the_memory(tmp_path, entries):
    """By what PyTorch lets a file call."""
    code = b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R."
    path = archive(tmp_path / "x.pth", [("data.pkl", code), *entries[1:]])
    assert "refused: it asks for __builtin__.bytearray." in refusal(path)


@pytest.mark.parametrize("how", ["compressed", "overlap", "share a name"])
def test_pth_that_is_larger_than_its_file(tmp_path, entries, how):
    path = tmp_path / "x.pth"
    if how == "compressed":
        archive(path, [*entries, ("data/9", bytes(2**20))], zipfile.ZIP_DEFLATED)
    elif how == "share a name":
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive(path, [*entries, entries[0]])
    else:  # the table of contents says more of the last part than there is
        content = bytearray(archive(path, entries).read_bytes())
        at = content.rindex(b"PK\1\2") + 20
        content[at : at + 8] = 2 * (len(content)).to_bytes(4, "little")
        path.write_bytes(content)
    assert "its parts are compressed, overlap, or share a name" in refusal(path)
    load_tensors(str(archive(path, entries)))


def test_pth_in_the_form_that_would_be_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    with tarfile.open(path, "w") as f:
        for name in ("storages", "tensors", "pickle"):
            f.addfile(tarfile.TarInfo(name), io.BytesIO())
    monkeypatch.setattr("tempfile.mkdtemp", lambda *_: pytest.fail("a folder is made"))
    assert "refused: it does not begin as one" in refusal(path)


def test_pth_with_other_tensors(tmp_path):
    sparse = torch.eye(3).to_sparse()
    torch.save({"model": {"weight": sparse}}, tmp_path / "x.pth")
    assert "refused: it asks for torch._utils._rebuild_sparse_tensor" in refusal(tmp_path / "x.pth")
    torch.save({"model": {}, "x": torch.zeros(3, device="meta")}, tmp_path / "x.pth")
    assert "refused: it asks for " in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize("new", [True, False])
def test_what_checkpoints_hold_is_read(tmp_path, new):
    weight = nn.Linear(3, 2).weight
    schedule = torch.optim.lr_scheduler.MultiStepLR(torch.optim.SGD([weight], 0.1), [3, 3, 5])
    held = {
        "model": OrderedDict(weight=weight.detach(), more=nn.Parameter(torch.ones(2))),
        "scheduler": schedule.state_dict(),
        "types": [torch.float16, torch.Size([2, 3]), torch.device("cpu"), {1, 2}, b"x", 1j, None],
    }
    torch.save(held, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    loaded = load_tensors(str(tmp_path / "x.pth"))
    assert loaded["types"] == held["types"] and loaded["scheduler"] == held["scheduler"]
    assert torch.equal(loaded["model"]["weight"], weight)


def test_no_advice_to_read_it_unsafely(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"model": {"weight": torch.zeros(2).to_sparse()}, "x": 1 << 3000}, path)
    assert "weights_only" not in refusal(path)
    torch.save({"model": 1 << 3000}, path)
    message = refusal(path)
    assert "weights_only" not in message and "arbitrary" not in message
