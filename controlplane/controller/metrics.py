"""What Prometheus reads: the list of metrics, and the families made from the present state.

Counters and histograms are fed where things happen. Gauges that describe the fleet, the plan and
the Envoys are made from the frozen values when someone scrapes, so that a cycle does not pay for
them and an instance that is gone leaves no series behind.
docs/metrics.md is `reference` of this module; a test keeps it so.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

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
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from controlplane import __version__
from controlplane.controller.discovery_status import RuleStatus
from controlplane.fleet.view import FleetView, Phase
from controlplane.model import Signal
from controlplane.steering.assignments import notes_of
from controlplane.steering.outcomes import (
    Canary,
    Key,
    Observed,
    compare_canaries,
    observed_latencies,
    predicted_latency,
)
from controlplane.steering.plan import Plan
from controlplane.telemetry.levels import METRICS, WINDOW, Levels

SERIES_LIMIT = 20_000
"""Series of one family; a family that would have more is left out and `cats_series_left_out` says
how many. Prometheus scrapes of some MB are expensive on both sides."""

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, unread

_DURATIONS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0)

_LONG = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 29.9, 60.0, 300.0)
_PARTS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class EnvoyCount:
    """How many Envoys of one site are connected in one mode."""

    site: str
    """As the Envoy names it; empty when it named none that we know."""
    mode: str
    count: int


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """The state that gauges are made from."""

    view: FleetView | None = None
    plan: Plan | None = None
    envoys: tuple[EnvoyCount, ...] = ()
    views: int = 0
    ready: bool = False
    config_ok: bool = True
    levels: Callable[[], Mapping[str, Levels]] = dict
    leads: bool = True
    bus_connected: bool = True
    discovery: tuple[RuleStatus, ...] = ()


class Metrics:
    """All metrics of one control plane, in a registry of their own."""

    def __init__(self, present: Callable[[], MetricsSnapshot] = MetricsSnapshot) -> None:
        self.registry = CollectorRegistry()
        self.labels: dict[str, tuple[str, ...]] = {}
        """Family -> its labels, for the reference."""
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
        self.pushes = counter("cats_xds_pushes_total", "xDS responses sent.", ("type",))
        self.pushed_bytes = counter(
            "cats_xds_pushed_bytes_total", "Bytes of xDS responses sent.", ("type",)
        )
        self.acks = counter("cats_xds_acks_total", "xDS responses that Envoys took.", ("type",))
        self.nacks = counter(
            "cats_xds_nacks_total", "xDS responses that Envoys refused.", ("type",)
        )
        self.ack_seconds = histogram(
            "cats_xds_ack_seconds", "Time from an xDS response to its acknowledgement.", ("type",)
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
        self._open = Gauge(
            "cats_connections", "Connections to the gRPC port.", registry=self.registry
        )
        self._loop_lag = Gauge(
            "cats_event_loop_lag_seconds",
            "Longest time within the last minute that the event loop answered nothing.",
            registry=self.registry,
        )
        self.certificates_ok = Gauge(
            "cats_certificates_ok",
            "1 if the newest certificate files are in use, 0 while they do not fit and the last"
            " good ones serve.",
            ("section",),
            registry=self.registry,
        )
        self.instance_tls_failures = counter(
            "cats_instance_tls_failures_total",
            "TLS handshakes of Envoys with instances that failed, health checks included.",
            ("service", "reason"),
        )
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
        self.state_saves = counter(
            "cats_state_saves_total", "Plans written to the state directory.", ("outcome",)
        )
        self.task_failures = counter(
            "cats_task_failures_total", "Internal tasks that failed and were run again.", ("task",)
        )
        self.registry.register(_PresentCollector(present))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

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

    def count_connections(self, count: Callable[[], int]) -> None:
        """Receive the number of connections to the gRPC port from *count*."""
        self._open.set_function(count)

    def measure_loop(self, lag: Callable[[], float]) -> None:
        """Receive the lag of the event loop, in seconds, from *lag*."""
        self._loop_lag.set_function(lag)

    def expose(self) -> bytes:
        """Return the Prometheus text format 0.0.4."""
        return generate_latest(self.registry)


class _PresentCollector(Collector):
    def __init__(self, present: Callable[[], MetricsSnapshot]) -> None:
        self._present = present

    def collect(self) -> Iterator[Metric]:
        present = self._present()
        build = InfoMetricFamily("cats_build", "The control plane's version.")
        build.add_metric([], {"version": __version__})
        yield build
        left_out = 0
        for family in (
            *_state_families(present),
            *_discovery_families(present.discovery),
            *_fleet_families(present.view),
            *_plan_families(present.plan, present.view),
            *_level_families(present),
        ):
            if len(family.samples) > SERIES_LIMIT:
                left_out += len(family.samples)
                family.samples.clear()
            yield family
        yield GaugeMetricFamily(
            "cats_series_left_out", "Series left out of too large families.", left_out
        )

    def describe(self) -> Iterator[Metric]:
        yield from ()  # names are checked by the test of docs/metrics.md


def _state_families(present: MetricsSnapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "cats_ready", "1 once a snapshot is being served.", float(present.ready)
    )
    yield GaugeMetricFamily(
        "cats_config_ok", "0 while the newest configuration is refused.", float(present.config_ok)
    )
    yield GaugeMetricFamily(
        "cats_leader", "1 while this replica decides for all.", float(present.leads)
    )
    yield GaugeMetricFamily(
        "cats_bus_connected",
        "0 while other replicas cannot be heard.",
        float(present.bus_connected),
    )
    yield GaugeMetricFamily("cats_views", "Sets of resources kept, one per site.", present.views)
    envoys = GaugeMetricFamily(
        "cats_envoys", "Envoys connected; site is empty where unknown.", labels=("site", "mode")
    )
    for item in present.envoys:
        envoys.add_metric((item.site, item.mode), item.count)
    yield envoys


def _discovery_families(rules: tuple[RuleStatus, ...]) -> Iterator[Metric]:
    ok = GaugeMetricFamily(
        "cats_discovery_ok",
        "0 while the Kubernetes API does not answer for a rule of discovery.",
        labels=("rule",),
    )
    cluster_ok = GaugeMetricFamily(
        "cats_discovery_cluster_ok",
        "0 while a cluster's API does not answer for some rule; empty is the cluster of"
        " discovery.api.",
        labels=("cluster",),
    )
    clusters: dict[str, bool] = {}
    age = GaugeMetricFamily(
        "cats_discovery_age_seconds",
        "Time since the Kubernetes API last said how things are; absent if it never did.",
        labels=("rule",),
    )
    instances = GaugeMetricFamily(
        "cats_discovered_instances", "Discovered instances that take part.", labels=("rule",)
    )
    held = GaugeMetricFamily(
        "cats_discovery_held_instances",
        "Instances that are gone and kept, because nothing else serves their service.",
        labels=("rule",),
    )
    for rule in rules:
        is_ok = not rule.reason and rule.listed
        ok.add_metric((rule.name,), float(is_ok))
        clusters[rule.cluster] = clusters.get(rule.cluster, True) and is_ok
        if rule.age is not None:
            age.add_metric((rule.name,), rule.age)
        instances.add_metric((rule.name,), rule.instances)
        held.add_metric((rule.name,), rule.held)
    for cluster, answers in sorted(clusters.items()):
        cluster_ok.add_metric((cluster,), float(answers))
    yield from (ok, cluster_ok, age, instances, held)


def _fleet_families(view: FleetView | None) -> Iterator[Metric]:
    frozen = GaugeMetricFamily(
        "cats_fleet_frozen", "1 while every instance is silent and the last plan is kept."
    )
    phases = GaugeMetricFamily("cats_instances", "Instances by phase.", labels=("phase",))
    age = GaugeMetricFamily(
        "cats_instance_age_seconds",
        "Time since the newest report of an instance; absent if it never reported.",
        labels=("instance", "site"),
    )
    confidence = GaugeMetricFamily(
        "cats_instance_confidence", "1 fresh, 0 not known.", labels=("instance", "site")
    )
    trust = GaugeMetricFamily(
        "cats_instance_trust", "1 where claims fit what Envoys see.", labels=("instance", "site")
    )
    missing = GaugeMetricFamily(
        "cats_instance_missing_signals",
        "Signals that the engine should report and does not.",
        labels=("instance", "site"),
    )
    running = GaugeMetricFamily(
        "cats_instance_running", "Requests being worked on.", labels=("instance", "site")
    )
    waiting = GaugeMetricFamily(
        "cats_instance_waiting", "Requests queued.", labels=("instance", "site")
    )
    disbelieved = GaugeMetricFamily(
        "cats_instance_disbelieved_signals",
        "Signals that are reported and refuted by Envoys or by the source itself.",
        labels=("instance", "site"),
    )
    attempts = CounterMetricFamily(
        "cats_attempts",
        "Attempts of Envoys by how they ended: answered, a class of failure, or abandoned.",
        labels=("instance", "service", "outcome"),
    )
    demand = GaugeMetricFamily(
        "cats_demand_rate", "Requests a second of a client site.", labels=("service", "site")
    )
    if view is not None:
        frozen.add_metric((), float(view.frozen))
        tally = Tally(item.phase for item in view.instances.values())
        for phase in Phase:
            phases.add_metric((phase.value,), tally[phase])
        for item in view.instances.values():
            labels = (item.name, item.instance.site)
            instants = [r.at for r in item.readings.values() if r.at is not None]
            if instants:
                age.add_metric(labels, max(0.0, view.at - max(instants)))
            confidence.add_metric(labels, item.confidence)
            trust.add_metric(labels, item.trust)
            missing.add_metric(labels, len(item.missing))
            disbelieved.add_metric(labels, len(item.disbelieved))
            for signal, family in ((Signal.RUNNING, running), (Signal.WAITING, waiting)):
                if signal in item.readings:
                    family.add_metric(labels, item.readings[signal].value)
        for (site, service), rate in view.demand.items():
            demand.add_metric((service, site), rate.value)
        for (instance, service), seen in view.outcomes.items():
            for outcome, count in asdict(seen.total).items():
                attempts.add_metric((instance, service, outcome), count)
    yield from (frozen, phases, age, confidence, trust, missing, disbelieved)
    yield from (running, waiting, demand, attempts)


def _level_families(present: MetricsSnapshot) -> Iterator[Metric]:
    first = GaugeMetricFamily(
        "cats_level1_score",
        "CATS metric level L1: one score per category, 0 to 10, 10 best.",
        labels=("instance", "site", "category"),
    )
    second = GaugeMetricFamily(
        "cats_level2_score",
        "CATS metric level L2: one score, 0 to 10, 10 best.",
        labels=("instance", "site"),
    )
    window = GaugeMetricFamily(
        "cats_level_window_seconds", "Time over which scores' raw values are averaged.", WINDOW
    )
    bounds = GaugeMetricFamily(
        "cats_level_bound",
        "Value of a raw metric that scores 0 (worst) or 10 (best).",
        labels=("metric", "category", "score"),
    )
    for metric in METRICS:
        for edge, value in (("worst", metric.worst), ("best", metric.best)):
            bounds.add_metric((metric.name, metric.category.value, edge), value)
    if present.view is not None:
        levels = present.levels()
        for item in present.view.instances.values():
            graded = levels.get(item.name)
            if graded is None:
                continue
            for category, score in graded.l1.items():
                first.add_metric((item.name, item.instance.site, category.value), score)
            if graded.l2 is not None:
                second.add_metric((item.name, item.instance.site), graded.l2)
    yield from (first, second, window, bounds)


def _plan_families(plan: Plan | None, view: FleetView | None) -> Iterator[Metric]:
    share = GaugeMetricFamily(
        "cats_share",
        "Part of a client site's requests that a site gets, in the first priority.",
        labels=("service", "from", "to"),
    )
    predicted = GaugeMetricFamily(
        "cats_predicted_latency_seconds",
        "Mean latency that the plan predicts.",
        labels=("service", "from"),
    )
    cost = GaugeMetricFamily(
        "cats_predicted_cost", "The plan's objective, in weighted seconds of delay per second."
    )
    noted = GaugeMetricFamily(
        "cats_assignments_in_fallback", "Pairs of service and client site in fallback or freeze."
    )
    refused = GaugeMetricFamily(
        "cats_refused_share",
        "Part of a tolerant service's requests that Envoys are to reject in an overload.",
        labels=("service", "from"),
    )
    error = GaugeMetricFamily(
        "cats_prediction_error",
        "Smoothed absolute error of the predicted mean latency, as a part of the observed (MAPE).",
    )
    oscillating = GaugeMetricFamily(
        "cats_plan_oscillating", "1 while pushes undo each other, and moves are halved."
    )
    gap = GaugeMetricFamily(
        "cats_plan_gap",
        "Most that any other shares could still gain, over every pair that may be used, as a"
        " fraction of the plan's cost.",
    )
    if plan is not None:
        cost.add_metric((), plan.predicted_cost)
        gap.add_metric((), plan.gap)
        oscillating.add_metric((), float(plan.oscillating))
        if plan.prediction_error is not None:
            error.add_metric((), plan.prediction_error)
        noted.add_metric((), len(notes_of(plan.assignments)))
        for (service, site), assignment in plan.assignments.items():
            first = [a for a in assignment.allocations if a.priority == 0]
            to: dict[str, float] = {}
            for allocation in first:
                to[allocation.site] = to.get(allocation.site, 0.0) + allocation.share
            for target, value in to.items():
                share.add_metric((service, site, target), value)
            if (mean := predicted_latency(assignment)) is not None:
                predicted.add_metric((service, site), mean)
            refused.add_metric((service, site), assignment.drop)
    seen = {} if view is None else observed_latencies(view)
    yield from (share, refused, predicted, _observed_latency(seen))
    yield from (error, oscillating, cost, gap, noted)
    yield from _canary_families([] if plan is None else compare_canaries(plan, seen))


def _canary_families(canaries: Sequence[Canary]) -> Iterator[Metric]:
    predicted = GaugeMetricFamily(
        "cats_canary_predicted_latency_seconds",
        "Mean latency that the plan predicts: at the canary's client site (part=canary), there if"
        " the standing policy decided (standing), and at the other client sites (rest).",
        labels=("service", "from", "policy", "part"),
    )
    observed = GaugeMetricFamily(
        "cats_canary_observed_latency_seconds",
        "Mean latency that Envoys observe at the canary's client site (part=canary) and at the"
        " others (rest).",
        labels=("service", "from", "policy", "part"),
    )
    for item in canaries:
        tried, standing = item.policy.value, item.standing.value
        for family, policy, part, value in (
            (predicted, tried, "canary", item.predicted),
            (predicted, standing, "standing", item.predicted_standing),
            (predicted, standing, "rest", item.predicted_rest),
            (observed, tried, "canary", item.observed),
            (observed, standing, "rest", item.observed_rest),
        ):
            if value is not None:
                family.add_metric((item.service, item.client_site, policy, part), value)
    yield from (predicted, observed)


def _observed_latency(seen: Mapping[Key, Observed]) -> Metric:
    observed = GaugeMetricFamily(
        "cats_observed_latency_seconds",
        "Mean latency that Envoys observe.",
        labels=("service", "from"),
    )
    for pair, each in seen.items():
        observed.add_metric(pair, each.latency)
    return observed


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
