"""Metrics of what services' requests cost, as families of the page."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from controlplane.steering.plan import Plan


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
