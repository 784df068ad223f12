"""Failed handshakes reported."""

from __future__ import annotations

from collections import Counter
from typing import Any

from controlplane.grpc_services.handshakes import FailedHandshakes
from controlplane.runtime.throttle import LOG_PERIOD


class Log:
    """Keeps the lines."""

    def __init__(self) -> None:
        self.lines: list[dict[str, object]] = []

    def warning(self, event: str, *_: Any, **fields: Any) -> None:
        """Keep one."""
        self.lines.append({"event": event, **fields})


def test_all_are_counted_and_one_line_a_minute_is_logged() -> None:
    """For each service, site and reason, whichever Envoy it was."""
    now, counted = [0.0], Counter[tuple[str, str]]()
    log: Any = Log()

    def count(service: str, reason: str, number: float) -> None:
        counted[service, reason] += int(number)

    failed = FailedHandshakes(count, clock=lambda: now[0], log=log)
    for envoy in ("e-1", "e-2"):
        failed.receive(envoy, "north", {("chat", "authority"): 2.0, ("chat", "name"): 1.0})
    assert [("e-1", "authority"), ("e-1", "name")] == [
        (line["envoy"], line["reason"]) for line in log.lines
    ]
    now[0] = LOG_PERIOD
    failed.receive("e-1", "north", {("chat", "name"): 1.0})
    assert 3 == len(log.lines)
    assert {("chat", "authority"): 4, ("chat", "name"): 3} == counted
    assert all(line["remedy"] for line in log.lines)
