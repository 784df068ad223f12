"""What clients cause in the log is bounded, for each and in all."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from controlplane.runtime.client_log import ClientLog


class Clock:
    """Seconds, set by a test."""

    now = 0.0

    def __call__(self) -> float:
        """Return now."""
        return self.now


def test_each_event_is_logged_once_a_minute_for_each_client() -> None:
    """Another client, and another event, are not hidden by the first."""
    clock = Clock()
    with capture_logs() as lines:
        limited = ClientLog(structlog.get_logger(), clock=clock)
        for clock.now in (0.0, 1.0, 30.0, 59.0, 61.0):
            limited.warning("client rejected", "a", client="a")
            limited.warning("client rejected", "b", client="b")
            limited.info("Envoy connected", "a", client="a")

    said = [(line["event"], line["client"]) for line in lines]
    assert [2, 2, 2] == [said.count(each) for each in sorted(set(said))]


def test_clients_under_ever_new_names_share_one_bound() -> None:
    """An attacker that invents names fills no disk."""
    clock = Clock()
    with capture_logs() as lines:
        limited = ClientLog(structlog.get_logger(), lines_per_minute=60, clock=clock)
        for number in range(60_000):
            clock.now = number / 1_000
            limited.error("stream failed", number)

    assert 60 <= len(lines) <= 121
