"""The page of the analysis as a whole, of miniature detectors."""

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import spread_out_head
from detectron2.config import instantiate
from detectron2.modeling import build_model
from miniature import CLASSES, TRAIN, VAL, lazy_overrides, mini_datasets, mini_overrides, one_thread
from PIL import Image

from scopenet import Detector, ScopeNetWithTTA, cli, load_config
from scopenet.analysis import command
from scopenet.analysis.dataset import read_dataset
from scopenet.analysis.page import Figure, Page, Section, Table, render, write_page
from scopenet.analysis.report import analyze as run_analysis
from scopenet.analysis.report import legend_names
from scopenet.analysis.run import run_detector
from scopenet.config_file import load_lazy_config

ROOT = Path(__file__).parents[1]
RETINANET = "configs/peers/RetinaNet_R_50_FPN_1x.yaml"
LAZY = "configs/ScopeNet_R_50_FPN_1x.py"
SCOPENET = "configs/ScopeNet_R_50_FPN_1x.yaml"


@pytest.fixture(scope="module", autouse=True)
def datasets(tmp_path_factory):
    with mini_datasets(tmp_path_factory.mktemp("data")), one_thread():
        yield


def write_detector(folder: Path, name: str, config: str, *overrides: str) -> list[str]:
    """A detector with weights that find something: its config and its weights."""
    folder.mkdir(exist_ok=True)
    cfg = load_config(config, mini_overrides(folder, *overrides))
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    if cfg.MODEL.META_ARCHITECTURE == "ScopeNet":
        spread_out_head(model, [{"image": torch.randint(256, (3, 64, 96))}])
    config_file, weights = folder / f"{name}.yaml", folder / f"{name}.pth"
    config_file.write_text(cfg.dump())
    torch.save({"model": model.state_dict()}, weights)
    return [str(config_file), str(weights)]


def analyze(output: Path, detector: list[str], other: list[str] = (), *more: str) -> Page:
    arguments = ["--model", detector[0], "--weights", detector[1], "--output", str(output)]
    if other:
        arguments += ["--compare", other[0], "--compare-weights", other[1]]
    return run_analysis(command.parser().parse_args([*arguments, *more]))


@pytest.fixture(scope="module")
def scopenet(tmp_path_factory) -> list[str]:
    return write_detector(tmp_path_factory.mktemp("scopenet"), "scope", SCOPENET)


@pytest.fixture(scope="module")
def retinanet(tmp_path_factory) -> list[str]:
    overrides = ["MODEL.RETINANET.NUM_CLASSES", "3", "MODEL.RETINANET.SCORE_THRESH_TEST", "0.0"]
    return write_detector(tmp_path_factory.mktemp("retina"), "retina", RETINANET, *overrides)


@pytest.fixture(scope="module")
def page_file(scopenet, retinanet, tmp_path_factory) -> Path:
    """The page of a ScopeNet beside a RetinaNet."""
    output = tmp_path_factory.mktemp("page") / "new" / "page.html"
    analyze(output, scopenet, retinanet)
    return output


def test_page_is_self_contained(page_file):
    html = page_file.read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) > 20
    assert {x.split(":")[0] if x.startswith("data") else x[0] for x in sources} == {"data", "#"}
    pictures = [x for x in sources if x.startswith("data:image")]
    assert all(base64.b64decode(x.partition(",")[2], validate=True) for x in pictures)
    assert [x.name for x in page_file.parent.iterdir()] == ["page.html"]


def test_page_names_both_detectors_and_shows_every_section(page_file):
    html = page_file.read_text()
    # These detectors are of random weights.
    assert html.count("Left out") == html.count("Left out: nothing was found.") == 1
    for text in ("scope (ScopeNet)", "retina (RetinaNet)", f"{VAL}: all 4 images"):
        assert text in html
    for part in ("p_loc", "log σ²", "bottom", "duplicate", *(x["name"] for x in CLASSES)):
        assert part in html


def test_names_of_detectors():
    both = "--config-file a/x.yaml --weights w --compare-config b/x.py --compare-weights v".split()
    both += ["--output", "page.html"]
    args = command.parser().parse_args(both)
    assert (args.model, args.compare) == ("a/x.yaml", "b/x.py")
    assert legend_names(args, "x", "x") == ["x (1)", "x (2)"]
    args = command.parser().parse_args([*both, "--name", "ScopeNet", "--compare-name", "FCOS"])
    assert legend_names(args, "x", "x") == ["ScopeNet", "FCOS"]
    args = command.parser().parse_args([*both, "--compare-name", "x"])
    assert legend_names(args, "x", "y") == ["x (1)", "x (2)"]


def missing_sections(page: Page) -> dict[str, str]:
    return {x.key: x.missing for x in page.sections if x.missing}


def test_detector_without_bins(retinanet, tmp_path):
    page = analyze(tmp_path / "page.html", retinanet, (), "--max-images", "2")
    missing = missing_sections(page)
    assert list(missing) == ["bins", "sure", "hedging", "anchors"]
    assert missing["bins"] == "Left out: retina is a RetinaNet, which has no bins."
    assert dict(page.facts)["Data set"].startswith(f"{VAL}: the first 2 of 4 images")


