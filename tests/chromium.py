"""A headless Chromium, told what to do by its DevTools protocol over a pair of pipes."""

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """
    Args:
        profile: a folder for the browser's own files.
        size: of the window, px.
    """

    def __init__(self, profile: Path, size: tuple[int, int] = (1250, 1000)):
        program = next(filter(None, map(shutil.which, NAMES)), None)
        if not program:
            pytest.skip("No Chromium here; on Debian: apt-get install chromium.")
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        options += [f"--user-data-dir={profile}", "--window-size={},{}".format(*size)]
        # Chromium reads from descriptor 3 and writes to 4. They are set by way of higher numbers,
        # as either may be one of those two.
        script = f'exec 13<&{orders} 14>&{answers}; exec 3<&13 4>&14; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", program, *options, "about:blank"],
            pass_fds=(orders, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(orders)
        os.close(answers)
        os.set_blocking(self.answers, False)
        self.buffer, self.count, self.session = b"", 0, None
        self.events: list[dict] = []
        (page,) = (x for x in self("Target.getTargets")["targetInfos"] if x["type"] == "page")
        found = self("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self.session = found["sessionId"]
        for domain in ("Page", "Runtime", "Network", "DOM"):
            self(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: Any) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.orders)
        os.close(self.answers)

    def __call__(self, method: str, **params: Any) -> dict:
        """The answer to an order; what the browser tells in between is kept in ``events``."""
        self.count += 1
        order = {"id": self.count, "method": method, "params": params}
        order |= {"sessionId": self.session} if self.session else {}
        os.write(self.orders, json.dumps(order).encode() + b"\0")
        while (message := self._message()).get("id") != self.count:
            self.events.append(message)
        assert "error" not in message, message
        return message["result"]

    def _message(self, seconds: float = 60) -> dict:
        end = time.monotonic() + seconds
        while b"\0" not in self.buffer:
            assert self.process.poll() is None and time.monotonic() < end, "Chromium is silent"
            try:
                self.buffer += os.read(self.answers, 2**20)
            except BlockingIOError:
                time.sleep(0.01)
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)

    def evaluate(self, script: str) -> Any:
        found = self("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 60) -> Any:
        """The first value of a script that JavaScript takes for true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"never true: {script}\n{self.text()}"
            time.sleep(0.1)
        return value

    def text(self) -> str:
        return self.evaluate("document.body.innerText")

    def upload(self, selector: str, file: Path) -> None:
        root = self("DOM.getDocument")["root"]["nodeId"]
        node = self("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self("DOM.setFileInputFiles", nodeId=node, files=[str(file)])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self("Page.captureScreenshot")["data"]))

    def requests(self) -> list[str]:
        """The addresses that pages have asked for."""
        sent = (x for x in self.events if x["method"] == "Network.requestWillBeSent")
        return [x["params"]["request"]["url"] for x in sent]
