"""Fleets so large that unchanged rows are not made anew."""

from __future__ import annotations

import numpy as np
import pytest

from controlplane.steering import Plan, Steering, brain
from controlplane.steering.layout import build_layout
from controlplane.steering.problem import MOST_CANDIDATES, _choose, build_network
from testbed.fakes.views import make_config, make_instance, make_service, make_view


def fleet(rate: float) -> Plan:
    """Decide twice, the second time under *rate* times the demand; give the last plan."""
    config = make_config(
        sites=["near", "far", "farther"],
        services=[make_service("chat", service_time="500ms")],
        instances=[
            make_instance("a", "near", slots=4),
            make_instance("b", "far", slots=8),
            make_instance("c", "farther", slots=8),
        ],
    )
    steering = Steering(config)
    for at, demand in ((0.0, 9.0), (1.0, 9.0 * rate)):
        view = make_view(config, at=at, demand={("near", "chat"): demand})
        plan = steering.decide(view)
    return plan


def weights(plan: Plan) -> dict[tuple[str, str], list[tuple[str, int, int]]]:
    """Give what Envoys get."""
    return {
        key: [(a.instance, a.weight, a.priority) for a in assignment.allocations]
        for key, assignment in plan.assignments.items()
    }


@pytest.mark.parametrize("rate", [pytest.param(1.001, id="quiet"), pytest.param(2.0, id="moved")])
def test_a_plan_without_terms_gives_the_same_weights(
    rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that keep their allocations have the weights and spares that making them anew gives."""
    monkeypatch.setattr(brain, "_EXPLAINED", 0)
    kept = fleet(rate)
    monkeypatch.setattr(Steering, "_unchanged", lambda *_: None)

    anew = fleet(rate)

    assert weights(anew) == weights(kept)
    assert anew.version == kept.version
    assert not any(x.why for a in kept.assignments.values() for x in a.allocations)


def test_candidates_stay_while_costs_hardly_move() -> None:
    """Learned paces that waver do not swap candidates, or every cycle would begin from nothing."""
    config = make_config(sites=["near"])
    layout = build_layout(config, ())
    network = build_network(layout, {})
    rng = np.random.default_rng(1)
    cost = rng.uniform(0.5, 1.0, (3, 60))
    chosen = _choose(network, (0, tuple(range(60))), cost)

    wavering = _choose(network, (0, tuple(range(60))), cost + rng.uniform(-0.1, 0.1, cost.shape))
    turned = _choose(network, (0, tuple(range(60))), 2.0 - cost)

    assert (chosen == wavering).all()
    assert (3, MOST_CANDIDATES) == chosen.shape
    dearest = np.sort(cost, axis=1)[:, -MOST_CANDIDATES:]
    assert (dearest == np.sort(np.take_along_axis(cost, turned, axis=1), axis=1)).all()
