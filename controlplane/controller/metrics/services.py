"""Families of metrics on services: what was promised, and what requests cost."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from controlplane.fleet.promises import ALLOWED
from controlplane.fleet.view import FleetView
from controlplane.steering.plan import Plan

_LABELS = ("service", "promise")


def spending_families(plan: Plan | None) -> Iterator[Metric]:
    """Return what requests cost besides time, as *plan* predicts it."""
    money = GaugeMetricFamily(
        "cats_service_money_per_request",
        "Currency that a request costs on average by the plan: its energy, carbon and price.",
        labels=("service",),
    )
    carbon = GaugeMetricFamily(
        "cats_service_carbon_grams_per_request",
        "Grams of CO2 that a request causes on average by the plan.",
        labels=("service",),
    )
    for service, each in (plan.spending if plan else {}).items():
        money.add_metric((service,), each.money)
        carbon.add_metric((service,), each.carbon)
    yield money
    yield carbon


def promise_families(plan: Plan | None, view: FleetView | None) -> Iterator[Metric]:
    """Return what became of promises, and what *plan* foresees of them."""
    attainment = GaugeMetricFamily(
        "cats_service_slo_attainment",
        "Part of the requests that kept the promise, failed ones among those that did not.",
        labels=(*_LABELS, "window"),
    )
    burn = GaugeMetricFamily(
        "cats_service_slo_burn_rate",
        "Requests that missed the promise over the 1 % that may.",
        labels=(*_LABELS, "window"),
    )
    ended = CounterMetricFamily(
        "cats_service_slo_requests",
        "Requests of services that promise something, by whether they kept it.",
        labels=(*_LABELS, "outcome"),
    )
    for (service, kind), seen in (view.promises if view else {}).items():
        for window, part in (("5m", seen.attainment), ("1h", seen.attainment_long)):
            if part is not None:
                attainment.add_metric((service, kind, window), part)
                burn.add_metric((service, kind, window), (1.0 - part) / ALLOWED)
        ended.add_metric((service, kind, "kept"), seen.kept)
        ended.add_metric((service, kind, "missed"), seen.missed)
    yield from (attainment, burn, ended)
    yield from _outlook_families(plan)


def _outlook_families(plan: Plan | None) -> Iterator[Metric]:
    limit = GaugeMetricFamily(
        "cats_service_slo_limit_seconds", "What is promised to 99 of 100 requests.", labels=_LABELS
    )
    predicted = GaugeMetricFamily(
        "cats_service_slo_predicted_seconds",
        "Time within which 99 of 100 requests will be, by the plan.",
        labels=_LABELS,
    )
    charge = GaugeMetricFamily(
        "cats_service_slo_charge_seconds",
        "What the plan charges a late answer, in weighted seconds; 0 while the promise does not"
        " bind.",
        labels=_LABELS,
    )
    for key, each in (plan.promises if plan else {}).items():
        limit.add_metric(key, each.limit)
        charge.add_metric(key, each.charge)
        if each.predicted is not None:
            predicted.add_metric(key, each.predicted)
    yield from (limit, predicted, charge)
