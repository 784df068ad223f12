"""The cases of promises: the same fleet with and without, and attainment as clients measure it."""

from __future__ import annotations

import pytest

from controlplane.sim.fleets import edge_fleet
from controlplane.sim.promise_cases import _promise, _shared, promise_cases
from controlplane.sim.run import run_trial
from controlplane.sim.trial import Trial


def small(limit: float) -> Trial:
    """Return twenty seconds of a small fleet whose chat promises *limit*."""
    fleet = edge_fleet(batching=True, utilisation=0.6, seed=1, known=True, client_sites=4, edges=3)
    return Trial("small", _promise(_shared(fleet), limit), 20.0, (("whole", 0.0, 20.0),))


@pytest.mark.parametrize("limit", [0.5, 1.0])
def test_attainment_is_what_the_simulated_clients_measure(limit: float) -> None:
    """Within a point, though Envoys report buckets, and the last interval late."""
    outcome = run_trial(small(limit), "controlplane", seed=1)
    kept = outcome.services["whole", "chat"].kept
    assert 0.1 < kept < 1.0
    assert outcome.attainment["chat"] == pytest.approx(kept, abs=0.01)


def test_the_comparison_steers_without_the_promise() -> None:
    """Its configuration has none, so nothing is counted against one."""
    assert not run_trial(small(0.5), "controlplane:unpromised", seed=1).attainment


def test_every_case_compares_with_steering_by_cost_alone() -> None:
    """Queues and batches, each with the cost of the promise and with what is shown of it."""
    names = [(case.name, case.policies[1], len(case.measures)) for case in promise_cases()]
    assert names == [
        ("promise, queues at 0.9", "controlplane:unpromised", 3),
        ("promise, batches at 0.9", "controlplane:unpromised", 3),
    ]
