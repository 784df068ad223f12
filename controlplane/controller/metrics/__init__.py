"""What Prometheus reads: the list of metrics, and the families made from the present state.

Counters and histograms are fed where things happen. Gauges that describe the fleet, the plan and
the Envoys are made from the frozen values when someone scrapes, so that a cycle does not pay for
them and an instance that is gone leaves no series behind.
docs/metrics.md is `reference` of this module; a test keeps it so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from controlplane.controller.metrics.snapshot import MetricsSnapshot, PresentCollector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, unread

_DURATIONS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)

_LONG = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 29.9, 60.0, 300.0)
_PARTS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


class Metrics:
    """All metrics of one control plane, in a registry of their own."""

    def __init__(self, present: Callable[[], MetricsSnapshot] = MetricsSnapshot) -> None:
        self.registry = CollectorRegistry()
        self.labels: dict[str, tuple[str, ...]] = {}
        """Family -> its labels, for the reference."""
        self._add_cycle()
        self._add_xds()
        self._add_connections()
        self._add_inputs()
        self._present = PresentCollector(present)
        self.registry.register(self._present)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _add_cycle(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.cycle_seconds = histogram(
            "cats_cycle_seconds", "Time of one cycle, from the fleet's view to the publication."
        )
        self.solve_seconds = histogram("cats_solve_seconds", "Time to decide the plan.")
        self.build_seconds = histogram("cats_build_seconds", "Time to build Envoys' resources.")
        self.plans = counter(
            "cats_plans_total",
            "Plans decided, by what became of them: published, unchanged, or held because the"
            " gain was too small.",
            ("outcome",),
        )
        self.fallbacks = counter(
            "cats_fallbacks_total",
            "Assignments that began to be decided by a fallback or a freeze.",
            ("service",),
        )
        self.report_to_ack_seconds = histogram(
            "cats_report_to_ack_seconds",
            "Time from the first report that a plan took into account to an Envoy's acknowledgement"
            " of its weights.",
        )
        self.convergence_seconds = histogram(
            "cats_convergence_seconds",
            "Time from a plan's publication until every Envoy that was connected holds its weights,"
            " or later ones; 30 s and more where one did not.",
            buckets=_LONG,
        )
        self.report_age_seconds = histogram(
            "cats_report_age_seconds",
            "Age of the newest report of each instance when it was decided on, of at most 500"
            " instances a cycle.",
            buckets=_LONG,
        )
        self.prediction_miss = histogram(
            "cats_prediction_miss",
            "Absolute error of the predicted mean latency, as a part of the observed, cycle by"
            " cycle.",
            buckets=_PARTS,
        )
        self.reversals = counter(
            "cats_plan_reversals_total", "Pushes that moved load back where the last one took it."
        )

    def _add_xds(self) -> None:
        counter, histogram = self._counter, self._histogram
        self.pushes = counter("cats_xds_pushes_total", "xDS responses sent.", ("type",))
        self.pushed_bytes = counter(
            "cats_xds_pushed_bytes_total", "Bytes of xDS responses sent.", ("type",)
        )
        self.acks = counter("cats_xds_acks_total", "xDS responses acknowledged (ACK).", ("type",))
        self.nacks = counter("cats_xds_nacks_total", "xDS responses rejected (NACK).", ("type",))
        self.ack_seconds = histogram(
            "cats_xds_ack_seconds", "Time from an xDS response to its acknowledgement.", ("type",)
        )
        self.streams = counter("cats_xds_streams_total", "xDS streams opened.", ("mode",))
        self.stream_faults = counter(
            "cats_xds_stream_faults_total",
            "xDS streams that we refused or ended.",
            ("reason",),
        )
        self.resource_faults = counter(
            "cats_resource_faults_total",
            "Resources that Envoys would refuse, found before they were published.",
            ("type",),
        )
        self.unknown_sites = counter(
            "cats_unknown_sites_total", "Envoys that connected and named no site that we know."
        )

    def _add_connections(self) -> None:
        counter = self._counter
        self.clients_refused = counter(
            "cats_clients_refused_total",
            "Clients whose certificate does not allow what they claim.",
            ("role",),
        )
        self.connections_refused = counter(
            "cats_connections_refused_total",
            "Connections to the gRPC port beyond --max-connections.",
        )
        self.connections_cut = counter(
            "cats_connections_cut_total",
            "Connections to the gRPC port ended for what the client did or failed to do.",
        )
        self.connections = Gauge(
            "cats_connections", "Connections to the gRPC port.", registry=self.registry
        )
        self.loop_lag = Gauge(
            "cats_event_loop_lag_seconds",
            "Longest time within the last minute that the event loop answered nothing.",
            registry=self.registry,
        )
        self.certificates_ok = Gauge(
            "cats_certificates_ok",
            "1 if the newest certificate files are in use and valid today, 0 while the last good"
            " ones serve.",
            ("section",),
            registry=self.registry,
        )
        self.instance_tls_failures = counter(
            "cats_instance_tls_failures_total",
            "TLS handshakes of Envoys with instances that failed, health checks included.",
            ("service", "reason"),
        )

    def _add_inputs(self) -> None:
        counter = self._counter
        self.reports = counter(
            "cats_reports_total", "Reports, by source and whether they were taken.",
            ("source", "outcome"),
        )  # fmt: skip
        self.scrape_failures = counter(
            "cats_scrape_failures_total", "Instances' metrics that could not be read.",
            ("instance",),
        )  # fmt: skip
        self.config_reloads = counter(
            "cats_config_reloads_total", "Configuration files read, by whether they were taken.",
            ("outcome",),
        )  # fmt: skip
        self.discovery_requests = counter(
            "cats_discovery_requests_total",
            "Lists and watches of the Kubernetes API that ended, and objects that could not be"
            " read, by what came of it.",
            ("cluster", "resource", "verb", "outcome"),
        )
        self.discovery_refused = counter(
            "cats_discovery_refused_total",
            "Discovered instances that do not take part, by what they clash with.",
            ("rule", "clash"),
        )
        self.bus_reports = counter(
            "cats_bus_reports_total",
            "Reports on the bus between replicas: sent, received, refused as unreadable, or dropped"
            " while it was unreachable.",
            ("what",),
        )
        self.wake_calls = counter(
            "cats_wake_calls_total",
            "Calls of webhooks that start instances which are asleep (instances[].wake), tries of"
            " one call together: accepted or failed.",
            ("outcome",),
        )
        self.state_saves = counter(
            "cats_state_saves_total", "Plans written to the state directory.", ("outcome",)
        )
        self.task_failures = counter(
            "cats_task_failures_total", "Internal tasks that failed and were run again.", ("task",)
        )

    def _counter(self, name: str, text: str, labels: Iterable[str] = ()) -> Counter:
        self.labels[name.removesuffix("_total")] = tuple(labels)
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(
        self,
        name: str,
        text: str,
        labels: Iterable[str] = (),
        *,
        buckets: Sequence[float] = _DURATIONS,
    ) -> Histogram:
        self.labels[name] = tuple(labels)
        return Histogram(name, text, labels, registry=self.registry, buckets=buckets)

    def read(self) -> Callable[[], bytes]:
        """Return what makes the text of this instant, in Prometheus format 0.0.4, in any thread."""
        self._present.read()
        return lambda: generate_latest(self.registry)


def reference(metrics: Metrics) -> str:
    """Return docs/metrics.md: each family's name, type, labels, text."""
    lines = [
        "# Metrics",
        "",
        "What `/metrics` exposes, in Prometheus' text format.",
        "Written by `python -m testbed.tools.references`; a test keeps it current.",
        "Beside these there are the usual `process_*` and `python_*` families.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for family in sorted(metrics.registry.collect(), key=lambda family: family.name):
        if family.name.startswith("cats_"):
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            named = metrics.labels.get(family.name) or getattr(family, "_labelnames", ()) or ()
            labels = ", ".join(f"`{label}`" for label in named)
            lines.append(
                f"| `{family.name}{suffix}` | {family.type} | {labels} | {family.documentation} |"
            )
    return "\n".join(lines) + "\n"
