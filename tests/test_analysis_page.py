"""The page of the analysis as a whole, of miniature detectors."""

import base64
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import torch
from builders import spread_out_head
from detectron2.modeling import build_model
from miniature import CLASSES, VAL, mini_datasets, mini_overrides, one_thread
from PIL import Image

from scopenet import load_config
from scopenet.analysis import main
from scopenet.analysis.page import Figure, Page, Section, make_table, render, write_page

RETINANET = "configs/peers/RetinaNet_R_50_FPN_1x.yaml"
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
    arguments = ["--config-file", detector[0], "--weights", detector[1], "--output", str(output)]
    if other:
        arguments += ["--compare-config", other[0], "--compare-weights", other[1]]
    return main.analyze(main.parser().parse_args([*arguments, *more]))


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
    assert "Left out" not in html
    for text in ("scope (ScopeNet)", "retina (RetinaNet)", f"{VAL}: all 4 images"):
        assert text in html
    for part in ("p_loc", "log σ²", "bottom", "duplicate", *(x["name"] for x in CLASSES)):
        assert part in html


def test_names_of_detectors():
    both = "--config-file a/x.yaml --weights w --compare-config b/x.py --compare-weights v".split()
    both += ["--output", "page.html"]
    names = main._names(main.parser().parse_args(both))
    assert names == ("x (1)", "x (2)")
    given = ["--name", "ScopeNet", "--compare-name", "FCOS"]
    assert main._names(main.parser().parse_args([*both, *given])) == ("ScopeNet", "FCOS")


def missing_sections(page: Page) -> dict[str, str]:
    return {x.key: x.missing for x in page.sections if x.missing}


def test_detector_without_bins(retinanet, tmp_path):
    page = analyze(tmp_path / "page.html", retinanet, (), "--max-images", "2")
    missing = missing_sections(page)
    assert list(missing) == ["bins", "hedging", "anchors"]
    assert missing["bins"] == "Left out: retina is a RetinaNet, which has no bins."
    assert dict(page.facts)["Data set"].startswith(f"{VAL}: the first 2 of 4 images")


def test_single_bin_has_anchors_but_no_choice(tmp_path):
    detector = write_detector(tmp_path, "single", SCOPENET, "MODEL.SCOPENET.NUM_BINS", "1")
    page = analyze(tmp_path / "page.html", detector)
    missing = missing_sections(page)
    assert list(missing) == ["bins", "hedging"] and "N = 1" in missing["bins"]
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
    assert list(missing_sections(page)) == ["scores", "threshold", "pictures"]
    assert page.headlines[0].value == "0.0"


def ends_with(monkeypatch, *arguments: str) -> str:
    """What the program says when it refuses ``arguments``."""
    monkeypatch.setattr("sys.argv", ["analyze.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.run()
    return str(ended.value)


def test_bad_input_ends_in_a_sentence(scopenet, retinanet, monkeypatch, tmp_path):
    output = ["--output", str(tmp_path / "page.html")]
    config = ["--config-file", scopenet[0]]
    good = [*config, "--weights", scopenet[1], *output]
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"no weights")

    absent = ends_with(monkeypatch, *config, "--weights", "absent.pth", *output)
    assert absent == "error: The weights absent.pth do not exist."
    damaged = ends_with(monkeypatch, *config, "--weights", str(bad), *output)
    assert damaged.startswith(f"error: {bad} is not a file of tensors and plain types")
    other = ends_with(monkeypatch, *config, "--weights", retinanet[1], *output)
    assert other.startswith("error: The weights do not fit the config")
    dataset = ends_with(monkeypatch, *good, "--dataset", "mini_vall")
    assert "did you mean mini_val?" in dataset
    alone = ends_with(monkeypatch, *good, "--compare-config", retinanet[0])
    assert alone.startswith("error: --compare-config and --compare-weights go together")
    assert "at least 1" in ends_with(monkeypatch, *good, "--max-images", "0")
    assert not (tmp_path / "page.html").exists()


def empty_page(**content) -> Page:
    parts = {"title": "", "subtitle": "", "headlines": [], "facts": [], "sections": []}
    return Page(**parts | content)


def test_text_is_escaped():
    evil = "<script>alert(1)</script>"
    table = make_table(pd.DataFrame({evil: [evil]}, index=[evil]), evil)
    figure = Figure("data:,", evil, f'"{evil}')
    section = Section("key", evil, [evil], [table, figure], evil)
    html = render(empty_page(title=evil, facts=[(evil, evil)], sections=[section]))
    assert "<script" not in html and html.count("&lt;script&gt;") >= 10


def test_table_cells():
    frame = pd.DataFrame({"a": [1.25, float("nan")], "b": ["x", "y"]}, index=["r", "s"])
    table = make_table(frame, "caption", name="row", digits={"a": 2})
    assert table.header == ["row", "a", "b"]
    assert table.rows == [["r", "1.25", "x"], ["s", "–", "y"]]
    assert table.is_text == [True, False, True]


def test_page_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("before")
    broken = empty_page(sections=[Section("key", "title", [], [object()])])
    with pytest.raises(Exception, match="kind"):
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
