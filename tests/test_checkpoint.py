"""Checkpoints: what they hold, and that reading one executes nothing."""

import builtins
import json
import os
import pickle
import random
import re
import warnings
from collections import OrderedDict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from miniature import mini_datasets, mini_overrides, one_thread
from safetensors.torch import save_file
from torch import nn

from scopenet import ConfigError, load_config
from scopenet.engine.checkpoint import SafeCheckpointer, StrictCheckpointer
from scopenet.engine.reliability.random_states import restore_rng_states, rng_states
from scopenet.engine.reliability.safe_files import load_pickled_arrays
from scopenet.engine.trainer import Trainer

CONFIG = "ScopeNet_R_50_FPN_1x.yaml"
PLAIN = (str, int, float, bool, type(None))


def config(output_dir: Path, *more: str) -> CfgNode:
    # Without a test set, training ends with the checkpoint.
    return load_config(CONFIG, mini_overrides(output_dir, "DATASETS.TEST", "()", *more))


@pytest.fixture(scope="module", autouse=True)
def threads():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trainer:
    """A trainer after two iterations, which has written model_final.pth."""
    folder = tmp_path_factory.mktemp("run")
    with mini_datasets(folder / "data"):
        # The seed is drawn, as in a run that sets none: the checkpoint has to tell it.
        trainer = Trainer(config(folder / "output", "SEED", "-1"))
        trainer.train()
        yield trainer


def load_final(trainer: Trainer) -> dict:
    return torch.load(Path(trainer.cfg.OUTPUT_DIR) / "model_final.pth", weights_only=True)


def types_within(value) -> set[type]:
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, (dict, list, tuple)):
        keys = {type(k) for k in value} if isinstance(value, dict) else set()
        return keys.union({type(value)}, *map(types_within, children))
    return {type(value)}


def test_holds_tensors_and_plain_types_only(trained):
    assert types_within(load_final(trained)) <= {torch.Tensor, dict, OrderedDict, list, *PLAIN}


def test_holds_the_model(trained):
    weights = load_final(trained)["model"]
    expected = trained.model.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[k], expected[k]) for k in expected)


def test_holds_the_state_of_the_training(trained):
    checkpoint = load_final(trained)
    state = checkpoint["trainer"]
    assert checkpoint["iteration"] == state["iteration"] == 1  # the second one, just finished
    assert state["hooks"]["LRScheduler"]["last_epoch"] == 2
    momenta = [x["momentum_buffer"] for x in state["_trainer"]["optimizer"]["state"].values()]
    parameters = [p for group in trained.optimizer.param_groups for p in group["params"]]
    assert len(parameters) == len(list(trained.model.parameters()))
    assert [m.shape for m in momenta] == [p.shape for p in parameters]
    assert sum(float(m.abs().sum()) for m in momenta) > 0
    assert state["seed"] == trained.cfg.SEED >= 0


def test_tells_what_the_model_is(trained):
    checkpoint = load_final(trained)
    assert checkpoint["class_names"] == ["red", "green", "blue"]
    assert f"torch {torch.__version__}" in checkpoint["versions"] and checkpoint["commit"]
    assert "threads of" in checkpoint["hardware"]
    assert checkpoint["config"] == trained.cfg.dump()
    cfg = CfgNode.load_cfg(checkpoint["config"])
    assert build_model(cfg).load_state_dict(checkpoint["model"]).missing_keys == []


def test_resume_restores_everything(trained):
    final = load_final(trained)
    resumed = Trainer(config(trained.cfg.OUTPUT_DIR, "SEED", "-1", "SOLVER.MAX_ITER", "5"))
    assert resumed.cfg.SEED != trained.cfg.SEED  # 2^31 to choose from
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == resumed.data_loader.batch_sampler.start_iter == 2
    assert resumed.data_loader.batch_sampler.seed == trained.cfg.SEED
    assert torch.equal(torch.get_rng_state(), final["trainer"]["rng"]["torch"])
    assert resumed.scheduler.last_epoch == 2
    assert resumed.optimizer.param_groups[0]["lr"] == trained.optimizer.param_groups[0]["lr"]
    for actual, expected in zip(
        resumed.optimizer.state.values(), trained.optimizer.state.values(), strict=True
    ):
        assert torch.equal(actual["momentum_buffer"], expected["momentum_buffer"])


