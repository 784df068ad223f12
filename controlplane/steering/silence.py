"""When a plan stays because nothing is heard, or too little yet after a silence or a restart."""

from __future__ import annotations

import numpy as np

from controlplane.fleet.view import FleetView, InstanceView, Phase

_SILENT = frozenset({Phase.STALE, Phase.EXPIRED, Phase.UNKNOWN})
_ROUNDS = 2.0
"""Periods, of scrapes or of decisions, in which what is there is heard after a silence of all."""
_REPORTS, _RETURN = 1.0, 1.0
"""Seconds between two reports of an agent, by default, for the server does not know; and those
in which it or an Envoy dials again when its line was cut."""


class Silence:
    """Follows when instances are heard.

    All are silent when their reports, not they, have gone: a site's link, the broker, a leader that
    was killed and whose successor is not reading yet, or because this process was stopped. Reports
    then come back one by one, after a stop some of them before the first decision. Until each had
    its turn, what is old of the others would be weighed against what is new of the first, and
    requests would move by nothing but the order of their coming.

    After a restart nothing has been heard at all, and the plan of the earlier run is served: it
    stays until each instance has been read, or reported by an agent or an Envoy, or has had its
    turn. One that is asked for by no client and has no agent is never reported.
    """

    def __init__(self) -> None:
        self._observed = np.inf
        self._apart = 0.0
        """Seconds between the last two observations."""
        self._heard = -np.inf
        self._silent: frozenset[str] = frozenset()
        """Those that were silent at the last observation."""
        self._awaited: frozenset[str] | None = None
        """Those that have to be heard again, or to have had their turn; None without a silence."""
        self._began = -np.inf
        """When the last of their old readings was measured."""
        self._ended: float | None = None
        """When the first was heard again."""
        self._resumes = False
        """Whether the plan of an earlier run is served whose instances are not all read yet."""
        self._resumed: float | None = None
        """When the first decision after it was due."""

    def resume(self) -> None:
        """Let the plan of an earlier run stay until the instances have been read."""
        self._resumes, self._resumed = True, None

    def observe(self, view: FleetView) -> str:
        """Return why the last plan should stay at the instant of *view*; empty if it need not."""
        measured = {name: _measured(shown) for name, shown in view.instances.items()}
        silent = frozenset(
            name
            for name, shown in view.instances.items()
            if shown.phase in _SILENT and measured[name] > -np.inf
        )
        latest = max(measured.values(), default=-np.inf)
        heard = latest > self._heard
        usual, self._apart = self._apart, max(view.at - self._observed, 0.0)
        before, self._silent = self._silent, silent
        self._heard, self._observed = max(latest, self._heard), view.at
        if self._resumes and (unread := self._unread(view)):
            return f"frozen: restarted, and {unread} of its instances are not heard yet"
        longest = _ROUNDS * max(view.config.steering.period, usual)
        paused = self._awaited is None and self._apart > longest
        # What came before a pause of this process is no word of the present, but for one that had
        # been silent before it: that one would be so without it. Reports that are late are not
        # silence: what they say still moves on.
        lost = silent - before if paused else silent
        all_silent = view.frozen and (paused or not heard)
        if self._awaited is None and (all_silent or (paused and lost)):
            self._began = max((measured[name] for name in lost), default=-np.inf)
            self._awaited, self._ended = lost, None
        if self._awaited is None:
            return ""
        if all_silent:
            return "frozen: every instance that ever reported is silent"
        if self._ended is None:
            self._ended = view.at
        left = [name for name in self._awaited & silent if measured[name] <= self._began]
        if left and view.at - self._ended < _patience(view):
            return f"frozen: {len(left)} of those that were silent are not heard again yet"
        self._awaited = None
        return ""

    def _unread(self, view: FleetView) -> int:
        """Return how many instances are still to be heard after a restart."""
        if self._resumed is None:
            self._resumed = view.at
        since = view.at - self._resumed
        awaits_pages, awaits_reports = since < _patience(view), since < _patience_for_reports(view)
        reported = {instance for instance, _ in view.outcomes}
        unread = 0
        for name, shown in view.instances.items():
            if shown.phase not in _SILENT or shown.measured_at is not None:
                continue
            if shown.instance.scrape is not None:
                unread += awaits_pages
            else:
                unread += awaits_reports and name not in reported
        self._resumes = unread > 0
        return unread


def _measured(shown: InstanceView) -> float:
    """Return when an instance was last measured; minus infinity if it never was."""
    return -np.inf if shown.measured_at is None else shown.measured_at


def _patience(view: FleetView) -> float:
    """Return the seconds in which every instance that can be read is read once."""
    config = view.config
    rounds = (
        each.scrape.period + each.scrape.timeout
        for each in config.instances
        if each.scrape is not None
    )
    longest = max(rounds, default=0.0)
    return min(_ROUNDS * max(longest, config.steering.period), config.steering.expiry / 2)


def _patience_for_reports(view: FleetView) -> float:
    """Return the seconds in which agents and Envoys report once what they know."""
    config = view.config
    period = max(config.envoy.load_period, _REPORTS) + _RETURN
    return min(_ROUNDS * max(period, config.steering.period), config.steering.expiry / 2)
