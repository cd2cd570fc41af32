"""Exported detectors: the metadata in ``.onnx`` and ``.xml`` files, and what is around them."""

import json
import random
import re
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto
from test_runtime import METADATA, image, toy_model, write_toy

from hostile import trees
from hostile.bytewise import LENGTHS, damaged
from hostile.case import Case
from scopenet.runtime import Predictor
from scopenet.runtime.backends import OnnxBackend
from scopenet.runtime.metadata import KEY, PRECISIONS, Outputs

SOUND = json.loads(METADATA.to_json())


def spoilt_metadata(rng: random.Random) -> tuple[str, str | None]:
    """The name of a mutation, and a text in place of the metadata; None for none at all."""
    content, kind = json.loads(METADATA.to_json()), rng.randrange(8)
    if kind <= 4:
        names = [trees.mutate(rng, content)[0] for _ in range(rng.choice((1, 1, 2)))]
        return f"metadata: {names[0]}", trees.to_json(content).decode()
    if kind == 5:
        odd = ("", " ", "null", "[]", "1", '"x"', "{", "[" * 5000, '{"format": 1}', '{"format": 2}')
        return "metadata: text", rng.choice((*odd, None, METADATA.to_json() * 2, "\ufeff{}"))
    if kind == 6:
        return "metadata: key repeated", trees.repeat_key(rng, trees.to_json(content)).decode()
    text = damaged(rng, METADATA.to_json().encode())[1]
    # Neither format holds other characters.
    return "metadata: bytes", re.sub("[^ -~]", "?", text.decode("latin1"))


class Exported:
    """What both formats have in common."""

    packages = frozenset({"encodings", "onnxruntime", "openvino", "numpy"})
    reads = ()
    suffix = ""

    def __init__(self, folder: Path):
        self.sound_file = write_toy(folder / f"sound{self.suffix}")
        self.expected = Predictor(self.sound_file)(image(20, 30))["instances"].scores.tolist()

    def load(self, path: Path) -> Predictor:
        return Predictor(path)

    def check(self, case: Case, path: Path, predictor: Predictor) -> None:
        """The metadata can be used; where only they are others, the model is as it was."""
        found, backend = predictor.metadata, predictor._backend
        model = backend.session if isinstance(backend, OnnxBackend) else None
        if model:
            assert [x.name for x in model.get_inputs()] == ["image"]
            required = {*Outputs._fields} - {*Outputs._field_defaults}
            assert required <= {x.name for x in model.get_outputs()}
        assert all(type(x) is int and x >= 0 for x in (found.min_size, found.max_size))
        assert found.precision in PRECISIONS
        assert all(isinstance(x, str) for x in predictor.class_names)
        if case.what.startswith("metadata: ") and case.expected is not None:
            said = json.loads(case.expected)
            assert [found.min_size, found.max_size, found.class_names] == [
                said[x] for x in ("min_size", "max_size", "class_names")
            ]
            if 0 < found.min_size <= found.max_size < 999:
                scores = predictor(image(20, 30))["instances"].scores.tolist()
                assert scores == self.expected


class Onnx(Exported):
    suffix = ".onnx"

    def make(self, rng: random.Random) -> Case:
        kind = rng.randrange(10)
        if kind <= 5:
            what, text = spoilt_metadata(rng)
            model = toy_model()
            if text is not None:
                model.metadata_props.add(key=rng.choice((KEY,) * 20 + ("", "x")), value=text)
            if rng.random() < 0.05:
                model.metadata_props.add(key=KEY, value="{}")
                what, text = "metadata: twice", None
            return Case(what, model.SerializeToString(), expected=text)
        model = onnx.load(self.sound_file)
        if kind <= 7:
            return Case(*self._graph(rng, model))
        return Case(*damaged(rng, model.SerializeToString()))

    def _graph(self, rng: random.Random, model: Any) -> tuple[str, bytes]:
        graph = model.graph
        node, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        kind = rng.randrange(9)
        if kind == 0:
            node.op_type = rng.choice(
                ("Loop", "If", "Scan", "x", "", "Concat", "Resize", "a" * 999)
            )
        elif kind == 1:
            node.input[0] = rng.choice(("", "absent", "boxes", "image", node.output[0]))
        elif kind == 2:
            tensor.dims[:] = rng.choice(
                ([2**40], [-1], [2**32, 2**32], [0], [], [2**62, 4], [3, 3])
            )
        elif kind == 3:
            tensor.data_type = rng.choice((0, 1, 7, 8, 9, 16, 99, -1))
        elif kind == 4:
            place = rng.choice(
                ("/dev/zero", "../secret", "/etc/passwd", "absent", "file.onnx", "", "\0")
            )
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            length = rng.choice(LENGTHS)
            for key, value in (("location", place), ("offset", "0"), ("length", str(length))):
                tensor.external_data.add(key=key, value=value)
        elif kind == 5:
            value = rng.choice((*graph.input, *graph.output))
            value.name = rng.choice(("x", "", "boxes", "image"))
        elif kind == 6:
            del rng.choice((graph.input, graph.output, graph.node, graph.initializer))[-1]
        elif kind == 7:
            model.opset_import[0].version = rng.choice((0, -1, 1, 7, 99, 2**62))
        else:
            model.ir_version = rng.choice((0, -1, 1, 3, 99, 2**62))
        return "graph", model.SerializeToString()


class OpenVino(Exported):
    suffix = ".xml"

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.text = self.sound_file.read_text()
        self.weights = self.sound_file.with_suffix(".bin").read_bytes()
        self.metadata = re.search(rf'<{KEY} value="([^"]*)"', self.text)[1]

    def make(self, rng: random.Random) -> Case:
        kind, weights = rng.randrange(10), self.weights
        if kind <= 4:
            what, value = spoilt_metadata(rng)
            if value is None:
                text = self.text.replace(KEY, "x")
            else:
                quoted = value.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
                text = self.text.replace(self.metadata, quoted)
            content, expected = text.encode("utf-8", "replace"), value
        elif kind <= 6:
            what, content, expected = "graph", self._graph(rng), None
        elif kind == 7:
            what, content, expected = "weights", self.text.encode(), None
            weights = rng.choice((b"", weights[:-1], weights + b"x", weights[:9], None))
        else:
            what, content = damaged(rng, self.text.encode())
            expected = None
        beside = {"file.bin": weights} if weights is not None else {}
        return Case(what, content, beside=beside, expected=expected)

    def _graph(self, rng: random.Random) -> bytes:
        """Another value of an attribute, or a text that other readers of XML stumble over."""
        if rng.random() < 0.2:
            entity = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;"><!ENTITY c SYSTEM '
            odd = (
                f'{entity}"file:///etc/passwd">]>',
                "<" * 5000,
                "<a>" * 50_000,
                "<?xml?>",
                "<!--",
            )
            return (rng.choice(odd) + self.text.partition("?>")[2]).encode()
        spots = [x for x in re.finditer(r'="([^"{}&]*)"', self.text)]
        spot = rng.choice(spots)
        numbers = (*map(str, LENGTHS), "-1", "x", "", "nan", "1e9", "0,0", "?", "Loop", "9" * 500)
        value = rng.choice(
            (*numbers, "f32", "i64", "u1", "opset99", "Parameter", "Const", "Result")
        )
        return (self.text[: spot.start(1)] + value + self.text[spot.end(1) :]).encode()
