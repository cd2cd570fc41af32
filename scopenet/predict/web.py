"""The subcommand ``web``: a detector on a web page of this machine, made with Gradio."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from detectron2.structures import Instances

from ..cli import add_overrides
from ..detector import Detector
from ..errors import ConfigError, ImageError, import_extra
from ..images import read_image
from .command import add_look, load_detector, look_at
from .files import coco_results
from .pictures import draw

if TYPE_CHECKING:
    import gradio

TITLE = "ScopeNet: boxes and how sure their borders are"
BORDERS = ("left", "top", "right", "bottom")
HEADERS = ["class", "score", "box", *BORDERS, "x", "y", "width", "height"]
HOST = "127.0.0.1"
MAX_UPLOAD = "200mb"
# How often and after how long uploads and pictures go from Gradio's temporary folder, seconds.
KEPT = (3600, 3600)


def import_gradio() -> ModuleType:
    """Import Gradio, which then tells nothing to anybody and asks nobody for a newer version."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # is read while it is imported
    return import_extra("gradio", "web")


def row(found: dict) -> list[str]:
    """Write a record of :func:`coco_results` for the table: confidences in percent (empty of a
    detector without), box in px."""
    confidences = [""] * 5
    if "border_scores" in found:
        confidences = [f"{x:.0%}" for x in (found["loc_score"], *found["border_scores"])]
    sides = [f"{x:.1f}" for x in found["bbox"]]
    return [found["category_name"], f"{found['score']:.0%}", *confidences, *sides]


def respond(
    file: str | None,
    score_thresh: float,
    border_thresh: float,
    in_color: bool,
    *,
    detector: Detector,
    look: Callable[..., Instances],
) -> tuple[np.ndarray | None, list[list], str]:
    """Answer the page's controls (the thresholds of a detection's score and of all its borders) by
    a picture (RGB uint8), a table and a sentence; ``look`` is :func:`look_at` with its tiles."""
    if not file:
        return None, [], "Drop an image on the left."
    try:
        image = read_image(file)
        found = look(image, detector=detector, score_thresh=score_thresh)
    except ImageError as error:
        reason = str(error).replace(file, "it")  # not the name that Gradio gave it
        return None, [], f"This file cannot be shown: {reason}"
    has_borders = found.has("border_scores")
    if has_borders:
        found = found[(found.border_scores >= border_thresh).all(1)]
    picture = draw(image, found, detector.class_names, borders=in_color and has_borders)
    what = "1 object" if len(found) == 1 else f"{len(found)} objects"
    summary = f"{what} in {image.shape[1]} × {image.shape[0]} px."
    rows = [row(x) for x in coco_results(found, detector, 0, file)]
    return np.ascontiguousarray(picture[:, :, ::-1]), rows, summary


def build_page(
    detector: Detector, *, tile: int | None, overlap: int | None, score_thresh: float
) -> "gradio.Blocks":
    """Lay the page out, with tiles as in :func:`look_at`, and ``score_thresh`` to begin with."""
    gradio = import_gradio()
    look = partial(look_at, tile=tile, overlap=overlap)
    answer = partial(respond, detector=detector, look=look)
    with gradio.Blocks(analytics_enabled=False, title="ScopeNet", delete_cache=KEPT) as page:
        gradio.Markdown(f"## {TITLE}")
        with gradio.Row():
            with gradio.Column(scale=1):
                file = gradio.File(label="Image", type="filepath", height=140)
                score = gradio.Slider(0, 1, score_thresh, step=0.01, label="Least score")
                border = gradio.Slider(0, 1, 0, step=0.01, label="Least confidence of a border")
                color = gradio.Checkbox(True, label="Each border in the colour of its confidence")
            with gradio.Column(scale=3):
                # Not Gradio's button that publishes the picture.
                buttons = ["download", "fullscreen"]
                picture = gradio.Image(
                    label="Detections", format="png", interactive=False, buttons=buttons
                )
                summary = gradio.Markdown("Drop an image on the left.")
        rows = gradio.Dataframe(
            headers=HEADERS, datatype="str", interactive=False, label="Detections (px)"
        )
        inputs, outputs = [file, score, border, color], [picture, rows, summary]
        events = [file.change, score.release, border.release, color.change]
        gradio.on(events, answer, inputs, outputs, show_progress="minimal")
    return page


def serve(page: "gradio.Blocks", port: int, *, block: bool = True) -> str:
    """Serve the page to this machine only, and return its address; a ConfigError says that the port
    is taken."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none from elsewhere
    theme = import_gradio().themes.Default(**fonts)
    server: Any = {"server_name": HOST, "server_port": port, "share": False, "ssr_mode": False}
    looks: Any = {"theme": theme, "quiet": True, "footer_links": [], "run_history": False}
    try:
        _, address, _ = page.launch(
            **server, **looks, max_file_size=MAX_UPLOAD, prevent_thread_lock=True
        )
    except OSError as error:
        raise ConfigError(f"Port {port} is taken; choose another with --port.") from error
    print(f"Open {address} in a browser; Ctrl-C ends the program.", flush=True)
    if block:
        page.block_thread()
    return address


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A detector on a web page, see docs/predict.md.")
    add_look(parser)
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C."""
    import_gradio()  # before a detector is loaded in vain
    detector, tiling = load_detector(args), {"tile": args.tile, "overlap": args.overlap}
    serve(build_page(detector, **tiling, score_thresh=args.confidence_threshold), args.port)
