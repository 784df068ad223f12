"""The yardstick's curves fit what engines do, and its optimum is one."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.sim.curves import Curves, optimal_shares


@pytest.mark.parametrize("slowdown", [0.0, 0.1], ids=["queue-like", "batching"])
def test_the_marginal_cost_is_the_slope(slowdown: float) -> None:
    """Also beyond the knee, where the curve goes on as a parabola."""
    loads = np.array([0.05, 0.5, 0.9, 0.949, 0.97, 1.3])
    curves = Curves([8] * 6, [0.5] * 6, [slowdown] * 6)
    rate, step = loads * curves.capacity, 1e-6
    (low, _), (high, _) = curves.total(rate - step), curves.total(rate + step)

    assert (high - low) / (2 * step) == pytest.approx(curves.total(rate)[1], rel=1e-4)


def test_marginal_costs_are_equal_where_shares_are() -> None:
    """At the optimum no client could gain by moving a little."""
    curves = Curves([4, 8, 16], [0.5, 0.3, 0.8], [0.0, 0.0, 0.0])
    rtt = np.array([[0.004, 0.03, 0.05], [0.04, 0.004, 0.05]])
    demand = np.array([10.0, 14.0])
    shares = optimal_shares(demand, rtt, curves)
    marginal = rtt + curves.total(demand @ shares)[1]

    for row, costs in zip(shares, marginal, strict=True):
        used = costs[row > 0.01]
        assert used.max() == pytest.approx(used.min(), rel=0.02)
        assert (costs > used.min() - 0.01).all()