def test_weights_alone_start_a_new_run(trained, tmp_path):
    weights = str(Path(trained.cfg.OUTPUT_DIR) / "model_final.pth")
    fresh = Trainer(config(tmp_path, "MODEL.WEIGHTS", weights))
    fresh.resume_or_load(resume=True)  # there is nothing to resume in this folder
    assert fresh.start_iter == fresh.data_loader.batch_sampler.start_iter == 0
    assert fresh.data_loader.batch_sampler.seed == fresh.cfg.SEED == 0
    assert fresh.optimizer.state == {}
    expected = trained.model.state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in fresh.model.state_dict().items())


def draws() -> list[float]:
    """Normal numbers too: of these numpy and Python keep every second one for later."""
    return [
        *torch.rand(2).tolist(),
        *torch.randn(3).tolist(),
        *np.random.rand(2),
        *np.random.randn(1),
        *(random.random(), random.gauss(0, 1)),
    ]


@pytest.mark.parametrize("draws_before", [0, 1, 2])
def test_rng_states_round_trip(tmp_path, draws_before):
    for _ in range(draws_before):
        draws()
    torch.save(rng_states(), tmp_path / "rng.pth")
    expected = [draws() for _ in range(3)]
    restore_rng_states(torch.load(tmp_path / "rng.pth", weights_only=True))
    assert [draws() for _ in range(3)] == expected
    assert len(set(sum(expected, []))) == 30


# Files of others.


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3))
        self.bias = nn.Parameter(torch.zeros(0))
        self.register_buffer("count", torch.tensor(0))

    def zoo_weights(self) -> OrderedDict:
        """As in Detectron2's zoo: numpy arrays, here also an empty and a scalar one and one in
        Fortran order."""
        return OrderedDict(
            weight=np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
            bias=np.zeros(0, np.float32),
            count=np.array(7),
        )


class Hostile:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refusal(path: Path) -> str:
    """The message with which the file is refused, checked to be one sentence that names it."""
    with pytest.raises(ConfigError) as caught:
        SafeCheckpointer(Tiny()).load(str(path))
    message = str(caught.value)
    assert str(path) in message and len(message.splitlines()) == 1
    assert message[-1] == "." and message[-2] != "."
    return message


def hostile_weights(marker: Path) -> list[dict]:
    command = f"touch {marker}"
    return [
        {"model": Hostile(os.system, command)},
        {"model": {"weight": Hostile(builtins.eval, f"__import__('os').system('{command}')")}},
        {"model": {"weight": np.array([Hostile(os.system, command)], dtype=object)}},
        {"model": {}, Hostile(os.system, command): 0},
    ]


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pkl_that_runs_code(tmp_path, case, protocol):
    marker, path = tmp_path / "executed", tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(hostile_weights(marker)[case], protocol=protocol))
    assert re.search("refused: it (asks for|holds values of the type O8)", refusal(path))
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # so the file is as hostile as it is meant to be


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".pyth", ""])
def test_torch_file_that_runs_code(tmp_path, suffix, is_zip):
    marker, path = tmp_path / "executed", tmp_path / f"weights{suffix}"
    torch.save(hostile_weights(marker)[0], path, _use_new_zipfile_serialization=is_zip)
    refusal(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_harmless_classes_are_refused_too(tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"model": {}, "where": Path("/")}))
    assert "pathlib" in refusal(path)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pkl", "safetensors"])
def test_truncated_file(tmp_path, kind, part):
    suffix = kind if kind in ("pkl", "safetensors") else "pth"
    whole, path = tmp_path / "whole", tmp_path / f"x.{suffix}"
    if kind == "pkl":
        whole.write_bytes(pickle.dumps({"model": Tiny().zoo_weights()}))
    elif kind == "safetensors":
        save_file(Tiny().state_dict(), whole)
    else:
        checkpoint = {"model": Tiny().state_dict()}
        torch.save(checkpoint, whole, _use_new_zipfile_serialization=kind == "zip")
    path.write_bytes(whole.read_bytes())
    SafeCheckpointer(Tiny()).load(str(path))
    path.write_bytes(whole.read_bytes()[: int(part * whole.stat().st_size)])
    refusal(path)


