"""What the log says of one instance's scrapes: each thing once, then once a minute at most."""

from __future__ import annotations

import math

import structlog

from controlplane.model import InstanceReport, ScrapeFailure

REMIND_PERIOD = 60.0
"""Seconds after which an instance that still cannot be read is logged again."""

Logger = structlog.typing.FilteringBoundLogger
_UNREADABLE = "instance metrics unreadable"


class ScrapeLog:
    """What was logged of one instance, and when.

    Args:
        name: of the instance.
        engine: that its configuration names.
        url: of its metrics page.
        log: where it is written.
    """

    def __init__(self, name: str, *, engine: str, url: str, log: Logger) -> None:
        self._name = name
        self._engine = engine
        self._url = url
        self._log = log
        self._faults: dict[str, _Repeated] = {}
        self._shown: tuple[tuple[str, ...], ...] = ((), (), ())
        self._shown_at = -REMIND_PERIOD

    def record(self, result: InstanceReport | ScrapeFailure, *, now: float) -> None:
        """Log what changed: a failure at once and then once a minute, recovery, missing signals.

        A page that comes and goes is one line a minute as well, with the count.
        """
        if isinstance(result, ScrapeFailure):
            self._record_fault(
                _UNREADABLE, result.reason, now=now,
                remedy=f"check scrape.url {self._url}; until then Envoys' own measurements count",
            )  # fmt: skip
            return
        fault = self._faults.get(_UNREADABLE)
        if fault is not None and now - fault.logged_at >= REMIND_PERIOD:
            if now - fault.came_at < REMIND_PERIOD:
                fault.log(now, self._log)
            else:
                del self._faults[_UNREADABLE]
                self._log.info("instance metrics restored", instance=self._name)
        self._record_signals(result, now=now)

    def _record_signals(self, report: InstanceReport, *, now: float) -> None:
        missing = tuple(signal.value for signal in report.missing)
        # What a value was varies with every scrape; which one is wrong does not.
        refused = tuple(line.partition(" (")[0] for line in report.refused)
        ignored = tuple(line.partition(":")[0] for line in report.ignored if "repeats" in line)
        now_shown = (missing, refused, (*report.aliases, *ignored))
        if now_shown == self._shown or now - self._shown_at < REMIND_PERIOD:
            return
        before, self._shown, self._shown_at = self._shown, now_shown, now
        if missing or refused:
            self._log.warning(
                "instance metrics lack signals",
                instance=self._name,
                engine=self._engine,
                missing=missing,
                refused=report.refused,
                remedy="check the instance's engine in the configuration, and its version",
            )
        elif ignored:
            self._log.warning(
                "contradicting series in metrics", instance=self._name,
                ignored=report.ignored,
                remedy="the first value counts; see what exports this page, or filter its series",
            )  # fmt: skip
        elif report.aliases:
            self._log.info("outdated engine detected", instance=self._name, aliases=report.aliases)
        elif any(before):
            self._log.info("instance metrics complete", instance=self._name)

    def record_rejection(self, reason: str, *, now: float) -> None:
        """Log that a report was read and is not believed."""
        self._record_fault(
            "instance report rejected", reason, now=now,
            remedy="see the reason; several instances behind one address also look like this",
        )  # fmt: skip

    def record_unreadable_models(self, url: str, reason: str, *, now: float) -> None:
        """Log that the list of loaded models at *url* cannot be read."""
        self._record_fault(
            "list of loaded models unreadable", reason, now=now,
            remedy=f"see scrape.models_url {url}; the last list stays in use",
        )  # fmt: skip

    def _record_fault(self, event: str, reason: str, *, now: float, remedy: str) -> None:
        fault = self._faults.get(event)
        if fault is None:
            fault = self._faults[event] = _Repeated(event, self._name)
        fault.came(reason, remedy, now=now)
        if now - fault.logged_at >= REMIND_PERIOD:
            fault.log(now, self._log)


class _Repeated:
    """One kind of fault of one instance, logged once a minute with the times that it came."""

    def __init__(self, event: str, instance: str) -> None:
        self._event = event
        self._instance = instance
        self._reason = self._remedy = ""
        self._times = 0
        self.logged_at = -math.inf
        self.came_at = -math.inf

    def came(self, reason: str, remedy: str, *, now: float) -> None:
        """Count it."""
        self._reason, self._remedy = reason, remedy
        self._times += 1
        self.came_at = now

    def log(self, now: float, log: Logger) -> None:
        """Write the line."""
        log.warning(
            self._event,
            instance=self._instance,
            reason=self._reason,
            times=self._times,
            remedy=self._remedy,
        )
        self._times = 0
        self.logged_at = now
