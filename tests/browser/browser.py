"""Chromium without a window, by its own driver and the WebDriver protocol: opens a page at a width, and tells what it loaded,
logged, and looks like. Nothing is downloaded but Debian's packages, and the profile is thrown away.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

# The last is a font that has Japanese.
PACKAGES = ("chromium", "chromium-driver", "fonts-ipafont-gothic")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
).split()
STARTED = re.compile(r"started successfully on port (\d+)")
# Of the window, in pixels; pages scroll.
HEIGHT = 900


def installed() -> bool:
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


def install() -> bool:
    """Installs what is missing where that is possible, and says whether it is there now."""
    if not installed() and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        subprocess.run(["apt-get", "update", "-qq"], **quiet)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], **quiet)
    return installed()


class Browser:
    """One browser; use it as a context."""

    def __enter__(self) -> Browser:
        with contextlib.ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True))
            # It chooses a free port itself and says which.
            self.driver = subprocess.Popen(
                ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            stack.callback(self._end)
            said = []
            for line in self.driver.stdout:
                said.append(line)
                if found := STARTED.search(line):
                    break
            else:
                raise RuntimeError(f"chromedriver did not start: {''.join(said)}")
            self.address = f"http://127.0.0.1:{found[1]}/session"
            options = {"args": [*FLAGS, f"--user-data-dir={profile}/data"], "binary": shutil.which("chromium")}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}
            session = self._call("POST", "", {"capabilities": {"alwaysMatch": wanted}})
            self.address += f"/{session['sessionId']}"
            stack.callback(self._quit)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stack.close()

    def _quit(self) -> None:
        with contextlib.suppress(OSError):
            self._call("DELETE", "")

    def _end(self) -> None:
        self.driver.terminate()
        self.driver.wait(timeout=30)
        self.driver.stdout.close()

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        # No proxy of the environment is between us and the driver.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode(errors='replace')[:2000]}") from None

    def devtools(self, command: str, **parameters: Any) -> Any:
        return self._call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def evaluate(self, script: str) -> Any:
        """The value of an expression, in the page. It is the debugger that runs it, so that the page's policy may stay."""
        given = self.devtools("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in given:
            raise RuntimeError(str(given["exceptionDetails"]))
        return given["result"].get("value")

    def look(self, width: int, dark: bool = False, paper: bool = False) -> None:
        """How the next pages are shown."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=HEIGHT, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", media="print" if paper else "screen", features=[scheme])

    def open(self, page: Path) -> None:
        self.logs("browser"), self.logs("performance")
        self._call("POST", "/url", {"url": page.as_uri()})

    def logs(self, kind: str) -> list[dict[str, Any]]:
        return self._call("POST", "/se/log", {"type": kind})

    def events(self) -> list[dict[str, Any]]:
        """What the browser did since the page was opened, as the DevTools protocol tells it."""
        return [json.loads(entry["message"])["message"] for entry in self.logs("performance")]

    def pdf(self) -> bytes:
        return base64.b64decode(self._call("POST", "/print", {"background": True}))

    def picture(self, width: int, height: int, scale: float = 1) -> bytes:
        """The top of the page, as PNG."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": scale}
        shot = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])