@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"<html>not found</html>", b"version https://git-lfs\n", b"PK"]
)
def test_something_else(tmp_path, content, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    refusal(path)


def safetensors_file(path: Path, header: dict | bytes, data: bytes = bytes(24)) -> None:
    """Length and text of the header, then the data; the header need not fit the data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def tensor_header(**changes) -> dict:
    return {"weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes}


def test_safetensors_load(tmp_path):
    model, path = Tiny(), tmp_path / "weights.safetensors"
    data = np.arange(6, dtype="<f4").tobytes()
    safetensors_file(path, tensor_header(), data)
    SafeCheckpointer(model).load(str(path))
    assert model.weight.tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 40,
        b"[" * 40,
        b"{}" + b" " * 40,  # data that belong to no tensor
        tensor_header(shape=[2, 4]),
        tensor_header(shape=[2**62, 3]),
        tensor_header(data_offsets=[0, 10**12]),
        tensor_header(data_offsets=[-24, 0]),
        tensor_header(dtype="O"),
        tensor_header() | {"weight2": tensor_header()["weight"]},
    ],
)
def test_safetensors_with_a_false_header(tmp_path, header):
    path = tmp_path / "weights.safetensors"
    safetensors_file(path, header)
    refusal(path)


def test_strict_checkpointer_refuses_what_does_not_fit(tmp_path):
    path = tmp_path / "weights.safetensors"
    whole = Tiny().state_dict()
    save_file(whole, path)
    StrictCheckpointer(Tiny()).load(str(path))
    del whole["count"]
    for weights in (whole, Tiny().state_dict() | {"weight": torch.zeros(3, 2)}):
        save_file(weights, path)
        with pytest.raises(ConfigError, match="^The weights do not fit the config: 1 of "):
            StrictCheckpointer(Tiny()).load(str(path))


def test_no_dict(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps([1, 2]))
    torch.save("weights", tmp_path / "x.pth")
    assert "holds a list" in refusal(tmp_path / "x.pkl")
    assert "holds a str" in refusal(tmp_path / "x.pth")


@pytest.fixture(params=["numpy.core", "numpy._core"])
def numpy_core(request, monkeypatch) -> str:
    """Pickles made in the test name numpy's internals as numpy 1 or as numpy 2 does."""
    original = pickle.whichmodule

    def whichmodule(obj, name):
        module = original(obj, name)
        for core in ("numpy.core", "numpy._core"):
            if module.startswith(f"{core}."):
                return request.param + module.removeprefix(core)
        return module

    if find_spec(f"{request.param}.numeric") is None:
        pytest.skip(f"this numpy has no {request.param}.numeric, so nobody can read such a file")
    monkeypatch.setattr(pickle, "whichmodule", whichmodule)
    return request.param


def dumps(value, protocol: int) -> bytes:
    """As ``pickle.dumps``, but written in Python, and so open to the fixture above."""
    with warnings.catch_warnings():  # numpy 2 deprecates numpy 1's names
        warnings.simplefilter("ignore", DeprecationWarning)
        return pickle._dumps(value, protocol)


@pytest.mark.parametrize("protocol", range(6))
def test_zoo_file_loads(tmp_path, numpy_core, protocol):
    model, path = Tiny(), tmp_path / "weights.pkl"
    weights = model.zoo_weights()
    content = {"model": weights, "__author__": "Model Zoo", "iteration": np.int64(3)}
    data = dumps(content, protocol)
    assert numpy_core.encode() + b"." in data
    path.write_bytes(data)
    extra = SafeCheckpointer(model).load(str(path))
    assert model.weight.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert model.count == 7
    assert extra["__author__"] == "Model Zoo" and extra["iteration"] == 3


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_scalars_load(tmp_path, numpy_core, protocol):
    expected = {
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "s": np.str_("é"),
        "plain": ("é", b"\xe9"),
    }
    path = tmp_path / "weights.pkl"
    path.write_bytes(dumps(expected, protocol))
    assert load_pickled_arrays(str(path)) == expected


def test_python_2_file_loads(tmp_path):
    # MSRA's R-50.pkl is of this kind: byte strings as keys, the array's bytes in one too.
    path = tmp_path / "weights.pkl"
    path.write_bytes(
        b"\x80\x02}U\x05fc1_wcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        b"U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08\x00\x00\x80?\x00\x00\x00\xc0tbs."
    )
    loaded = load_pickled_arrays(str(path))
    assert list(loaded) == ["fc1_w"]
    assert loaded["fc1_w"].dtype == np.float32 and loaded["fc1_w"].tolist() == [1.0, -2.0]


def test_caffe2_blobs(tmp_path):
    # Detectron1's format: renamed by Detectron2's own rules, momenta dropped.
    model, path = nn.Module(), tmp_path / "weights.pkl"
    model.backbone = nn.Module()
    model.backbone.stem = nn.Module()
    model.backbone.stem.conv1 = nn.Conv2d(1, 2, 1, bias=False)
    kernel = np.array([1.0, 2.0], np.float32).reshape(2, 1, 1, 1)
    path.write_bytes(pickle.dumps({"blobs": {"conv1_w": kernel, "conv1_w_momentum": 0 * kernel}}))
    SafeCheckpointer(model).load(str(path))
    assert model.backbone.stem.conv1.weight.flatten().tolist() == [1.0, 2.0]


def hidden_object_array() -> bytes:
    """An array of 8-byte integers whose type says afterwards that it holds objects in a field, so
    that its bytes would be taken for pointers."""
    state = pickle.dumps((3, "<", None, ("f",), {"f": (np.dtype("O"), 0)}, 8, 1, 1), 2)[2:-1]
    return (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00V8K\x00K\x01\x87R"
        + state
        + b"b\x89U\x08AAAAAAAAtb."
    )


@pytest.mark.parametrize(
    "content, reason",
    [
        (hidden_object_array(), "of the type V8"),
        (pickle.dumps({"x": np.array([1], "O")}), "of the type O8"),
        (pickle.dumps({"x": np.zeros(2, "i4,O")}), "of the type V12"),
        (pickle.dumps({"x": np.zeros(2, "datetime64[s]")}), "of the type M8"),
        (b"cnumpy\nndarray\n(I1\nS'O'\nS'AAAAAAAA'\ntR.", "not callable"),
        (b"cnumpy\ndtype\n(]tR.", "of the type|not understood"),
        (b"c_codecs\nencode\n(Vx\nVbz2\ntR.", "encoding bz2"),
        (b"c__builtin__\nbytes\n(L99999999999999L\ntR.", "argument"),
    ],
)
def test_pickles_that_would_take_bytes_for_pointers(tmp_path, content, reason):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    assert re.search(reason, refusal(path))


def test_resuming_a_training_of_detectron2_itself(tmp_path, caplog):
    with mini_datasets(tmp_path / "data"):
        cfg = config(tmp_path / "output", "SOLVER.MAX_ITER", "4")
        cfg.SOLVER.CHECKPOINT_PERIOD = 2
        theirs = Trainer(cfg)
        kept = theirs.state_dict()
        for name in ("seed", "rng"):
            del kept[name]
        theirs.checkpointer.checkpointables = {}
        theirs.checkpointer.save("model_0000001", trainer=kept | {"iteration": 1}, iteration=1)
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=True)
    assert "of Detectron2's own trainer" in caplog.text and trainer.start_iter == 2


@pytest.mark.parametrize(
    "overrides, is_told",
    [
        ([], False),
        (["MODEL.SCOPENET.BIN_SIZE", "0.75"], True),
        (["MODEL.SCOPENET.LEVEL_BOUNDARIES", "[32, 64, 128, 256]"], True),
    ],
)
def test_weights_of_other_bins_are_told(trained, caplog, overrides, is_told):
    model = build_model(config(Path("unused"), *overrides))
    path = Path(trained.cfg.OUTPUT_DIR) / "model_final.pth"
    SafeCheckpointer(model).load(str(path))
    assert ("were trained with MODEL.SCOPENET.BIN_SIZE 1.0" in caplog.text) == is_told
