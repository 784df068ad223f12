"""Families of metrics on instances, demand and CATS levels."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.model import Signal
from controlplane.telemetry.levels import METRICS, WINDOW, Levels


def fleet_families(view: FleetView | None) -> Iterator[Metric]:
    """Return what is known of instances and demand; without series where *view* is None."""
    frozen = GaugeMetricFamily(
        "cats_fleet_frozen", "1 while every instance is silent and the last plan is kept."
    )
    phases = GaugeMetricFamily("cats_instances", "Instances by phase.", labels=("phase",))
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
        for (site, service), rate in view.demand.items():
            demand.add_metric((service, site), rate.value)
        for (instance, service), seen in view.outcomes.items():
            for outcome, count in asdict(seen.total).items():
                attempts.add_metric((instance, service, outcome), count)
    yield from (frozen, phases, demand, attempts)
    yield from _instance_families(view)


def _age(view: FleetView, item: InstanceView) -> float | None:
    at = item.measured_at
    return None if at is None else max(0.0, view.at - at)


def _reading(item: InstanceView, signal: Signal) -> float | None:
    reading = item.readings.get(signal)
    return None if reading is None else reading.value


_PER_INSTANCE: tuple[tuple[str, str, Callable[[FleetView, InstanceView], float | None]], ...] = (
    (
        "cats_instance_age_seconds",
        "Time since the newest report of an instance; absent if it never reported.",
        _age,
    ),
    ("cats_instance_confidence", "1 fresh, 0 not known.", lambda _, item: item.confidence),
    ("cats_instance_trust", "1 where claims fit what Envoys see.", lambda _, item: item.trust),
    (
        "cats_instance_missing_signals",
        "Signals that the engine should report and does not.",
        lambda _, item: len(item.missing),
    ),
    (
        "cats_instance_disbelieved_signals",
        "Signals that are reported and refuted by Envoys or by the source itself.",
        lambda _, item: len(item.disbelieved),
    ),
    (
        "cats_instance_running",
        "Requests being worked on.",
        lambda _, item: _reading(item, Signal.RUNNING),
    ),
    (
        "cats_instance_waiting",
        "Requests queued.",
        lambda _, item: _reading(item, Signal.WAITING),
    ),
)
"""Gauges with one series for each instance: name, text, value or None for no series."""


def _instance_families(view: FleetView | None) -> Iterator[Metric]:
    for name, text, measure in _PER_INSTANCE:
        family = GaugeMetricFamily(name, text, labels=("instance", "site"))
        if view is not None:
            for item in view.instances.values():
                if (value := measure(view, item)) is not None:
                    family.add_metric((item.name, item.instance.site), value)
        yield family


def level_families(
    view: FleetView | None, levels: Callable[[], Mapping[str, Levels]]
) -> Iterator[Metric]:
    """Return CATS levels L1 and L2, which *levels* grades when asked, and their bounds."""
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
    if view is not None:
        graded_levels = levels()
        for item in view.instances.values():
            graded = graded_levels.get(item.name)
            if graded is None:
                continue
            for category, score in graded.l1.items():
                first.add_metric((item.name, item.instance.site, category.value), score)
            if graded.l2 is not None:
                second.add_metric((item.name, item.instance.site), graded.l2)
    yield from (first, second, window, bounds)
