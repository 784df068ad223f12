"""Metrics of the machine, which an exporter may have added to any engine's page.

Names come from the DCGM exporter's and the node exporter's defaults; ``cats_`` names are our own.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Dialect,
    Merge,
    Readiness,
    Rule,
    rule,
)

UTILISATION = (
    Alias("cats_utilisation"),
    Alias("cats_utilization"),
    Alias("DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
    Alias("DCGM_FI_DEV_GPU_UTIL", scale=0.01),
    Alias("node_drm_gpu_busy_percent", scale=0.01),
)
POWER = (Alias("cats_power_watts"), Alias("DCGM_FI_DEV_POWER_USAGE"))
MACHINE = (
    rule(Signal.UTILISATION, *UTILISATION, merge=Merge.MAX),
    rule(Signal.TRAINING, "cats_training_share", "cats_training", merge=Merge.MAX),
    rule(Signal.POWER, *POWER),
    rule(Signal.SLOTS, "cats_slots"),
)


OUR_READINESS = Readiness("cats_ready", "cats_ready is 0")


def dialect(
    rules: Iterable[Rule],
    readiness: tuple[Readiness, ...] = (),
    rank_labels: tuple[str, ...] = (),
    *,
    distinct: bool = True,
) -> Dialect:
    """Return the table of an engine, completed by the machine's metrics."""
    # The engine's own rule first, then ours for machine metrics that an exporter may have added.
    own = tuple(rules)
    covered = {rule.signal for rule in own}
    every = own + tuple(rule for rule in MACHINE if rule.signal not in covered)
    ready = (*readiness, OUR_READINESS)
    names = {alias.name for rule in every for alias in rule.aliases}
    names |= {name for rule in every for alias in rule.aliases for name in alias.also}
    names |= {alias.times for rule in every for alias in rule.aliases if alias.times}
    names |= {name.name for name in ready}
    return Dialect(every, ready, rank_labels, frozenset(names), distinct)
