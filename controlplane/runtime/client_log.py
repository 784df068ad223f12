"""Log lines that clients cause: each once a minute for a client, and a bounded number in all.

A client that misbehaves as fast as it can, or under ever new names, must not fill a disk or hide
what others say; metrics count what is not logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Any

from controlplane.runtime.log import Logger
from controlplane.runtime.throttle import LogLimit

LINES_PER_MINUTE = 120.0


class ClientLog:
    """A logger whose lines name the client that causes them.

    Args:
        log: where the lines go.
        lines_per_minute: of all clients together.
        clock: monotonic, in seconds.
    """

    def __init__(
        self,
        log: Logger,
        *,
        lines_per_minute: float = LINES_PER_MINUTE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._clock = log, clock
        self._limit: LogLimit[tuple[str, Hashable]] = LogLimit(lines_per_minute=lines_per_minute)

    def __len__(self) -> int:
        return len(self._limit)

    def info(self, event: str, client: Hashable, /, **fields: Any) -> None:
        """Log *event*, unless it was logged about *client* a short while ago."""
        if self._limit.is_due((event, client), now=self._clock()):
            self._log.info(event, **fields)

    def warning(self, event: str, client: Hashable, /, **fields: Any) -> None:
        """The same for what needs an operator's eyes; *fields* hold a ``remedy``."""
        if self._limit.is_due((event, client), now=self._clock()):
            self._log.warning(event, **fields)

    def error(self, event: str, client: Hashable, /, **fields: Any) -> None:
        """The same for a defect of ours."""
        if self._limit.is_due((event, client), now=self._clock()):
            self._log.error(event, **fields)
