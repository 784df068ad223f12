"""Cases of fleets that are drawn again in each run: sizes, sparse demand, bursts, tails, calm."""

from __future__ import annotations

from collections.abc import Callable

from controlplane.sim.suite import Case, Measure, Runs, against, ratio
from controlplane.sim.target_fleets import STEADY, draw_fleet, steady, with_drop
from controlplane.sim.trial import Trial, Window
from controlplane.sim.workload import Burst, Stream, Work

_COMPARED = ("controlplane", "capacity", "oracle")
_FIGURES: Window = ("steady", 20.0, 80.0)
_SPARSE: Window = ("steady", 60.0, 240.0)


def target_cases() -> list[Case]:
    """Return the cases with the limits that were promised for each; long, as it is a list."""
    cases = [
        Case(
            f"{size} instances at 0.9",
            _sized(size),
            _COMPARED,
            (
                *against("steady", "oracle", 1.03, 1.25),
                Measure("p99 after / oracle", 1.35, ratio("after", "p99", "oracle")),
                *against("steady", "capacity", 1.03, 1.05),
                *against("after", "capacity", 1.03, 1.05),
            ),
            most_seeds=10 if size <= 100 else 3,
            fresh=True,
        )
        for size in (25, 41, 100, 300)
    ]
    plain = (*against("steady", "oracle", 1.03, 1.25), *against("steady", "capacity", 1.03, 1.05))
    # Small client sites: 180 ask for a tenth of a request a second each, on average.
    sparse = (*against("steady", "oracle", 1.12, 1.25), *against("steady", "capacity", 1.03, 1.05))
    cases += [
        Case("sparse", _drawn(_SPARSE, load=0.03), _COMPARED, sparse, fresh=True),
        Case("sparse, many clients", _many_clients, _COMPARED, sparse, fresh=True),
        Case(
            "bursts x6",
            _drawn(_FIGURES, shape=Stream("", "", 0.0, burst=Burst(6.0, 0.15, 5.0))),
            _COMPARED,
            (
                Measure("p99 steady / oracle", 1.4, ratio("steady", "p99", "oracle")),
                *against("steady", "capacity", 1.03, 1.05),
            ),
            fresh=True,
        ),
        Case(
            "heavy tails",
            _drawn(_FIGURES, work=Work(0.5, sigma=1.5)),
            _COMPARED,
            plain,
            fresh=True,
        ),
        Case(
            "twenty sidecars a site",
            _drawn(_FIGURES, sidecars=20, clients=30),
            _COMPARED,
            plain,
            fresh=True,
        ),
    ]
    cases += [
        Case(
            f"calm at {load}",
            _calm(load),
            (*_COMPARED, "optimum"),
            (
                Measure("pushes a minute after 30 s", 6.0, _pushes_a_minute, ""),
                Measure("pushes undone", 0.0, _undone, ""),
                *plain,
                # Nothing changes, so that the best weights in hindsight are fixed ones.
                *against("steady", "optimum", 1.03, 1.05),
            ),
            most_seeds=3,
            fresh=True,
        )
        for load in (0.3, 0.7)
    ]
    return cases


def _sized(size: int) -> Callable[[int, bool], Trial]:
    # A request of twice the length halves the cost of the largest fleet.
    work = Work(0.5 if size <= 100 else 1.0)
    return lambda seed, _: with_drop(draw_fleet(seed, instances=size, load=0.9, work=work), seed)


def _drawn(
    window: Window,
    *,
    load: float = 0.75,
    clients: int = 60,
    shape: Stream | None = None,
    work: Work | None = None,
    sidecars: int = 1,
) -> Callable[[int, bool], Trial]:
    def trial(seed: int, _shorter: bool) -> Trial:
        fleet = draw_fleet(
            seed, load=load, clients=clients, shape=shape, work=work, sidecars=sidecars
        )
        return steady(fleet, window)

    return trial


def _many_clients(seed: int, _shorter: bool) -> Trial:
    rate = sum(stream.rate for stream in draw_fleet(seed, load=0.03).streams)
    return steady(draw_fleet(seed, load=0.03, clients=max(3, round(rate / 0.1))), _SPARSE)


def _calm(load: float) -> Callable[[int, bool], Trial]:
    """Ten minutes and a half of constant demand; the shorter form is four minutes."""

    def trial(seed: int, shorter: bool) -> Trial:
        name, start, _ = STEADY
        # A longer request makes fewer of them; calm is a matter of time, not of requests.
        fleet = draw_fleet(seed, load=load, work=Work(1.0))
        return steady(fleet, (name, start, 240.0 if shorter else 630.0))

    return trial


def _pushes_a_minute(runs: Runs) -> float:
    outcome = runs["controlplane"]
    late = [at for at in outcome.pushes if at > 30]
    return 60 * len(late) / (float(outcome.arrivals[-1]) - 30)


def _undone(runs: Runs) -> float:
    return float(sum(at > 30 for at in runs["controlplane"].undone))
