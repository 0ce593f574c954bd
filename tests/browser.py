"""Chromium without a window, driven through two pipes: clicks and keys as of a user, and all that the page says."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def chromium() -> str:
    """Return the path of Chromium, or skip the test."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return pytest.skip("no Chromium")


class Page:
    """A page in a browser.

    `events` is what the browser told, each a dict with "method" and "params": requests, lines of the console, errors.
    """

    def __init__(self, to: int, back: int):
        self._to, self._back = to, back
        self._left, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of Chrome's protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def _read(self, seconds: float = 120.0) -> dict[str, Any]:
        while b"\0" not in self._left:
            assert select.select([self._back], [], [], seconds)[0], "the browser does not answer"
            part = os.read(self._back, 1 << 20)
            assert part, "the browser has gone"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def open(self, place: Path | str) -> None:
        """Open a file or an address, and wait until its scripts have run."""
        self.call("Page.navigate", url=place if isinstance(place, str) else place.resolve().as_uri())
        self.wait_for("document.readyState === 'complete'")

    def run(self, code: str) -> Any:
        """Return the value of a piece of JavaScript, or of its promise."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, code: str, tries: int = 600) -> None:
        """Wait until a piece of JavaScript is true, for a minute at most."""
        for _ in range(tries):
            if self.run(f"new Promise((done) => setTimeout(() => done(Boolean({code})), 100))"):
                return
        raise AssertionError(f"never true: {code}")

    def mouse(self, kind: str, x: float, y: float, **options: Any) -> None:
        """Move, press or release the mouse: kind is "mouseMoved", "mousePressed" or "mouseReleased"."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **options)

    def click(self, x: float, y: float) -> None:
        """Click on a place."""
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def drag(self, path: list[tuple[float, float]]) -> None:
        """Drag from the first place over all others to the last."""
        self.mouse("mousePressed", *path[0], button="left", clickCount=1)
        for x, y in path[1:]:
            self.mouse("mouseMoved", x, y, button="left", buttons=1)
        self.mouse("mouseReleased", *path[-1], button="left", clickCount=1)

    def press(self, selector: str) -> None:
        """Click on an element."""
        x, y = self.run(
            f"(() => {{ const b = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.click(x, y)

    def write(self, selector: str, text: str) -> None:
        """Write into a field, instead of what it holds."""
        self.run(f"document.querySelector({selector!r}).focus(); document.querySelector({selector!r}).select()")
        if text:
            self.call("Input.insertText", text=text)
        else:
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key="Delete", code="Delete", windowsVirtualKeyCode=46)

    def screenshot(self, path: Path) -> None:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[Any]:
        """Return errors, and warnings and errors on the console, but for those of the software that draws WebGL."""
        self.run("0")
        found: list[Any] = []
        for event in self.events:
            if event["method"] == "Runtime.exceptionThrown":
                found.append(event["params"])
            elif event["method"] == "Runtime.consoleAPICalled" and event["params"]["type"] in ("error", "warning"):
                found.append([argument.get("value") for argument in event["params"]["args"]])
            elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] in ("error", "warning"):
                found.append(event["params"]["entry"]["text"])
        return [complaint for complaint in found if "GPU stall due to ReadPixels" not in str(complaint)]

    def requests(self) -> list[str]:
        """Return the addresses of all that was asked for."""
        self.run("0")
        sent = [event["params"]["request"] for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [request["url"] for request in sent]


@contextlib.contextmanager
def open_page(profile: Path, width: int = 1200, height: int = 800) -> Iterator[Page]:
    """Start a browser, and close it in the end.

    Parameters
    ----------
    profile : path
        Folder for what it keeps.
    width, height : int
        Of the window, in pixels.
    """
    read_there, to = os.pipe()
    back, write_there = os.pipe()
    options = ["--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--hide-scrollbars", "--no-first-run"]
    command = [chromium(), *options, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    command += [f"--window-size={width},{height}", "about:blank"]
    # Chromium reads from descriptor 3 and writes to 4. bash puts the pipes there; other shells know no numbers above 9.
    shell = ["bash", "-c", f'exec "$@" 3<&{read_there} 4>&{write_there}', "bash"]
    with (profile / "stderr.txt").open("w") as log:
        process = subprocess.Popen([*shell, *command], pass_fds=(read_there, write_there), stderr=log)
        os.close(read_there)
        os.close(write_there)
        try:
            page = Page(to, back)
            yield page
            page._session = ""
            page.call("Browser.close")
            process.wait(30)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(30)
            os.close(to)
            os.close(back)
