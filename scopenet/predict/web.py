"""The subcommand ``web``: a detector on a web page of this machine, made with Gradio."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from detectron2.structures import Instances

from ..cli import add_overrides
from ..detector import Detector
from ..errors import ConfigError, ImageError
from ..images import read_image
from ..runtime.extras import import_extra
from .command import add_look, load_detector, look_at
from .pictures import draw

if TYPE_CHECKING:
    import gradio

TITLE = "ScopeNet: boxes and how sure their borders are"
BORDERS = ("left", "top", "right", "bottom")
HEADERS = ["class", "score", "box", *BORDERS, "x", "y", "width", "height"]
HOST = "127.0.0.1"
MAX_UPLOAD = "200mb"
SECONDS_KEPT = 3600  # of uploads and pictures, in Gradio's temporary folder


def import_gradio() -> ModuleType:
    """Import Gradio, which then tells nothing to anybody and asks nobody for a newer version.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # is read while it is imported
    return import_extra("gradio", "web")


def with_sure_borders(instances: Instances, least: float) -> Instances:
    """Leave out detections with a border below that confidence, if the detector has any."""
    if not instances.has("border_scores"):
        return instances
    return instances[(instances.border_scores >= least).all(1)]


def table(instances: Instances, class_names: list[str]) -> list[list]:
    """Make a row per detection: class, score, confidence of the box and of its borders in percent
    (empty of a detector without), box in px."""
    boxes = instances.pred_boxes.tensor.clone()
    boxes[:, 2:] -= boxes[:, :2]
    rows = []
    for i, label in enumerate(instances.pred_classes.tolist()):
        confidences = [""] * 5
        if instances.has("border_scores"):
            values = [instances.loc_scores[i].item(), *instances.border_scores[i].tolist()]
            confidences = [f"{x:.0%}" for x in values]
        sides = [f"{x:.1f}" for x in boxes[i].tolist()]
        rows.append([class_names[label], f"{instances.scores[i]:.0%}", *confidences, *sides])
    return rows


def respond(
    file: str | None,
    score_thresh: float,
    border_thresh: float,
    in_color: bool,
    *,
    detector: Detector,
    look: Callable[..., Instances],
) -> tuple[np.ndarray | None, list[list], str]:
    """Answer what the page's controls say by a picture (RGB uint8), a table and a sentence.

    Args:
        look: see :func:`~scopenet.predict.command.look_at`, with its tiles.
    """
    if not file:
        return None, [], "Drop an image on the left."
    try:
        image = read_image(file)
        found = look(image, detector=detector, score_thresh=score_thresh)
    except ImageError as error:
        reason = str(error).replace(file, "it")  # not the name that Gradio gave it
        return None, [], f"This file cannot be shown: {reason}"
    shown = with_sure_borders(found, border_thresh)
    borders = in_color and shown.has("border_scores")
    picture = draw(image, shown, detector.class_names, borders=borders)
    what = "1 object" if len(shown) == 1 else f"{len(shown)} objects"
    summary = f"{what} in {image.shape[1]} × {image.shape[0]} px."
    return np.ascontiguousarray(picture[:, :, ::-1]), table(shown, detector.class_names), summary


def build_page(
    detector: Detector, *, tile: int | None, overlap: int | None, score_thresh: float
) -> "gradio.Blocks":
    """Lay the page out.

    Args:
        tile, overlap: see :func:`~scopenet.predict.command.look_at`.
        score_thresh: where the page begins.

    Raises:
        ConfigError: Gradio is not installed.
    """
    gradio = import_gradio()
    look = partial(look_at, tile=tile, overlap=overlap)
    kept = (SECONDS_KEPT, SECONDS_KEPT)
    with gradio.Blocks(analytics_enabled=False, title="ScopeNet", delete_cache=kept) as page:
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
        gradio.on(
            [file.change, score.release, border.release, color.change],
            partial(respond, detector=detector, look=look),
            inputs,
            outputs,
            show_progress="minimal",
        )
    return page


def serve(page: "gradio.Blocks", port: int, *, block: bool = True) -> str:
    """Serve the page to this machine only.

    Returns:
        its address.

    Raises:
        ConfigError: the port is taken.
    """
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["monospace"]}  # none from elsewhere
    try:
        _, address, _ = page.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            ssr_mode=False,
            quiet=True,
            footer_links=[],
            run_history=False,
            max_file_size=MAX_UPLOAD,
            theme=import_gradio().themes.Default(**fonts),
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise ConfigError(f"Port {port} is taken; choose another with --port.") from error
    print(f"Open {address} in a browser; Ctrl-C ends the program.", flush=True)
    if block:
        page.block_thread()
    return address


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A detector on a web page, see docs/demo.md.")
    add_look(parser)
    parser.add_argument("--port", type=int, default=7860, help="default: %(default)s")
    add_overrides(parser)
    return parser


def run(args: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        ConfigError: there is no such detector, no Gradio, or the port is taken.
    """
    import_gradio()  # before a detector is loaded in vain
    page = build_page(
        load_detector(args),
        tile=args.tile,
        overlap=args.overlap,
        score_thresh=args.confidence_threshold,
    )
    serve(page, args.port)
