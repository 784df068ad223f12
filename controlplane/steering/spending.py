"""What each service's requests cost in money and carbon at the shares of a decision."""

from __future__ import annotations

import numpy as np

from controlplane.steering.decision import Decision
from controlplane.steering.latency import Array
from controlplane.steering.plan import Spending


def predict_spending(decision: Decision) -> dict[str, Spending]:
    """Return what requests cost besides time, by service; those that nothing serves are absent."""
    problem = decision.problem
    flow, money, services = problem.flow, problem.money, problem.layout.services
    service = problem.service_of[flow.row]
    amount = flow.demand[flow.row] * decision.shares

    def mean(each: Array) -> Array:
        total = np.bincount(service, amount * each[service, flow.column], len(services))
        found: Array = total / np.maximum(rate, np.finfo(float).tiny)
        return found

    rate = np.bincount(service, amount, len(services)).astype(np.float64)
    spent, grams = mean(money.spent), mean(money.grams)
    return {
        each.service.name: Spending(float(spent[k]), float(grams[k]), float(rate[k]))
        for k, each in enumerate(services)
        if rate[k] > 0
    }
