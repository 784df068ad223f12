"""The acceptance cases, each a promise of what steering does and in which world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from controlplane.sim.adapter_case import adapter_case
from controlplane.sim.device_case import device_case
from controlplane.sim.figures import change_of, figure_of, goodput_lost, needless_pushes, solve_ms
from controlplane.sim.promise_cases import promise_cases
from controlplane.sim.run import build_trial
from controlplane.sim.scaling_case import scaling_case
from controlplane.sim.scenario import Scenario
from controlplane.sim.session_case import session_case
from controlplane.sim.suite import Case, Measure, against, ratio, value
from controlplane.sim.target_cases import target_cases
from controlplane.sim.tariff_case import tariff_cases
from controlplane.sim.token_case import token_cases
from controlplane.sim.trial import Trial
from controlplane.sim.waking_case import waking_case


def _of(
    scenario: Scenario,
    quick: Scenario | None = None,
    vary: Callable[[Scenario, int], Scenario] | None = None,
) -> Callable[[int, bool], Trial]:
    """Return the trials of a scenario; *vary* changes it with the seed, where events are random."""

    def trial(seed: int, shorter: bool) -> Trial:
        chosen = quick if shorter and quick is not None else scenario
        return build_trial(vary(chosen, seed) if vary is not None else chosen, seed=seed)

    return trial


_WINDOWS = [
    {"name": "steady", "from": "20s", "to": "50s"},
    {"name": "after", "from": "52s", "to": "85s"},
]
_DROP = {"what": "slowdown", "at": "50s", "amount": 0.4, "instances": ["edge-00-a", "edge-01-a"]}


def _edges(kind: str, load: float, **more: Any) -> Scenario:
    document = {
        "name": f"{kind} {load}",
        "fleet": {"kind": kind, "utilisation": load},
        "duration": "85s",
        "windows": _WINDOWS,
        "events": [_DROP],
        **more,
    }
    return Scenario.model_validate(document)


def _single(kind: str, load: float, period: int, duration: int) -> Scenario:
    """Servers of one slot, boards renewed every *period* service times of one second."""
    return Scenario.model_validate(
        {
            "name": f"{kind} T={period}",
            "fleet": {"kind": kind, "utilisation": load},
            "duration": f"{duration}s",
            "period": f"{period}s",
            "windows": [{"name": "all", "from": "40s", "to": f"{duration}s"}],
            "telemetry": {
                "period": f"{period}s",
                "traffic_period": f"{period}s",
                "path_period": "100s",
                "spread": False,
            },
            "steering": {"expiry": f"{max(30, 4 * period)}s"},
        }
    )


_RAMP_STEP = 30


def _ramp() -> Scenario:
    length = _RAMP_STEP
    windows = [
        {"name": f"step-{n}", "from": f"{n * length + 5}s", "to": f"{(n + 1) * length}s"}
        for n in range(8)
    ]
    return Scenario.model_validate(
        {
            "name": "ramp",
            "fleet": {"kind": "ramp"},
            "duration": f"{8 * length}s",
            "windows": windows,
        }
    )


def _with_antagonists(scenario: Scenario, seed: int) -> Scenario:
    """Let other jobs take a part of random edges for a while, again and again."""
    rng = np.random.default_rng((seed, 9))
    events = [
        {
            "what": "slowdown",
            "at": f"{start}s",
            "until": f"{start + 15}s",
            "amount": round(float(rng.uniform(0.6, 0.9)), 3),
            "instances": [f"edge-{edge:02d}-a"],
        }
        for start in range(10, int(scenario.duration), 20)
        for edge in rng.choice(12, 3, replace=False)
    ]
    extended = Scenario.model_validate({"events": events})
    return scenario.model_copy(update={"events": extended.events})


_LATER: dict[str, Any] = {
    "duration": "145s",
    "windows": [
        {"name": "steady", "from": "60s", "to": "110s"},
        {"name": "after", "from": "112s", "to": "145s"},
    ],
    "events": [{**_DROP, "at": "110s"}],
}
"""Where nothing is known for twelve seconds, the queues of that time stand until a minute on."""

_ROBUST: tuple[tuple[str, dict[str, Any]], ...] = (
    ("noise 20%", {"telemetry": {"noise": "20%"}}),
    ("delay 10s", {"telemetry": {"delay": "10s"}, **_LATER}),
    ("loss 30%", {"telemetry": {"loss": "30%"}}),
    ("one liar", {"events": [_DROP, {"what": "lie", "at": "25s", "amount": 0.1,
                                     "instances": ["edge-02-a"]}]}),
    ("silence", {"events": [_DROP, {"what": "silence", "at": "30s", "until": "60s",
                                    "instances": ["edge-03-a", "edge-04-a", "edge-05-a"]}]}),
    ("all silent", {"events": [{"what": "silence", "at": "30s", "envoys": True}]}),
    ("flash crowd", {"events": [{"what": "flash_crowd", "at": "50s", "until": "65s", "amount": 4,
                                 "clients": ["clients-00"]}]}),
    ("training", {"events": [{"what": "training", "at": "50s", "amount": 0.5,
                              "instances": ["edge-00-a", "edge-01-a"]}]}),
    ("death", {"events": [{"what": "death", "at": "50s", "until": "70s",
                           "instances": ["edge-00-a"]}]}),
    ("congestion", {"events": [{"what": "congestion", "at": "50s", "amount": 0.2,
                                "instances": ["edge-00-a", "edge-01-a"]}]}),
    ("power cap", {"events": [{"what": "power_cap", "at": "50s", "amount": 0.7,
                               "instances": ["edge-00-a", "edge-01-a", "edge-02-a"]}]}),
    ("bursty", {"workload": {"burst": {"ratio": 3, "share": "30%", "length": "5s"}}}),
    ("code trace", {"workload": {"trace": "azure-code"}}),
)  # fmt: skip
"""What goes wrong at 0.7 of capacity, each of which must not make us worse than fixed weights."""


def _cases() -> tuple[Case, ...]:
    """Return all cases; long, as it is a list."""
    compared = ("controlplane", "capacity", "oracle")
    cases = []
    for load, mean, p99 in ((0.6, 1.05, 1.25), (0.8, 1.05, 1.25), (0.9, None, 1.35)):
        measures = [*against("steady", "oracle", mean or 9.0, p99)]
        if mean is None:
            measures = measures[1:]
        if load == 0.8:
            measures += [*against("after", "oracle", 9.0, 1.5)[1:]]
            measures += [Measure("median decision", 20.0, solve_ms, "ms")]
        measures += against("steady", "capacity", 1.03, 1.05)
        measures += against("after", "capacity", 1.03, 1.05)
        cases.append(Case(f"queue {load}", _of(_edges("queue", load)), compared, tuple(measures)))
    for load in (0.6, 0.8):
        measures = [*against("steady", "oracle", 1.10, 1.5)]
        measures += [*against("after", "oracle", 9.0, 2.0)[1:]]
        measures += against("steady", "capacity", 1.03, 1.05)
        measures += against("after", "capacity", 1.03, 1.05)
        trial = _of(_edges("batching", load))
        cases.append(Case(f"batching {load}", trial, compared, tuple(measures)))
    cases += _stale_cases()
    cases += target_cases()
    cases.append(adapter_case())
    cases += promise_cases()
    cases.append(device_case())
    cases += tariff_cases()
    cases.append(session_case())
    cases += token_cases()
    cases.append(scaling_case())
    cases.append(waking_case())
    for name, changes in _ROBUST:
        cases.append(
            Case(
                name,
                _of(_edges("queue", 0.7, **changes)),
                ("controlplane", "capacity"),
                (
                    *against("steady", "capacity", 1.03, 1.05),
                    *against("after", "capacity", 1.03, 1.05),
                ),
            )
        )
    cases.append(
        Case(
            "ramp",
            _of(_ramp(), vary=_with_antagonists),
            ("controlplane",),
            (
                Measure("sensitive p99 at 1.03", 5.0, figure_of("step-2", "chat", "p99"), "s"),
                Measure(
                    "sensitive failed at 1.74", 0.05, figure_of("step-7", "chat", "failed"), ""
                ),
                Measure("goodput lost above 1.03", 0.03, goodput_lost, ""),
            ),
        )
    )
    cases.append(
        Case(
            "near site fills",
            _of(_near_site()),
            ("controlplane",),
            (
                Measure("sensitive mean after / before", 1.1, change_of("chat", "mean")),
                Measure("sensitive p99 after / before", 1.1, change_of("chat", "p99")),
            ),
        )
    )
    constant = Scenario.model_validate(
        {"name": "constant", "fleet": {"utilisation": 0.6}, "duration": "615s"}
    )
    cases.append(
        Case(
            "constant load",
            _of(constant, constant.model_copy(update={"duration": 215.0})),
            ("controlplane",),
            (Measure("needless pushes in 10 min", 0.0, needless_pushes, ""),),
            most_seeds=3,
        )
    )
    return tuple(cases)


def _near_site() -> Scenario:
    return Scenario.model_validate(
        {
            "name": "near site fills",
            "fleet": {"kind": "near"},
            "duration": "240s",
            "windows": [
                {"name": "before", "from": "20s", "to": "120s"},
                {"name": "after", "from": "130s", "to": "240s"},
            ],
        }
    )


def _stale_cases() -> list[Case]:
    equal = Case(
        "equal servers, T=1",
        _of(_single("equal", 0.9, 1, 800), _single("equal", 0.9, 1, 400)),
        ("controlplane",),
        (
            Measure("mean", 2.8, value("all", "mean"), "s"),
            Measure("p99", 10.0, value("all", "p99"), "s"),
        ),
    )
    unequal = Case(
        "unequal servers, T=1",
        _of(_single("unequal", 0.85, 1, 800), _single("unequal", 0.85, 1, 400)),
        ("controlplane",),
        (
            Measure("mean", 1.5, value("all", "mean"), "s"),
            Measure("p99", 6.6, value("all", "p99"), "s"),
        ),
    )
    at_ten = Case(
        "unequal servers, T=10",
        _of(_single("unequal", 0.85, 10, 1600)),
        ("controlplane", "headroom", "capacity"),
        (
            Measure("mean / headroom", 1.0, ratio("all", "mean", "headroom")),
            Measure("p99 / headroom", 1.0, ratio("all", "p99", "headroom")),
            Measure("mean / capacity", 1.0, ratio("all", "mean", "capacity")),
            Measure("p99 / capacity", 1.0, ratio("all", "p99", "capacity")),
        ),
    )
    at_fifty = [
        Case(
            f"{kind} servers, T=50",
            _of(_single(kind, load, 50, 2000)),
            ("controlplane", "random"),
            (Measure("mean / random", 1.0, ratio("all", "mean", "random")),),
        )
        for kind, load in (("equal", 0.9), ("unequal", 0.85))
    ]
    return [equal, unequal, at_ten, *at_fifty]


CASES = _cases()
"""Every acceptance case, in the order in which they are reported."""
