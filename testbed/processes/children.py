"""Children of the demo and of the tests, which never outlive it.

Linux ends a child whose parent dies (``PR_SET_PDEATHSIG``), however the parent dies; anyone who
leaves the `Children` context in good order terminates them first and kills what stays.
"""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

PR_SET_PDEATHSIG = 1
"""From ``linux/prctl.h``."""
GRACE = 5.0
"""Seconds between being asked to end and being killed."""


_SETPRIV = shutil.which("setpriv")
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; does nothing but on Linux.

    Runs between fork and exec, so the library is loaded beforehand.
    """
    if _LIBC is not None:
        _LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def bound_to_parent(command: Sequence[str]) -> dict[str, Any]:
    """Return the arguments of ``create_subprocess_exec`` that tie *command* to our life.

    With util-linux's setpriv no Python runs between fork and exec: in a process with threads of
    gRPC's that now and then hangs the child before it begins.
    """
    if _SETPRIV is not None:
        return {"args": (_SETPRIV, "--pdeathsig", "KILL", *command)}
    return {"args": tuple(command), "preexec_fn": die_with_parent}


class Child:
    """A running process with its output in a file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.returncode is None

    def send_kill(self) -> None:
        """Send SIGKILL if it is running, without waiting for its end."""
        if self.running:
            self._process.kill()

    async def kill(self) -> None:
        """End it the hard way (SIGKILL), and wait until it is gone."""
        self.send_kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end (SIGTERM), and kill it if it does not within the grace."""
        if self.running:
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), GRACE)
        except TimeoutError:
            await self.kill()

    def last_lines(self, count: int = 20) -> str:
        """Return the end of what it wrote."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return ""


class Children:
    """Starts processes, and ends every one of them on leaving."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self._children: list[Child] = []

    async def __aenter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.gather(*(child.stop() for child in reversed(self._children)))

    def kill(self) -> None:
        """Send SIGKILL to all that still run; leaving the context waits for their end."""
        for child in self._children:
            child.send_kill()

    async def start(self, name: str, command: Sequence[str]) -> Child:
        """Start *command* with its output in ``NAME.log``.

        It leads a session of its own, so that Ctrl-C reaches this process only and the children
        are ended in order.
        """
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            bound = bound_to_parent(command)
            process = await asyncio.create_subprocess_exec(
                *bound.pop("args"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                **bound,
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child
