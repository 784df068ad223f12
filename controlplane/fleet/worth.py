"""How much of what an instance reports counts, beside what Envoys see of it."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.fleet.sources import LOAD, SourceState
from controlplane.fleet.trust import Observation
from controlplane.model import Signal

VANISHED_CONFIDENCE = 0.5
"""Factor on the confidence of an instance that gives less than it gave: its prior counts more,
its weight stays defined."""
BY_ENVOYS = "what Envoys see counts"


def weigh_reports(
    best: SourceState,
    *,
    own: float,
    by_envoys: float,
    contradictions: Sequence[str],
    vanished: Sequence[Signal],
    refuted: tuple[frozenset[Signal], Sequence[str]],
    observed: Observation | None,
) -> tuple[float, frozenset[Signal], str]:
    """Return the confidence in what is known, the signals that do not count, and why.

    Args:
        best: the source that counts most.
        own: confidence by the age of its last report, 0 to 1; below 1 it is late.
        by_envoys: confidence that Envoys' observations deserve.
        contradictions: what sources say against each other, in words.
        vanished: signals that no source gives any more.
        refuted: signals that Envoys have refuted lately, and why.
        observed: what Envoys see; None when they have been silent for long.
    """
    late, reasons = own < 1.0, [*contradictions]
    if vanished:
        own *= VANISHED_CONFIDENCE
        reasons.append(f"it no longer gives {', '.join(vanished)}")
    dropped, doubt = best.disbelieved(observed)
    dropped |= refuted[0]
    doubt = "; ".join(filter(None, (doubt, *refuted[1])))
    if doubt:
        reasons.append(f"{doubt}; {BY_ENVOYS}")
    if not LOAD.isdisjoint(best.report.signals) and late and by_envoys > own:
        # What Envoys see now is better than what the instance said some time ago.
        dropped |= LOAD
        reasons.append(BY_ENVOYS)
    if not best.report.signals:
        own = 0.0
        reasons.append("its reports say nothing of its load")
        if by_envoys:
            reasons.append(BY_ENVOYS)
    elif dropped >= LOAD:
        own = 0.0
    if LOAD.isdisjoint(best.report.signals) or dropped >= LOAD:
        own = max(own, by_envoys)
    return own, dropped, "; ".join(reasons)
