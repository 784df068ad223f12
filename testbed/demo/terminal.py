"""The demo's hold on its terminal."""

from __future__ import annotations

import os
import signal
import sys
from types import TracebackType
from typing import Self


class Foreground:
    """Makes this process a foreground process group of its own while the context lasts.

    ``make`` and the demo share a process group, so Ctrl-C would reach both, and make would report
    an interrupted target whatever the demo does about it.
    In a group of its own the demo alone is interrupted, and make sees its exit status.
    Does nothing without a terminal.
    """

    def __init__(self) -> None:
        self._terminal: int | None = None
        self._previous = 0

    def __enter__(self) -> Self:
        try:
            terminal = sys.stdin.fileno()
            foreground = os.tcgetpgrp(terminal)
        except (OSError, ValueError):  # no terminal
            return self
        if foreground != os.getpgrp() or os.getpid() in (os.getpgrp(), os.getsid(0)):
            return self  # in the background, or a group of its own already
        self._terminal, self._previous = terminal, foreground
        # Changing the foreground group is a write to the terminal by a background process.
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        # make and the shell would not notice that the demo alone was suspended.
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        os.setpgid(0, 0)
        os.tcsetpgrp(terminal, os.getpid())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def quit(self, status: int) -> None:
        """Exit at once, without running what the interpreter would still run."""
        self._restore()
        os._exit(status)

    def _restore(self) -> None:
        if self._terminal is not None:
            os.tcsetpgrp(self._terminal, self._previous)
            self._terminal = None
