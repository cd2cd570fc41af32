"""Videos and webcams, frame by frame, by way of OpenCV."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ..atomic import replacing
from ..errors import ConfigError

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "mp4v"}  # of what can be written, by suffix
DEFAULT_FPS = 30.0  # of cameras that do not say
TITLE = "ScopeNet"


def run_video(
    source: str | int, output: Path | None, look: Callable[[np.ndarray, int], np.ndarray]
) -> tuple[int, int]:
    """Look at every frame, and write the pictures as a video or show them in a window. What cannot
    be opened, written or shown is a ConfigError.

    Args:
        source: a file, or the number of a webcam, which runs until q or Ctrl-C is pressed.
        output: a file, written whole or not at all; None for the window, which q closes.
        look: from a BGR uint8 frame and its number to a picture of it, all of one size.

    Returns:
        how many frames were read, and how many the file says it has (0 where it does not say).
    """
    if output is None:
        _check_display()
    if isinstance(source, str) and not Path(source).is_file():
        raise ConfigError(f"The video {source} does not exist.")
    capture = cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            what = f"The video {source}" if isinstance(source, str) else f"Webcam {source}"
            raise ConfigError(f"{what} cannot be opened by OpenCV.")
        expected = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        frames = tqdm(_frames(capture), total=expected or None, unit="frame")
        pictures: Iterator[np.ndarray] = map(look, frames, itertools.count())
        if not isinstance(source, str):
            pictures = _until_interrupted(pictures)
        if output is None:
            return _show(pictures), expected
        fps = capture.get(cv2.CAP_PROP_FPS)
        with replacing(output) as unfinished:
            count = _write(pictures, unfinished, fps if fps > 0 else DEFAULT_FPS)
            if not count:
                raise ConfigError(f"No frame of {source} can be read.")
        return count, expected
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture) -> Iterator[np.ndarray]:
    while (read := capture.read())[0]:
        yield read[1]


def _until_interrupted(pictures: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Let Ctrl-C end the video of a webcam, which has no end of its own, and lose nothing of it."""
    with suppress(KeyboardInterrupt):
        yield from pictures


def _write(pictures: Iterator[np.ndarray], path: Path, fps: float) -> int:
    writer, count = None, 0
    try:
        for picture in pictures:
            if writer is None:
                size = picture.shape[1::-1]
                codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix.lower()])
                writer = cv2.VideoWriter(str(path), codec, fps, size)
                if not writer.isOpened():
                    raise ConfigError(f"OpenCV cannot write {path.suffix} videos here.")
            writer.write(np.ascontiguousarray(picture))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    return count


def _check_display() -> None:
    displays = [os.environ.get(x) for x in ("DISPLAY", "WAYLAND_DISPLAY")]
    if any(displays) or not sys.platform.startswith("linux"):
        with suppress(cv2.error):  # a build of OpenCV without windows
            cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL)
            return
    raise ConfigError("There is no display to show the pictures on; write them with --output.")


def _show(pictures: Iterator[np.ndarray]) -> int:
    count = 0
    try:
        for picture in pictures:
            count += 1
            cv2.imshow(TITLE, picture)
            if cv2.waitKey(1) == ord("q"):
                break
    finally:
        cv2.destroyAllWindows()
    return count
