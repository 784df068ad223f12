"""Lines of the log and events of the API, each reported once and bounded in number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from controlplane.controller.events import EventHub
from controlplane.runtime.log import Logger

FAULTS_LOGGED = 20
"""Faults of one configuration or one build, and lines of one event in one cycle, that are logged;
of further ones the number is. Thousands of instances may fall silent at once."""

NAMES_LOGGED = 10
"""Names listed in one line; more are counted."""


class Reporter:
    """Writes what changed to the log, and publishes it as an event."""

    def __init__(self, *, log: Logger, events: EventHub, unix_time: Callable[[], float]) -> None:
        self.log = log
        self._events = events
        self._unix_time = unix_time
        self._reported: Counter[tuple[str, bool]] | None = None
        """Lines of each event within the cycle that is being reported; None outside of one."""

    def begin_cycle(self) -> None:
        """Count lines of each event from here to `end_cycle`, and leave out what is too many."""
        self._reported = Counter()

    def end_cycle(self) -> None:
        """Report how many lines of each event were left out of the log since `begin_cycle`."""
        reported, self._reported = self._reported or Counter(), None
        for (event, is_fault), count in reported.items():
            more = count - FAULTS_LOGGED
            if more > 0 and is_fault:
                self.log.warning(
                    event,
                    more_instances=more,
                    remedy="see the lines above, and 'cats top' for all instances",
                )
            elif more > 0:
                self.log.info(event, more_instances=more)

    def leaves_out(self, event: str, *, is_fault: bool = False) -> bool:
        """Return whether the cycle that is being reported had its lines of *event*."""
        if self._reported is None:
            return False
        self._reported[event, is_fault] += 1
        return self._reported[event, is_fault] > FAULTS_LOGGED

    def report_fault(self, event: str, **fields: object) -> None:
        """Log and publish what an operator may have to act on."""
        if self.leaves_out(event, is_fault=True):
            return
        self.log.warning(event, **fields)
        self.publish(event, fields)

    def report(self, event: str, **fields: object) -> None:
        """Log and publish what changed without a fault."""
        if self.leaves_out(event):
            return
        self.log.info(event, **fields)
        self.publish(event, fields, level="info")

    def publish(self, event: str, fields: Mapping[str, object], *, level: str = "fault") -> None:
        """Publish an event of the API alone; what it is about is logged elsewhere, or not."""
        self._events.publish_fault(
            {"kind": event, "at": self._unix_time(), "level": level, **fields}
        )


def some(names: Sequence[str]) -> list[str]:
    """Return the first of *names*, and how many more there are."""
    more = len(names) - NAMES_LOGGED
    return [*names[:NAMES_LOGGED], *([f"and {more} more"] if more > 0 else [])]
