"""Adapters in the simulator: engines that hold a few of them, and homes that save loadings."""

from __future__ import annotations

from controlplane.sim.adapter_case import draw_adapter_fleet
from controlplane.sim.run import run_trial
from controlplane.sim.trial import Trial


def test_homes_save_loadings() -> None:
    """Forty adapters on three instances with room for eight each: the suite's case, smaller."""
    fleet = draw_adapter_fleet(1, adapters=40, instances=3, rate=15.0)
    trial = Trial("small", fleet, 60.0, (("all", 20.0, 60.0),))
    runs = {policy: run_trial(trial, policy, seed=1) for policy in ("controlplane", "random")}
    counts = {policy: run.loadings[59] - run.loadings[20] for policy, run in runs.items()}
    assert runs["random"].windows["all"].failed == 0
    assert counts["random"] > 200
    assert counts["controlplane"] < 0.6 * counts["random"]
