"""Families of metrics made from the present state, when someone scrapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane import __version__
from controlplane.controller.discovery_status import HTTP_ROUTES, RuleStatus
from controlplane.controller.metrics.fleet import fleet_families, level_families
from controlplane.controller.metrics.plan import plan_families
from controlplane.controller.metrics.scaling import scaling_families
from controlplane.controller.metrics.services import promise_families, spending_families
from controlplane.fleet.view import FleetView
from controlplane.steering.plan import Plan
from controlplane.telemetry.levels import Levels

SERIES_LIMIT = 20_000
"""Series of one family; a family that would have more is left out and `cats_series_left_out` says
how many. Prometheus scrapes of some MB are expensive on both sides."""


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
    follows: bool = True
    discovery: tuple[RuleStatus, ...] = ()


class PresentCollector(Collector):
    """The families of one state, which *present* returns."""

    def __init__(self, present: Callable[[], MetricsSnapshot]) -> None:
        self._present = present
        self._read: MetricsSnapshot | None = None

    def read(self) -> None:
        """Read what the next text is made of, where it changes."""
        self._read = self._present()

    def collect(self) -> Iterator[Metric]:
        """Return every family, without the series of those that have too many."""
        present = self._read or self._present()
        build = InfoMetricFamily("cats_build", "The control plane's version.")
        build.add_metric([], {"version": __version__})
        yield build
        left_out = 0
        for family in (
            *_state_families(present),
            *_discovery_families(present.discovery),
            *fleet_families(present.view),
            *plan_families(present.plan, present.view),
            *spending_families(present.plan),
            *promise_families(present.plan, present.view),
            *scaling_families(present.plan),
            *level_families(present.view, present.levels),
        ):
            if len(family.samples) > SERIES_LIMIT:
                left_out += len(family.samples)
                family.samples.clear()
            yield family
        yield GaugeMetricFamily(
            "cats_series_left_out", "Series left out of too large families.", left_out
        )

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that registering makes no family."""
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
    yield GaugeMetricFamily(
        "cats_leader_plan_served",
        "0 while the leader's plan names what this replica's configuration lacks, or the reverse,"
        " and only what fits of it is served.",
        float(present.follows),
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
    matches = GaugeMetricFamily(
        "cats_discovered_matches",
        "Matches of HTTPRoutes that are in force.",
        labels=("rule",),
    )
    for rule in rules:
        is_ok = not rule.reason and rule.listed
        ok.add_metric((rule.name,), float(is_ok))
        clusters[rule.cluster] = clusters.get(rule.cluster, True) and is_ok
        if rule.age is not None:
            age.add_metric((rule.name,), rule.age)
        if rule.kind == HTTP_ROUTES:
            matches.add_metric((rule.name,), rule.matches)
        else:
            instances.add_metric((rule.name,), rule.instances)
            held.add_metric((rule.name,), rule.held)
    for cluster, answers in sorted(clusters.items()):
        cluster_ok.add_metric((cluster,), float(answers))
    yield from (ok, cluster_ok, age, instances, held, matches)
