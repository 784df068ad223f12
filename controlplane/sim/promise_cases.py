"""Cases of promises: kept where cost alone misses them, at what cost, and counted as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controlplane.config import Delay, Slo
from controlplane.sim.fleets import edge_fleet
from controlplane.sim.run import run_trial
from controlplane.sim.suite import Case, Measure, Runs
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet

MISSED_BY = 1.5
"""The 99th percentile without the promise, over what is promised."""
PART = 0.3
"""Of the requests that are the promising service's; the others can wait."""
_STEADY: Window = ("steady", 30.0, 120.0)
_WHOLE: Window = ("whole", 0.0, 120.0)
_PLAIN = "controlplane:unpromised"


def promise_cases() -> list[Case]:
    """Return the cases, each with the limits that were promised for it."""
    return [
        Case(
            f"promise, {kind} at 0.9",
            _promised(batching=kind == "batches"),
            ("controlplane", _PLAIN),
            (
                Measure("p99 / promised", 1.0, _missed),
                Measure("mean latency of all / without", 1.05, _cost),
                Measure("attainment shown, off by", 0.01, _attainment_error, ""),
            ),
            most_seeds=8,  # a percentile of some thousand requests scatters by a tenth
        )
        for kind in ("queues", "batches")
    ]


def _promised(*, batching: bool) -> Callable[[int, bool], Trial]:
    def trial(seed: int, _shorter: bool) -> Trial:
        fleet = _shared(edge_fleet(batching=batching, utilisation=0.9, seed=seed, known=True))
        plain = Trial(fleet.name, fleet, _WHOLE[2], (_STEADY, _WHOLE))
        missed = run_trial(plain, _PLAIN, seed=seed).services["steady", "chat"].p99
        return replace(plain, fleet=_promise(fleet, missed / MISSED_BY))

    return trial


def _shared(fleet: Fleet) -> Fleet:
    """Return *fleet* with a second service, which can wait, on the same instances."""
    chat = fleet.config.services[0]
    batch = chat.model_copy(update={"name": "batch", "delay": Delay.TOLERANT})
    streams = tuple(
        replace(stream, service=name, rate=stream.rate * part)
        for name, part in (("chat", PART), ("batch", 1.0 - PART))
        for stream in fleet.streams
    )
    config = fleet.config.model_copy(update={"services": (chat, batch)})
    return replace(fleet, config=config, streams=streams)


def _promise(fleet: Fleet, limit: float) -> Fleet:
    chat, *rest = fleet.config.services
    slo = Slo.model_construct(ttft=None, latency=limit)
    services = (chat.model_copy(update={"slo": slo}), *rest)
    return replace(fleet, config=fleet.config.model_copy(update={"services": services}))


def _missed(runs: Runs) -> float:
    ours = runs["controlplane"].services["steady", "chat"].p99
    return MISSED_BY * ours / runs[_PLAIN].services["steady", "chat"].p99


def _cost(runs: Runs) -> float:
    ours, plain = (runs[name].windows["steady"].mean for name in ("controlplane", _PLAIN))
    return ours / plain


def _attainment_error(runs: Runs) -> float:
    outcome = runs["controlplane"]
    return abs(outcome.attainment["chat"] - outcome.services["whole", "chat"].kept)
