"""Reports on their way to the fleet's state: applied, counted, shared with the other replicas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from controlplane.bus.local import Bus
from controlplane.controller.metrics import Metrics
from controlplane.errors import ReportError
from controlplane.fleet import FleetState
from controlplane.model import InstanceReport, Report, ScrapeFailure, Source
from controlplane.runtime.broadcast import Broadcast
from controlplane.runtime.log import Logger


class ReportIntake:
    """Takes reports from every source.

    Attributes:
        accepted: each report that was applied.
        cycle_wanted: the reason why a cycle should run soon.
    """

    def __init__(
        self,
        fleet: FleetState,
        *,
        bus: Callable[[], Bus],
        metrics: Metrics,
        clock: Callable[[], float],
        log: Logger,
    ) -> None:
        self._fleet = fleet
        self._bus = bus
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._readiness: dict[str, bool] = {}
        self.accepted = Broadcast[Report]()
        self.cycle_wanted = Broadcast[str]()
        self.became_unready = Broadcast[str]()

    def receive(self, report: Report) -> None:
        """Apply a report from any source, and share it with the other replicas.

        Raises:
            ReportError: it is rejected, and counted as such.
        """
        self.receive_shared(report)
        self._bus().publish(report)

    def receive_shared(self, report: Report) -> None:
        """Apply a report that another replica has received.

        Raises:
            ReportError: it is rejected, and counted as such.
        """
        source = report_source(report)
        try:
            self._fleet.apply(report, now=self._clock())
        except ReportError:
            self._metrics.reports.labels(source, "refused").inc()
            raise
        self._metrics.reports.labels(source, "accepted").inc()
        self.accepted.publish(report)
        if isinstance(report, ScrapeFailure):
            self._metrics.scrape_failures.labels(report.instance).inc()
        elif isinstance(report, InstanceReport):
            self._note_readiness(report.instance, ready=report.ready)

    def receive_all(self, reports: Sequence[Report]) -> None:
        """Apply reports whose sender gets no answer; rejected ones are counted."""
        for report in reports:
            try:
                self.receive(report)
            except ReportError as error:
                self._log.debug("report rejected", reason=str(error))

    def forget_others(self, instances: Iterable[str]) -> None:
        """Forget the readiness of all but *instances*."""
        names = set(instances)
        self._readiness = {k: ready for k, ready in self._readiness.items() if k in names}

    def _note_readiness(self, instance: str, *, ready: bool) -> None:
        if self._readiness.get(instance, True) == ready:
            return
        # One source's word, which counts only if no better one contradicts it.
        ready = not self._fleet.is_out(instance, now=self._clock())
        if self._readiness.get(instance, True) != ready:
            if not ready:
                self.became_unready.publish(instance)
            self.cycle_wanted.publish(f"{instance} is {'ready again' if ready else 'not ready'}")
        self._readiness[instance] = ready


def report_source(report: Report) -> str:
    """Return the label of where a report comes from."""
    if isinstance(report, ScrapeFailure):
        return Source.SCRAPE.value
    source = getattr(report, "source", Source.ENVOY)
    return str(source)