def test_single_bin_has_anchors_but_no_choice(tmp_path):
    detector = write_detector(tmp_path, "single", SCOPENET, "MODEL.SCOPENET.NUM_BINS", "1")
    page = analyze(tmp_path / "page.html", detector)
    missing = missing_sections(page)
    assert list(missing) == ["bins", "sure", "hedging"] and "N = 1" in missing["bins"]
    scores = next(x for x in page.sections if x.key == "scores")
    assert [row[0] for row in scores.blocks[1].rows] == ["score"]


def test_without_sigma2_there_is_no_word_of_it(scopenet, tmp_path):
    page = analyze(tmp_path / "page.html", scopenet, (), "MODEL.SCOPENET.UNCERTAINTY", "False")
    hedging = next(x for x in page.sections if x.key == "hedging")
    assert "UNCERTAINTY is off" in hedging.text[-1]
    assert hedging.blocks[1].header == ["level", "borders", "with the probability"]


def test_nothing_detected(scopenet, tmp_path):
    more = ["MODEL.SCOPENET.SCORE_THRESH_TEST", "0.9999"]
    page = analyze(tmp_path / "page.html", scopenet, (), *more)
    assert list(missing_sections(page)) == ["scores", "sure", "threshold", "pictures"]
    assert page.sections[0].headlines[0][0] == "0.0"


def run_command(*arguments: str) -> None:
    cli.run("analyze", arguments)


def ends_with(*arguments: str) -> str:
    """What the command says when it refuses ``arguments``."""
    with pytest.raises(SystemExit) as ended:
        run_command(*arguments)
    return str(ended.value)


def test_bad_input_ends_in_a_sentence(scopenet, retinanet, tmp_path):
    output = ["--output", str(tmp_path / "page.html")]
    config = ["--config-file", scopenet[0]]
    good = [*config, "--weights", scopenet[1], *output]
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"no weights")

    absent = ends_with(*config, "--weights", "absent.pth", *output)
    where = "MODEL.WEIGHTS (LazyConfig: train.init_checkpoint) or --weights"
    assert absent == f"error: The weights absent.pth do not exist; correct {where}."
    damaged = ends_with(*config, "--weights", str(bad), *output)
    assert damaged.startswith(f"error: {bad} is not a file of tensors and plain types")
    other = ends_with(*config, "--weights", retinanet[1], *output)
    assert other.startswith("error: The weights do not fit the config")
    dataset = ends_with(*good, "--dataset", "mini_vall")
    assert "did you mean mini_val?" in dataset
    without = ends_with(*good, "--compare-config", retinanet[0])
    assert without.startswith("error: The config names no weights")
    alone = ends_with(*good, "--compare-weights", retinanet[1])
    assert alone == "error: --compare-weights are those of --compare; give both."
    assert "at least 1" in ends_with(*good, "--max-images", "0")
    two = ends_with(*good, "DATASETS.TEST", f"('{VAL}', '{TRAIN}')")
    assert two == "error: scope has 2 test sets; choose one with --dataset."
    assert not (tmp_path / "page.html").exists()


def test_exported_models_are_refused(tmp_path, monkeypatch):
    exported = Detector(lambda image: {}, name="x", class_names=["a"])
    monkeypatch.setattr(Detector, "load", lambda *args, **kwargs: exported)
    said = ends_with("--model", "x.onnx", "--output", str(tmp_path / "page.html"))
    assert said.startswith("error: x.onnx is an exported model, which cannot be looked into")


def test_command_on_the_folder_of_a_training(scopenet, capsys, tmp_path):
    """And on a data set that its config does not name."""
    folder = tmp_path / "training"
    folder.mkdir()
    shutil.copy(scopenet[0], folder / "config.yaml")
    shutil.copy(scopenet[1], folder / "model_final.pth")
    output = tmp_path / "page.html"
    where = ["--model", str(folder), "--dataset", TRAIN, "--output", str(output)]
    run_command(*where, "--max-images", "2", "--device", "cpu")
    assert f"Written to {output}." in capsys.readouterr().out
    html = output.read_text()
    assert "training (ScopeNet)" in html and f"{TRAIN}: the first 2 of 8 images" in html


@pytest.mark.slow
def test_lazy_config(scopenet, tmp_path):
    """And a YAML config beside it, on the same data set."""
    lazy = load_lazy_config(LAZY, lazy_overrides(tmp_path))
    torch.save({"model": instantiate(lazy.model).state_dict()}, tmp_path / "lazy.pth")
    overrides = lazy_overrides(tmp_path, "dataloader.test.dataset.names=none")
    detector, more = [LAZY, str(tmp_path / "lazy.pth")], ["--dataset", VAL, "--max-images", "2"]
    page = analyze(tmp_path / "page.html", detector, scopenet, *more, *overrides)
    assert dict(page.facts)["Data set"].startswith(f"{VAL}: the first 2 of 4 images")
    assert page.subtitle == f"on {VAL}, beside scope" and page.title == "ScopeNet_R_50_FPN_1x"
    assert dict(page.facts)["Loaded from"] == scopenet[0]  # that of the last one


