"""Runs ``cats serve`` as its own process, as an operator would, and asks its admin port."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, Self

import aiohttp

from controlplane.config import parse_config
from controlplane.resources.bootstrap import build_bootstrap
from testbed.processes.children import bound_to_parent
from testbed.processes.ports import free_ports

_POLL = 0.02
"""Seconds between two looks at a condition."""
_START = 180.0
"""Seconds for a process to start; what a test waits for begins after it."""


class ControlPlaneError(RuntimeError):
    """The control plane did not do what was awaited; carries the end of its log."""


class ControlPlaneProcess:
    """A running ``cats serve``; an asynchronous context manager that ends it.

    Attributes:
        xds_port: gRPC port.
        admin_port: HTTP port.
    """

    def __init__(
        self,
        config_file: Path,
        *options: str,
        ports: tuple[int, int] | None = None,
        log: str = "",
        command: Sequence[str] = ("controlplane", "serve"),
    ) -> None:
        self.xds_port, self.admin_port = ports or free_ports(2)
        self._command = [
            *(sys.executable, "-m", *command, "--config", str(config_file)),
            *("--xds", f"127.0.0.1:{self.xds_port}", "--admin", f"127.0.0.1:{self.admin_port}"),
            *("--log-format", "json", *options),
        ]
        self._config_file = config_file
        self._process: asyncio.subprocess.Process | None = None
        self._log: IO[bytes] = (
            Path(log).open("wb") if log else tempfile.TemporaryFile(mode="w+b")  # noqa: SIM115 -- closed at the end
        )
        self._http: aiohttp.ClientSession | None = None
        self._is_open = False

    async def __aenter__(self) -> Self:
        bound = bound_to_parent(self._command)
        self._process = await asyncio.create_subprocess_exec(
            *bound.pop("args"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            **bound,
        )
        self._http = aiohttp.ClientSession(f"http://127.0.0.1:{self.admin_port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._http is not None:
            await self._http.close()
        self._log.close()

    @property
    def pid(self) -> int:
        """Return its process id."""
        if self._process is None:
            raise AssertionError("not started")
        return self._process.pid

    def bootstrap(self, *, site: str = "north", envoy_id: str = "e-1", **options: Any) -> str:
        """Return the bootstrap of an Envoy that follows it; *options* as for `build_bootstrap`."""
        return build_bootstrap(
            parse_config(self._config_file.read_text(encoding="utf-8"), file="fleet.yaml"),
            site=site, envoy_id=envoy_id, xds=("127.0.0.1", self.xds_port), admin_port=0, **options,
        )  # fmt: skip

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self._process is None:
            raise AssertionError("not started")
        self._process.send_signal(number)

    async def ended(self, *, within: float = 60.0) -> int:
        """Wait until it ends; return its exit status."""
        if self._process is None:
            raise AssertionError("not started")
        try:
            return await asyncio.wait_for(self._process.wait(), within)
        except TimeoutError as error:
            raise self._failed("end", within) from error

    def log(self) -> str:
        """Return what it wrote so far."""
        # Without a seek: the process writes where this file stands, in the middle of a read too.
        file = self._log.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of its log that are whole, parsed."""
        whole, _, _ = self.log().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    async def get(self, path: str) -> tuple[int, str]:
        """Ask the admin port; return status and text."""
        if self._http is None:
            raise AssertionError("not started")
        async with self._http.get(path) as answer:
            return answer.status, await answer.text()

    async def get_json(self, path: str) -> Any:
        """Ask the admin port for a document."""
        status, text = await self.get(path)
        if status != 200:
            raise ControlPlaneError(f"{path}: status {status}: {text}")
        return json.loads(text)

    async def wait_ready(self, *, within: float = 90.0) -> None:
        """Wait until it serves a snapshot."""

        async def is_ready() -> bool:
            try:
                return (await self.get("/readyz"))[0] == 200
            except aiohttp.ClientConnectionError:
                return False

        await self._wait_until(is_ready, "be ready", within)

    async def wait_for(
        self, path: str, condition: Callable[[Any], bool], what: str, *, within: float = 60.0
    ) -> Any:
        """Wait until *condition* holds of the document at *path*; give it."""
        document: Any = None

        async def holds() -> bool:
            nonlocal document
            document = await self.get_json(path)
            return condition(document)

        await self._wait_until(holds, what, within)
        return document

    async def wait_for_event(self, event: str, *, within: float = 60.0) -> dict[str, Any]:
        """Wait until its log has a line whose event is *event*; give the last such line."""

        async def is_logged() -> bool:
            return any(line["event"] == event for line in self.events())

        await self._wait_until(is_logged, f"log {event!r}", within)
        return [line for line in self.events() if line["event"] == event][-1]

    async def _wait_until(self, condition: Any, what: str, within: float) -> None:
        if not self._is_open:
            # Starting is the interpreter's work; on a busy machine it takes longer than any wait.
            await self._poll(self._opens, "open its admin port", _START)
            self._is_open = True
        await self._poll(condition, what, within)

    async def _opens(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.admin_port)
        except OSError:
            return False
        writer.close()
        return True

    async def _poll(self, condition: Any, what: str, within: float) -> None:
        try:
            async with asyncio.timeout(within):
                while not await condition():
                    if self._process is not None and self._process.returncode is not None:
                        raise self._failed(f"{what}; it ended", within)
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise self._failed(what, within) from error

    def _failed(self, what: str, within: float) -> ControlPlaneError:
        return ControlPlaneError(
            f"the control plane did not {what} within {within} s; its log ends:\n"
            f"{self.log()[-4000:]}"
        )
