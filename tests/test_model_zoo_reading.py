"""Reading from folders and addresses: what is not what was published is refused, and not kept."""

import json
import pickle
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import pytest
import torch
from miniature import one_thread
from zoos import CONFIG, change_index, publish_small, refusal

from scopenet import Detector, model_zoo
from scopenet.engine.checkpoint import SafeCheckpointer
from scopenet.model_zoo.publishing import publish
from scopenet.model_zoo.zoo import Zoo, _read_at_most


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    return publish_small(tmp_path_factory.mktemp("published"))


@pytest.fixture
def zoo(published, tmp_path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(published / "zoo", tmp_path / "zoo"))


# Files that are not the published ones.


@pytest.mark.parametrize("suffix", [".safetensors", "config.yaml"])
def test_damaged_file(zoo, suffix):
    (path,) = zoo.rglob(f"*{suffix}")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(path) in refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)
    assert path.exists()  # it is not ours


def test_a_zoo_in_a_folder_needs_no_cache(zoo, monkeypatch):
    monkeypatch.setattr("scopenet.model_zoo.zoo.get_cache_dir", None)
    assert model_zoo.published(CONFIG, zoo=zoo)[1].startswith(str(zoo))
    (path,) = zoo.rglob("*.safetensors")
    path.write_bytes(b"")
    assert "sha256" in refusal(model_zoo.published, CONFIG, zoo=zoo)


def test_damaged_file_is_not_parsed(zoo, monkeypatch):
    (path,) = zoo.rglob("*.safetensors")
    path.write_bytes(path.read_bytes() + b" ")
    monkeypatch.setattr("scopenet.engine.reliability.safe_files.load_file", None)
    assert "sha256" in refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)


def test_missing_file(zoo):
    (path,) = zoo.rglob("*.safetensors")
    path.unlink()
    message = refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)
    assert message == f"The model zoo's {path} cannot be read (No such file or directory)."


