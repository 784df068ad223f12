"""Which instances went since the plans were decided that are served and under way. Pure.

A decision knows what went before it saw the fleet. What goes meanwhile is left out of the plan in
service at once, and then of the plan that the older decision comes to, until the next one.
"""

from __future__ import annotations

from controlplane.config.withdrawals import Withdrawn

NOTHING: Withdrawn = frozenset()


class Withdrawals:
    """What is to be left out of the served plan, and of the one under way."""

    def __init__(self) -> None:
        self._seen = NOTHING
        self._meanwhile = NOTHING

    def note(self, pairs: Withdrawn) -> None:
        """Note what went just now."""
        self._meanwhile |= pairs

    def note_known(self, pairs: Withdrawn) -> None:
        """Note what went before the decision that is to begin, which sees it."""
        self._seen |= pairs

    def begin_decision(self) -> None:
        """Note that a decision sees the fleet without all that went so far."""
        self._seen |= self._meanwhile
        self._meanwhile = NOTHING

    def end_decision(self, barred: Withdrawn = NOTHING) -> None:
        """Note that its plan is the served one, of which *barred* is to be left out as well."""
        self._seen = barred

    @property
    def from_served(self) -> Withdrawn:
        """Return what the served plan may still send requests to."""
        return self._seen | self._meanwhile

    @property
    def from_next(self) -> Withdrawn:
        """Return what the plan under way may send requests to."""
        return self._meanwhile
