"""The notebooks: those in the repository are complete and tidy, and they run from top to bottom."""

import os
import re
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 300_000


class Expected(NamedTuple):
    """What the tests know of one notebook."""

    small: dict[str, object] = {}  # new values of "parameters": enough to see that it runs
    table: str = r"."  # pattern: the text of a table with its header and a row
    pictures: int = 0


# Without a threshold even a network that knows nothing yet detects something.
EXPECTED = {
    "01_predict.ipynb": Expected(
        {"NUM_TRAIN": 6, "NUM_VAL": 12, "ITERATIONS": 2, "SCORE_THRESH": 0.0},
        r"class +scores .* bottom\n0 +\d( +\d\.\d{3}){7}",
        pictures=2,
    ),
    "02_train_on_your_data.ipynb": Expected(
        {"NUM_TRAIN": 6, "NUM_VAL": 8, "ITERATIONS": 21, "SCORE_THRESH": 0.0},
        r"AP +AP50 +AP75 +AR100\nown_val( +(\d+\.\d|NaN)){4}",
        pictures=2,
    ),
    # The least training after which scores exceed 0.1; integers would add too much noise to those.
    "03_export_and_openvino.ipynb": Expected(
        {
            "NUM_TRAIN": 200,
            "NUM_VAL": 8,
            "ITERATIONS": 200,
            "NUM_IMAGES": 8,
            "PRECISIONS": ("float32",),
        },
        r"float32.*\nAP of the original +\d+\.\d(.*\n)+detections that agree +100\.0%"
        r"(.*\n)+ +PyTorch +OpenVINO, float32.*\nms( +\d+\.\d)+",
        pictures=1,
    ),
}
# Calls that show their progress in a clone in which nothing is prepared or trained yet.
LOUD = ("prepare_digits(", "demo.train(")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def text_of(notebook: NotebookNode) -> str:
    """All that the outputs say, without pictures."""
    parts = []
    for output in outputs(notebook):
        parts.append(output.get("text", ""))
        parts += [v for k, v in output.get("data", {}).items() if k.startswith("text/")]
    return "\n".join(parts)


def pictures(notebook: NotebookNode) -> list[str]:
    """Base64 of the pictures in the outputs."""
    found = [output.get("data", {}) for output in outputs(notebook)]
    return [v for data in found for k, v in data.items() if k.startswith("image/")]


def assert_ran_cleanly(notebook: NotebookNode, name: str) -> None:
    """Every cell ran in turn; no error and no warning; the table has a row, the pictures content.

    Args:
        name: of the notebook's file.
    """
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in outputs(notebook):
        assert output.output_type != "error" and output.get("name") != "stderr", output
    assert "Warning" not in text_of(notebook)
    expected = EXPECTED.get(name, Expected())
    assert re.search(expected.table, text_of(notebook))
    assert len(pictures(notebook)) >= expected.pictures
    assert all(len(picture) > 3000 for picture in pictures(notebook))


@each_notebook
def test_the_committed_notebook_is_complete_small_and_portable(path):
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    assert_ran_cleanly(notebook, path.name)
    assert "NaN" not in text_of(notebook)
    assert path.stat().st_size < MAX_BYTES
    assert notebook.metadata.kernelspec.name == "python3"
    assert not re.search(r"/(root|home|tmp|work|Users)/|it/s\]", path.read_text())


def with_parameters(notebook: NotebookNode, values: dict) -> None:
    """Give the variables of the cell tagged "parameters" other values, each where it is set."""
    (cell,) = (c for c in code_cells(notebook) if "parameters" in c.metadata.get("tags", []))
    for name in values:
        assert re.search(rf"^[A-Z_, ]*\b{name}\b[A-Z_, ]* = ", cell.source, re.MULTILINE), name
    cell.source += "".join(f"\n{name} = {value}" for name, value in values.items())


@pytest.mark.slow
@pytest.mark.notebook
@each_notebook
def test_the_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    if path.name in EXPECTED:
        with_parameters(notebook, EXPECTED[path.name].small)
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))
    # As in a clone in which nothing was prepared or trained yet.
    environment = {k: v for k, v in os.environ.items() if k != "DETECTRON2_DATASETS"}
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"})
    for cell in code_cells(notebook):
        if any(call in cell.source for call in LOUD):
            cell.outputs = []
    assert_ran_cleanly(notebook, path.name)
    assert list(folder.iterdir()) == []