def test_a_single_view_is_looked_at(scopenet):
    """With test-time augmentation switched on, the figures are those of the network itself."""
    config, weights = scopenet
    found = []
    for switch in ("False", "True"):
        detector = Detector.load(config, weights=weights, overrides=["TEST.AUG.ENABLED", switch])
        found.append(run_detector(detector, read_dataset(VAL, 1), "x"))
    assert isinstance(detector.network.model, ScopeNetWithTTA)
    pd.testing.assert_frame_equal(found[1].detections, found[0].detections)
    pd.testing.assert_frame_equal(found[1].borders, found[0].borders)


@pytest.mark.parametrize("missing", command.PACKAGES)
def test_missing_packages_are_named(monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)  # as if it were not installed
    said = ends_with("--model", "x.yaml", "--output", str(tmp_path / "page.html"))
    assert said.startswith(f'error: {missing} is missing here: pip install "scopenet[analysis]"')


def test_help_needs_no_extra():
    """In a process of its own, as here everything has been imported already."""
    code = f"""
import sys
sys.argv[0] = "scopenet"  # which imports no torch before it is needed
sys.modules.update(dict.fromkeys({command.PACKAGES}))
from scopenet.analysis import command
command.parser().parse_args(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "--compare SOURCE" in done.stdout, done.stderr


def empty_page(**content) -> Page:
    parts = {"title": "", "subtitle": "", "facts": [], "sections": []}
    return Page(**parts | content)


def test_text_is_escaped():
    evil = "<script>alert(1)</script>"
    table = Table(pd.DataFrame({evil: [evil]}, index=[evil]), evil)
    figure = Figure("data:,", evil, f'"{evil}')
    section = Section("key", evil, [evil], [table, figure], evil)
    html = render(empty_page(title=evil, facts=[(evil, evil)], sections=[section]))
    assert "<script" not in html and html.count("&lt;script&gt;") >= 10


def test_table_cells():
    frame = pd.DataFrame({"a": [1.25, float("nan")], "b": ["x", "y"]}, index=["r", "s"])
    table = Table(frame, "caption", name="row", digits={"a": 2})
    assert table.header == ["row", "a", "b"]
    assert table.rows == [["r", "1.25", "x"], ["s", "–", "y"]]
    assert table.is_text == [True, False, True]


def test_page_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")
    broken = empty_page(sections=[Section("key", "title", [], [object()])])
    with pytest.raises(Exception, match="no attribute 'uri'"):
        write_page(broken, path)
    assert [x.name for x in tmp_path.iterdir()] == ["page.html"] and path.read_text() == "before"
    write_page(empty_page(title="after"), path)
    assert "after" in path.read_text()


PROBE = """<script>
console.log("probe");
addEventListener("load", () => {
  const images = [...document.images];
  document.body.dataset.loaded = images.filter(x => x.complete && x.naturalWidth > 0).length;
  document.body.dataset.wide = document.documentElement.scrollWidth > innerWidth;
});
</script>"""


def chromium(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if not program:
        pytest.skip("No Chromium here; on Debian: apt-get install chromium.")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
    return subprocess.run(
        [program, *options, f"--user-data-dir={tmp_path / 'profile'}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


@pytest.mark.browser
@pytest.mark.parametrize("width", [1250, 500])
def test_page_in_a_browser(page_file, tmp_path, width):
    probed = tmp_path / "page.html"
    html = page_file.read_text()
    probed.write_text(html.replace("</body>", f"{PROBE}</body>"))
    size = f"--window-size={width},2000"
    done = chromium(tmp_path, size, "--dump-dom", probed.as_uri())
    assert f'data-loaded="{html.count("<img")}"' in done.stdout
    assert 'data-wide="false"' in done.stdout
    messages = [x for x in done.stderr.splitlines() if "CONSOLE" in x]
    assert len(messages) == 1 and "probe" in messages[0]


@pytest.mark.browser
def test_screenshot_of_the_page(page_file, tmp_path):
    picture = tmp_path / "page.png"
    size = ["--window-size=1250,2000", "--hide-scrollbars"]
    chromium(tmp_path, *size, f"--screenshot={picture}", page_file.as_uri())
    with Image.open(picture) as image:
        assert image.size == (1250, 2000)
        assert len(image.convert("RGB").getcolors(image.width * image.height)) > 100


def test_the_page_begins_with_the_verdict():
    section = Section("errors", "Errors", verdict=["It is A.", "It costs <b>."])
    html = render(Page("title", "subtitle", [], [Section("first", "First"), section]))
    before, _, after = html.partition("It is A. It costs &lt;b&gt;.")
    assert "<section" not in before and after.index('href="#errors"') < after.index("<section")
    assert 'verdict"' not in render(Page("title", "subtitle", [], [Section("first", "First")]))