@pytest.fixture
def server(zoo, tmp_path, monkeypatch) -> Iterator[tuple[str, list[str]]]:
    """The zoo's address, and the paths that have been asked for; downloads go to `cache`."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))
    handler = partial(Handler, directory=str(zoo))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/", asked
        http.shutdown()
        thread.join()


def downloads(tmp_path: Path) -> list[Path]:
    return [x for x in (tmp_path / "cache").rglob("*") if x.is_file()]


def test_address(server, published, tmp_path):
    address, asked = server
    expected = torch.load(published / "x.pth", weights_only=True)["model"]
    model_zoo.get_config(CONFIG, trained=True, zoo=address)
    assert [x.rsplit("/", 1)[1] for x in asked] == ["index.json", "config.yaml"]
    for _ in range(2):
        model = model_zoo.get(CONFIG, trained=True, zoo=address)
        assert all(torch.equal(x, expected[k]) for k, x in model.state_dict().items())
    assert len([x for x in asked if x.endswith(".safetensors")]) == 1
    assert asked.count("/index.json") == 3  # there may be news
    url = model_zoo.get_checkpoint_url(CONFIG, zoo=address)
    assert url.startswith(f"{address}ScopeNet_R_50_FPN_1x/") and url.endswith(".pth")
    (kept,) = [x for x in downloads(tmp_path) if x.suffix == ".safetensors"]
    kept.write_bytes(b"damaged on this disk")
    model_zoo.get(CONFIG, trained=True, zoo=address)
    assert len([x for x in asked if x.endswith(".safetensors")]) == 2


@pytest.mark.parametrize("change", [lambda x: x + b"more", lambda x: x[:-1], lambda x: b""])
def test_bad_download_is_removed(server, zoo, tmp_path, change):
    address, _ = server
    model_zoo.get(CONFIG, trained=True, zoo=address)
    (kept,) = [x for x in downloads(tmp_path) if x.suffix == ".safetensors"]
    kept.write_bytes(b"damaged on this disk")
    (path,) = zoo.rglob("*.safetensors")
    path.write_bytes(change(path.read_bytes()))
    message = refusal(model_zoo.get, CONFIG, trained=True, zoo=address)
    assert f"{address}{path.relative_to(zoo)} does not have the sha256" in message
    assert [x.name for x in downloads(tmp_path)] == ["config.yaml"]


def test_endless_download():
    class Endless(BytesIO):
        def read(self, size=-1):
            assert 0 < size <= 2**20, "not in one piece, which might exceed the memory"
            self.seek(0)
            return super().read(size)

    assert _read_at_most(Endless(b"x" * 2**20), 3 * 2**20 + 5) == b"x" * (3 * 2**20 + 5)


def test_index_with_a_size_beyond_all_memory(server, zoo):
    address, _ = server
    change_index(zoo, lambda entry: [x.update(bytes=10**18) for x in entry["files"].values()])
    for root in (address, zoo):
        model_zoo.get(CONFIG, trained=True, zoo=root)


def test_unreachable(server, zoo):
    address, _ = server
    (zoo / "index.json").unlink()
    not_there = refusal(model_zoo.get_checkpoint_url, CONFIG, zoo=address)
    assert f"{address}index.json cannot be read (HTTP Error 404" in not_there
    assert "cannot be read" in refusal(
        model_zoo.get_checkpoint_url, CONFIG, zoo="http://127.0.0.1:1"
    )


def test_no_zoo(monkeypatch, tmp_path):
    monkeypatch.delenv("SCOPENET_MODEL_ZOO", raising=False)
    assert "set SCOPENET_MODEL_ZOO" in refusal(model_zoo.get, CONFIG, trained=True)
    message = refusal(Detector.load, "some name")
    assert "to find some name in; set SCOPENET_MODEL_ZOO" in message
    assert "or give the path of a config, of the folder of a training" in message
    assert "neither a folder" in refusal(model_zoo.get, CONFIG, trained=True, zoo="file:///etc")
    assert "index.json" in refusal(model_zoo.get, CONFIG, trained=True, zoo=tmp_path)


def test_unknown_names(zoo):
    close = refusal(model_zoo.get_config, "ScopeNet_R_50_FPN_1x.yml", trained=True, zoo=zoo)
    assert close.endswith(f"did you mean {CONFIG}?")
    for name in ("../setup.py", "/etc/passwd", "absent.yaml"):
        assert name in refusal(model_zoo.get_config_file, name)


def test_one_name_of_two_models(zoo):
    index = json.loads((zoo / "index.json").read_text())
    index["models"][CONFIG.replace(".yaml", ".py")] = index["models"][CONFIG]
    (zoo / "index.json").write_text(json.dumps(index))
    message = refusal(model_zoo.published, CONFIG.removesuffix(".yaml"), zoo=zoo)
    assert "has 2 models named ScopeNet_R_50_FPN_1x; did you mean" in message
    assert model_zoo.published(CONFIG, zoo=zoo)[0].MODEL.META_ARCHITECTURE == "ScopeNet"


# Indexes.


@pytest.mark.parametrize(
    "path",
    ["../../x", "/etc", "a/../b", "a//b", "C:/x", "..", "", "a\\b", "http://x/y", "%2e%2e/x",
     ".hidden/x", "a\n", None, 5, ["a"]],
)  # fmt: skip
def test_index_that_leads_elsewhere(zoo, path):
    outside = zoo.parent / "x"
    shutil.copytree(next(zoo.rglob("config.yaml")).parent, outside)
    change_index(zoo, lambda entry: entry.update(folder=path))
    message = refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)
    assert message.startswith(f"{zoo}/index.json is not the index of a model zoo: {path!r} is no")


@pytest.mark.parametrize("key", ["weights", "files"])
def test_file_that_is_elsewhere(zoo, key):
    def change(entry):
        if key == "weights":
            entry["weights"] = "../w"
        else:
            entry["files"]["../w.pth"] = entry["files"]["config.yaml"]

    change_index(zoo, change)
    assert "'../w" in refusal(model_zoo.get_checkpoint_url, CONFIG, zoo=zoo)


def test_names_that_lead_elsewhere(zoo):
    change_index(zoo, lambda entry: None, name="../../x.yaml")
    assert "'../../x.yaml' is no path" in refusal(
        model_zoo.get, "../../x.yaml", trained=True, zoo=zoo
    )


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[]", b"{}", b"[" * 100_000, b'{"format": 2, "models": {}}',
     b'{"format": 1, "models": [1]}', b'{"format": 1, "models": {"a": {"files": {}}}}'],
    ids=range(8),
)  # fmt: skip
def test_no_index(zoo, published, content):
    (zoo / "index.json").write_bytes(content)
    assert "is not the index" in refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)
    assert "is not the index" in refusal(publish, published / "x.pth", CONFIG, zoo)
    assert (zoo / "index.json").read_bytes() == content


@pytest.mark.parametrize(
    "file",
    [{"sha256": "0" * 63, "bytes": 1}, {"sha256": "../" * 22, "bytes": 1}, {"bytes": 1},
     {"sha256": "0" * 64, "bytes": -1}, {"sha256": "0" * 64, "bytes": "1"}],
    ids=range(5),
)  # fmt: skip
def test_index_with_false_files(zoo, file):
    change_index(zoo, lambda entry: entry["files"].update({"config.yaml": file}))
    assert "is not the index" in refusal(model_zoo.get, CONFIG, trained=True, zoo=zoo)


def test_zoo_of_an_earlier_version(zoo, published):
    """It has the weights as a pickle in place of the .pth."""
    (pth,) = zoo.rglob("*.pth")
    weights = torch.load(pth, weights_only=True)["model"]
    pkl = pth.rename(pth.with_suffix(".pkl"))
    content = {"model": {k: x.numpy() for k, x in weights.items()}, "__author__": "ScopeNet"}
    pkl.write_bytes(pickle.dumps(content))

    def change(entry):
        del entry["files"][pth.name]
        entry["files"][pkl.name] = {"sha256": "0" * 64, "bytes": 0}  # never read by these functions

    change_index(zoo, change)
    assert model_zoo.get_checkpoint_url(CONFIG, zoo=zoo) == str(pkl)
    cfg = model_zoo.get_config(CONFIG, trained=True, zoo=zoo)
    for path in (cfg.MODEL.WEIGHTS, ""):
        model = model_zoo.get(CONFIG, trained=True, zoo=zoo)
        if path:
            SafeCheckpointer(model).load(path)
        assert all(torch.equal(x, weights[k]) for k, x in model.state_dict().items())


@pytest.mark.parametrize(
    "root, is_warned",
    [
        ("http://example.org/zoo", True),
        ("http://localhost.example.org/zoo", True),
        ("https://example.org/zoo", False),
        ("http://localhost:8000/zoo", False),
        ("http://127.0.0.1/zoo", False),
        ("zoo", False),
    ],
)
def test_plain_http(caplog, root, is_warned):
    Zoo(root)
    assert [x.getMessage().startswith(f"{root} is plain http") for x in caplog.records] == (
        [True] * is_warned
    )
