"""Families of metrics on the plan: shares, predictions, canaries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from controlplane.fleet.view import FleetView
from controlplane.steering.assignment_sums import notes_of
from controlplane.steering.outcomes import (
    Canary,
    Key,
    Observed,
    compare_canaries,
    observed_latencies,
    predicted_latency,
)
from controlplane.steering.plan import Plan


def plan_families(plan: Plan | None, view: FleetView | None) -> Iterator[Metric]:
    """Return shares, predictions and what they are measured against; long, as it is a list."""
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
    failing = GaugeMetricFamily(
        "cats_instance_failing",
        "Part of a service's requests that an instance fails beyond what others do; class is how.",
        labels=("instance", "service", "class"),
    )
    if plan is not None:
        for item in plan.failing:
            failing.add_metric((item.instance, item.service, item.kind.value), item.probability)
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
    yield from (error, oscillating, cost, gap, noted, failing)
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
