"""A real headless Chromium, driven over its DevTools protocol.

Needs Debian's ``chromium`` and nothing else: `find_browser` says whether it is there.
[https://chromedevtools.github.io/devtools-protocol/]
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from testbed.processes.children import die_with_parent

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--disable-crash-reporter",
    "--disable-breakpad",
    "--no-first-run",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-port=0",
)
PATIENCE = 60.0
"""Seconds until a condition that does not come true fails the test."""
MESSAGE_LIMIT = 64 * 2**20
_POLL = 0.05


class BrowserError(RuntimeError):
    """The browser or the page did not do what was awaited."""


def find_browser() -> str | None:
    """Return the path of a Chromium, or none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(filter(None, map(shutil.which, names)), None)


class Page:
    """One page in a browser of its own; an asynchronous context manager.

    Attributes:
        complaints: errors of the console, exceptions and failed loads, as they came.
    """

    def __init__(self, *, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        self.complaints: list[str] = []
        self._size = (width, height)
        self._dark = dark
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._loaded = asyncio.Event()

    async def __aenter__(self) -> Self:
        found = find_browser()
        if found is None:
            raise BrowserError("no chromium; install Debian's package chromium")
        self._profile = tempfile.mkdtemp(prefix="cats-chromium-")
        self._process = subprocess.Popen(  # noqa: ASYNC220 -- returns at once
            [found, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 -- no threads hold locks it needs
        )
        self._http = aiohttp.ClientSession()
        try:
            self._socket = await self._http.ws_connect(
                await self._find_page(), max_msg_size=MESSAGE_LIMIT
            )
            self._reader = asyncio.create_task(self._read(), name="devtools")
            for domain in ("Page", "Runtime", "Log", "Network"):
                await self.call(f"{domain}.enable")
            await self.resize(*self._size)
            await self.set_dark(self._dark)
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()
        await self._end()

    async def _end(self) -> None:
        await self._http.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.wait)
        # Its children may still write into the profile while they die.
        await asyncio.to_thread(shutil.rmtree, self._profile, ignore_errors=True)

    async def _find_page(self) -> str:
        port_file = Path(self._profile) / "DevToolsActivePort"
        async with asyncio.timeout(PATIENCE):
            while True:
                if self._process.poll() is not None:
                    raise BrowserError(f"chromium ended with status {self._process.returncode}")
                if port_file.exists() and (lines := port_file.read_text().split()):
                    async with self._http.get(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                        for target in await answer.json():
                            if target["type"] == "page":
                                return str(target["webSocketDebuggerUrl"])
                await asyncio.sleep(_POLL)

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.TEXT:
                break
            document = json.loads(message.data)
            if "id" in document:
                future = self._waiting.pop(document["id"], None)
                if future is not None and not future.done():
                    future.set_result(document)
            else:
                self._note(document["method"], document["params"])
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BrowserError("the browser closed the connection"))

    def _note(self, method: str, params: Mapping[str, Any]) -> None:
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                words = [str(a.get("value", a.get("description", ""))) for a in params["args"]]
                self.complaints.append(" ".join(words))
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", details["text"])
                self.complaints.append(str(thrown))
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                entry = params["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}".strip())

    async def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol; return its result."""
        number = next(self._numbers)
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        document = await asyncio.wait_for(future, PATIENCE)
        if "error" in document:
            raise BrowserError(f"{method}: {document['error']['message']}")
        return document["result"]

    async def open(self, url: str) -> None:
        """Load *url* and wait until it is loaded."""
        self._loaded.clear()
        answer = await self.call("Page.navigate", url=url)
        if answer.get("errorText"):
            raise BrowserError(f"{url}: {answer['errorText']}")
        await asyncio.wait_for(self._loaded.wait(), PATIENCE)

    async def resize(self, width: int, height: int) -> None:
        """Resize the window; below 640 points it is a phone."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 640,
        )  # fmt: skip

    async def set_dark(self, dark: bool) -> None:
        """Prefer the dark or the light scheme, and no motion."""
        await self.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce"},
            ],
        )

    async def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, awaited."""
        answer = await self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", details["text"])
            raise BrowserError(f"{expression[:200]}: {thrown}")
        return answer["result"].get("value")

    async def wait_for(self, expression: str, *, within: float = PATIENCE) -> Any:
        """Wait until an expression is truthy; return its value."""
        try:
            async with asyncio.timeout(within):
                while not (value := await self.evaluate(expression)):  # noqa: ASYNC110 -- a page
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            shown = await self.evaluate("document.body.innerText")
            complaints = list(dict.fromkeys(self.complaints))[:5]
            raise BrowserError(
                f"not within {within} s: {expression}\ncomplaints: {complaints}\n"
                f"the page says:\n{shown[:3000]}"
            ) from error
        return value

    async def press(self, key: str) -> None:
        """Press and release a key, such as ``Tab`` or ``Enter``."""
        text = {"text": "\r"} if key == "Enter" else {}
        codes = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38}
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key], **text,
            )  # fmt: skip

    async def screenshot(self, file: Path, *, whole: bool = True) -> None:
        """Write a PNG of the window, or of the whole page."""
        answer = await self.call(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole
        )
        await asyncio.to_thread(file.write_bytes, base64.b64decode(answer["data"]))

    async def task_seconds(self) -> float:
        """Return the processor time that the page's main thread has used so far."""
        answer = await self.call("Performance.getMetrics")
        return float(next(m["value"] for m in answer["metrics"] if m["name"] == "TaskDuration"))

    async def count_processor_time(self) -> None:
        """Have `task_seconds` count processor time of the thread instead of time on the wall."""
        await self.call("Performance.enable", timeDomain="threadTicks")
