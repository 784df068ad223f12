"""Figures of a run that the acceptance cases hold a limit to."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from controlplane.sim.suite import Runs


def figure_of(window: str, service: str, figure: str) -> Callable[[Runs], float]:
    """Return the control plane's *figure* of a service in a window."""

    def of(runs: Runs) -> float:
        value: float = getattr(runs["controlplane"].services[window, service], figure)
        return value

    return of


def change_of(service: str, figure: str) -> Callable[[Runs], float]:
    """Return the control plane's *figure* of a service in the later window over the earlier."""
    after, before = (figure_of(window, service, figure) for window in ("after", "before"))
    return lambda runs: after(runs) / before(runs)


def goodput_lost(runs: Runs) -> float:
    """Return the largest loss of goodput above the level at 1.03 of capacity, as a part of it."""
    windows = runs["controlplane"].windows
    base = windows["step-2"].goodput
    return 1 - min(windows[f"step-{n}"].goodput for n in range(3, 8)) / base


def needless_pushes(runs: Runs) -> float:
    """Count pushes after 15 s that were predicted to gain 2 % or less."""
    outcome = runs["controlplane"]
    pushes = zip(outcome.pushes, outcome.gains, strict=True)
    return float(sum(gain <= 0.02 for at, gain in pushes if at > 15))


def solve_ms(runs: Runs) -> float:
    """Return the median milliseconds of a decision, those of the start left out."""
    times = runs["controlplane"].solve_times
    return 1000 * median(times[len(times) // 4 :])
