"""Metrics of the machine, which an exporter may have added to any engine's page.

Names come from the DCGM exporter's and the node exporter's defaults; ``cats_`` names are our own.
"""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Alias,
    Dialect,
    Loaded,
    Merge,
    Readiness,
    Rule,
    read_names,
    rule,
)

UTILISATION = (
    Alias("cats_utilisation"),
    Alias("cats_utilization"),
    Alias("DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
    Alias("DCGM_FI_DEV_GPU_UTIL", scale=0.01),
    Alias("node_drm_gpu_busy_percent", scale=0.01),
)
POWER = (Alias("cats_power_watts"), Alias("DCGM_FI_DEV_POWER_USAGE", merge=Merge.DEVICE))
MACHINE = (
    rule(Signal.UTILISATION, *UTILISATION, merge=Merge.MAX),
    rule(
        Signal.MEMORY,
        "cats_memory_use",
        Alias("DCGM_FI_DEV_FB_USED", free="DCGM_FI_DEV_FB_FREE"),
        merge=Merge.MAX,
    ),
    rule(Signal.TRAINING, "cats_training_share", "cats_training", merge=Merge.MAX),
    rule(Signal.POWER, *POWER),
    rule(Signal.SLOTS, "cats_slots"),
)


OUR_READINESS = Readiness("cats_ready", "cats_ready is 0")


def dialect(
    rules: Iterable[Rule],
    readiness: tuple[Readiness, ...] = (),
    *,
    distinct: bool = True,
    marks: tuple[str, ...] = (),
    loaded: Loaded | None = None,
) -> Dialect:
    """Return the table of an engine, completed by the machine's metrics."""
    # The engine's own rule first, then ours for machine metrics that an exporter may have added.
    own = tuple(rules)
    covered = {each.signal for each in own}
    every = own + tuple(each for each in MACHINE if each.signal not in covered)
    ready = (*readiness, OUR_READINESS)
    names = read_names(every, ready) | ({loaded.name} if loaded else set())
    return Dialect(every, ready, names, distinct, marks, loaded)
