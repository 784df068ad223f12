"""Starts of an instance that is asleep: asked for, under way, overdue, and when to ask again."""

from __future__ import annotations

import math

from controlplane.config import Wake
from controlplane.fleet.view import ColdStart
from controlplane.model import WakeReport

OVERDUE = 2.0
"""Times its `start_up` that a start may take before it counts as failed."""
RETRY = 30.0
"""Seconds after a call that failed until the next one; doubled with each that fails."""
LONGEST_RETRY = 3600.0
"""Seconds that it is never longer, unless a start itself takes longer."""


class ColdStarts:
    """The starts of one instance since it last served."""

    __slots__ = ("_attempts", "_last")

    def __init__(self) -> None:
        self._last: WakeReport | None = None
        self._attempts = 0

    def apply(self, report: WakeReport) -> None:
        """Note that a start was asked for, or could not be; an older one than the last is not."""
        if self._last is None or report.at > self._last.at:
            self._last = report
            self._attempts += 1

    def end(self, *, at: float = math.inf) -> None:
        """Forget what was asked for before *at*: the instance, or one like it, serves."""
        if self._last is not None and self._last.at <= at:
            self._last = None
            self._attempts = 0

    def view(self, wake: Wake, *, now: float) -> ColdStart:
        """Return what is known of a start of an instance that is asleep."""
        last = self._last
        if last is None:
            return ColdStart(wake)
        longest = OVERDUE * wake.start_up
        wait = RETRY if last.error else longest
        # Beyond some attempts the power would only overflow.
        wait = max(longest, min(wait * 2.0 ** min(self._attempts - 1, 16), LONGEST_RETRY))
        return ColdStart(
            wake,
            requested_at=last.at,
            pending=not last.error and now - last.at < longest,
            retry_at=last.at + wait,
            error=last.error,
        )


def describe(start: ColdStart, *, now: float) -> str:
    """Return what becomes of an instance that is asleep, in words."""
    if start.requested_at is None:
        return ""
    ago = f"{max(0.0, now - start.requested_at):.0f} s ago"
    if start.pending:
        return f"start requested {ago}, which takes some {start.wake.start_up:.0f} s"
    again = f"not asked again before {max(0.0, start.retry_at - now):.0f} s have passed"
    if start.error:
        return f"its webhook failed {ago}: {start.error}; {again}"
    return f"start requested {ago}, and nothing has reported since; {again}"
