"""Simulated Envoys: how they split requests by integer weights, and what they report.

They know what Envoy knows: the weights they were given, what they sent and what came back.
A sidecar here serves one service; an Envoy with several services is several of them under one id,
as its clusters balance apart from each other.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import inf

from controlplane.model import LatencyReport, TrafficReport
from controlplane.sim.round_robin import Pick, WeightedRoundRobin, exponential


class Sidecar:
    """One Envoy's cluster for one service: the picker in force, its endpoints, its counters."""

    __slots__ = (
        "_asked",
        "_counted",
        "_ejected_until",
        "_errors",
        "_expected",
        "_period_start",
        "_probed_down",
        "_sent",
        "active",
        "affine",
        "back",
        "drop",
        "dropped",
        "envoy",
        "erring",
        "failed",
        "index",
        "issued",
        "latency_sum",
        "need",
        "on_health",
        "on_response",
        "out",
        "pick",
        "retries",
        "service",
        "site",
        "succeeded",
        "timeout",
        "times",
        "usable",
        "weights",
        "wrr",
    )

    def __init__(
        self,
        index: int,
        *,
        envoy: str,
        site: str,
        service: str,
        usable: Sequence[int],
        out: Sequence[float],
        back: Sequence[float],
        need: Sequence[float],
        timeout: float,
        source: random.Random,
    ) -> None:
        size = len(out)
        self.index = index
        self.envoy = envoy
        self.site = site
        self.service = service
        self.usable = tuple(usable)
        """Instances that serve the service, whatever their health."""
        self.out = list(out)
        """Seconds a request takes to each instance."""
        self.back = list(back)
        """Seconds an answer takes from each instance."""
        self.need = need
        """Seconds that each instance, full, needs for one mean request of the service."""
        self.timeout = timeout
        """Seconds after which the client gives up; infinite if never."""
        self.times: list[float] | None = None
        """Latencies since the last report; None if no histogram is kept of them."""
        self.affine = False
        """Whether requests go by the hash of their session."""
        self._expected = [0.0] * size
        self._sent = 0
        self._counted: list[tuple[int, int]] = []
        self.wrr = WeightedRoundRobin(source)
        self.weights: tuple[tuple[int, int, int], ...] = ()
        """(instance, weight, priority) as last pushed."""
        self.pick: Pick = self.wrr.pick
        self.on_response: Callable[[Sidecar, int, float, float], None] | None = None
        """Called with (sidecar, instance, now, latency) by policies that learn from answers."""
        self.on_health: Callable[[Sidecar], None] | None = None
        self.drop = 0.0
        self.dropped = 0
        self.issued = [0] * size
        self.active = [0] * size
        self.succeeded = [0] * size
        self.failed = [0] * size
        self.latency_sum = [0.0] * size
        self.retries = 0
        """Attempts since the last report that repeat an earlier one."""
        self.erring = False
        """True while some instance has failed since it last answered."""
        self._period_start = 0.0
        self._asked = False
        self._errors = [0] * size
        self._ejected_until = [0.0] * size
        self._probed_down = [False] * size

    def push(self, weights: Sequence[tuple[int, int, int]], *, drop: float = 0.0) -> bool:
        """Receive (instance, weight, priority) triples; return whether anything changed.

        *drop* is the part of the requests that is answered 503 at once, Envoy's drop overload.
        """
        given = tuple(weights)
        changed = drop != self.drop
        self.drop = drop
        if given == self.weights:
            return changed
        self.weights = given
        self._rebuild()
        return True

    def pick_session(self, session: int, *, tried: Sequence[int] = ()) -> int:
        """Return the instance of a session; -1 if there is none.

        Weighted rendezvous hashing (Schindler and Reutter 2005): a change of weights moves as few
        sessions as its shares allow, as Envoy's Maglev nearly does, and every sidecar agrees.
        """
        best, least = -1, inf
        for instance, weight in self._counted:
            if instance in tried:
                continue
            score = exponential(session, instance) / weight
            if score < least:
                best, least = instance, score
        self._sent += 1
        return best

    def uses(self, instance: int) -> bool:
        """Return whether *instance* is healthy and of the priority in use."""
        return any(instance == each for each, _ in self._counted)

    def pick_lower(self) -> int:
        """Return an instance of the priority after the one in use, by weight; -1 without one."""
        levels = sorted({level for each, _, level in self.weights if self.healthy(each)})
        if len(levels) < 2:
            return -1
        return self.wrr.draw(
            [(i, w) for i, w, level in self.weights if level == levels[1] and self.healthy(i)]
        )

    def expected(self) -> list[float]:
        """Return the requests of sessions that each instance would have got by the shares."""
        total = sum(weight for _, weight in self._counted)
        for instance, weight in self._counted:
            self._expected[instance] += self._sent * weight / total
        self._sent = 0
        return self._expected

    def healthy(self, instance: int) -> bool:
        """Return whether the Envoy would send to *instance*."""
        return not self._probed_down[instance] and self._ejected_until[instance] <= 0

    def set_probed(self, instance: int, *, down: bool) -> None:
        """Receive the verdict of the active health check."""
        if self._probed_down[instance] != down:
            self._probed_down[instance] = down
            self._rebuild()

    def count_error(self, instance: int, now: float) -> bool:
        """Count a failed answer; return whether the outlier detector ejects the instance now.

        Three in a row eject for ten seconds, at most half of the endpoints at once.
        """
        self._errors[instance] += 1
        self.erring = True
        out = sum(until > 0 for until in self._ejected_until)
        if self._errors[instance] < 3 or self._ejected_until[instance] > 0:
            return False
        if 2 * (out + 1) > max(len(self.weights), 1):
            return False
        self._ejected_until[instance] = now + 10.0
        self._rebuild()
        return True

    def uneject(self, instance: int) -> None:
        """End an ejection."""
        self._ejected_until[instance] = 0.0
        self._errors[instance] = 0
        self._rebuild()

    def count_success(self, instance: int) -> None:
        """End a row of errors."""
        self._errors[instance] = 0
        self.erring = any(self._errors)

    def _rebuild(self) -> None:
        """Set the round robin to the healthy endpoints of the first priority that has some."""
        alive = [entry for entry in self.weights if self.healthy(entry[0])]
        first = min((priority for _, _, priority in alive), default=0)
        self.expected()
        self._counted = [(item, weight) for item, weight, level in alive if level == first]
        self.wrr.update(self._counted)
        if self.on_health is not None:
            self.on_health(self)

    def latency_report(self, now: float, bounds: Sequence[float]) -> LatencyReport | None:
        """Return how long the answers since the last call took; None without any.

        An answer begins when it is complete.
        """
        if not self.times:
            return None
        counts = [0.0] * (len(bounds) + 1)
        for time in self.times:
            counts[bisect_left(bounds, time)] += 1.0
        self.times = []
        buckets = tuple(counts)
        return LatencyReport(
            self.envoy, self.site, self.service, now, tuple(bounds), buckets, buckets
        )

    def traffic_reports(
        self, now: float, names: Sequence[str], *, latency: bool
    ) -> list[TrafficReport]:
        """Return what was seen since the last call, by instance, and start over.

        Without *latency* there are counts only, as in Envoy's own load reports.
        Once a request has come, an interval without any gives a report of zero requests: silence
        of the clients is not that of the Envoy.
        """
        interval = now - self._period_start
        self._period_start = now
        reports = []
        if self.dropped:
            count = float(self.dropped)
            self.dropped = 0
            reports.append(
                TrafficReport(
                    envoy=self.envoy,
                    site=self.site,
                    service=self.service,
                    instance="",
                    at=now,
                    interval=interval,
                    issued=count,
                    failed=count,
                )
            )
        for instance in self.usable:
            issued, active = self.issued[instance], self.active[instance]
            done, failed = self.succeeded[instance], self.failed[instance]
            if not (issued or active or done or failed):
                continue
            retries = min(issued, self.retries)
            self.retries -= retries
            reports.append(
                TrafficReport(
                    envoy=self.envoy,
                    site=self.site,
                    service=self.service,
                    instance=names[instance],
                    at=now,
                    interval=interval,
                    issued=float(issued),
                    succeeded=float(done),
                    failed=float(failed),
                    in_progress=float(active),
                    latency_sum=self.latency_sum[instance] if latency else 0.0,
                    latency_count=float(done) if latency else 0.0,
                    retries=float(retries),
                )
            )
            self.issued[instance] = self.succeeded[instance] = self.failed[instance] = 0
            self.latency_sum[instance] = 0.0
        if reports:
            self._asked = True
        elif self._asked:
            reports.append(
                TrafficReport(self.envoy, self.site, self.service, "", now, interval, issued=0.0)
            )
        return reports
