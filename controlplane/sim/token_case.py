"""Prompts of very different length on the same engines: what classes by length are worth."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from controlplane.config import Match
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.fleets import Kind, Place, build_config
from controlplane.sim.suite import Case, Measure, ratio
from controlplane.sim.trial import Trial, Window
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Stream, Work, read_trace

SITES, LOAD = 4, 0.7
LONG = 1500.0
"""Tokens of a prompt that is of the class of long ones."""
_WINDOW: Window = ("steady", 60.0, 360.0)
_RECORDED = ("azure-conversation", "azure-code")


def token_cases() -> list[Case]:
    """Return the cases: recorded conversations and code, mixed, as they came and one by one."""
    return [
        Case(
            f"tokens, {words}",
            partial(_trial, independent=not recorded),
            ("controlplane", "controlplane@one-class", "length_oracle"),
            (
                Measure(
                    "p99 to first token / one class",
                    0.75,
                    ratio("steady", "first_p99", "controlplane@one-class"),
                ),
                Measure(
                    "p99 to first token / oracle",
                    1.15,
                    ratio("steady", "first_p99", "length_oracle"),
                ),
            ),
            most_seeds=5,
            worlds={"one-class": join_classes},
        )
        for words, recorded in (("as recorded", True), ("independent", False))
    ]


def _trial(seed: int, _shorter: bool, *, independent: bool) -> Trial:
    fleet = draw_token_fleet(seed, independent=independent)
    return Trial("tokens", fleet, _WINDOW[2], (_WINDOW,))


def draw_token_fleet(seed: int, *, load: float = LOAD, independent: bool = False) -> Fleet:
    """Draw four sites of two engines that read prompts alone, and clients with two classes.

    Args:
        seed: of engines, paths and where in the traces clients begin.
        load: fraction of what the engines sustain.
        independent: whether requests come one by one, with lengths drawn from the traces.
    """
    rng = np.random.default_rng((seed, 31))
    places = [
        Place(f"site-{site}-{letter}", f"site-{site}", _draw_engine(rng), f"region-{site}")
        for site in range(SITES)
        for letter in "ab"
    ]
    traces = [read_trace(name) for name in _RECORDED]
    mean = Work(
        prompt=float(np.mean([trace["prompt"].mean() for trace in traces])),
        output=float(np.mean([trace["output"].mean() for trace in traces])),
    )
    total = load * sum(p.engine.capacity(0.0, mean.prompt, mean.output) for p in places)
    alone = float(np.mean([p.engine.alone(0.0, mean.prompt, mean.output) for p in places]))
    rtt = {
        ("clients", f"site-{site}"): 0.004 + 0.040 * float(rng.random()) for site in range(SITES)
    }
    streams = []
    for source, name in enumerate(_RECORDED):
        drawn = Stream(
            "clients",
            "short",
            total / len(_RECORDED),
            work=replace(mean, mean=alone),
            trace=name,
            independent=independent,
            source=source,
        )
        streams += [
            replace(drawn, lengths=(0.0, LONG)),
            replace(drawn, service="long", lengths=(LONG, np.inf)),
        ]
    config = build_config(places, rtt, services=(Kind("short"), Kind("long")), work=alone)
    path = "/v1/chat/completions"
    classes = (
        Match(path=path),
        # English has about four characters a token.
        Match.model_validate({"path": path, "body_size": {"least": f"{4 * LONG:.0f}B"}}),
    )
    services = tuple(
        service.model_copy(update={"match": (match,)})
        for service, match in zip(config.services, classes, strict=True)
    )
    return Fleet(
        "tokens",
        config.model_copy(update={"services": services}),
        {place.name: place.engine for place in places},
        tuple(streams),
        rtt,
        sidecars=4,
        mean_work=alone,
    )


def join_classes(trial: Trial) -> Trial:
    """Return the same requests as those of one service."""
    fleet = trial.fleet
    services = tuple(item for item in fleet.config.services if item.name == "short")
    streams = tuple(replace(stream, service="short") for stream in fleet.streams)
    config = fleet.config.model_copy(update={"services": services})
    return replace(trial, fleet=replace(fleet, config=config, streams=streams))


def _draw_engine(rng: np.random.Generator) -> EngineSpec:
    slots, speed = int(rng.choice((16, 32, 64))), float(rng.uniform(0.7, 1.6))
    return EngineSpec(slots, speed, 0.02, kind="tokens", kv_tokens=400_000)
