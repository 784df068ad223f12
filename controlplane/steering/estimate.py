"""What steering believes of an instance: the value that learning gives and the problem takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """One instance as it is believed to be."""

    slots: float
    """Requests worked on at once."""
    slowdown: float
    """Share by which each further request in the batch slows the others; 0 is a plain queue."""
    pace: float
    """Seconds that a request of ordinary size takes when it is alone."""
    uncertainty: float = 1.0
    """Relative standard error of the pace; 1 means that only the prior is known."""
    hope: float = 1.0
    """The pace that others of its model, or its settings, promise over its own; at most 1."""
    number: float | None = None
    """Requests inside when last seen; None when not known."""
    number_age: float = 0.0
    """Seconds since then."""
    source: str = "prior"
    """Where it comes from, in a word."""

    @property
    def known(self) -> float:
        """Return the part that evidence has in the pace, beside the prior: 0 to 1."""
        return 1.0 - min(self.uncertainty, 1.0) ** 2

    @property
    def capacity(self) -> float:
        """Return the requests a second of ordinary size that it can sustain."""
        return self.slots / (1.0 + self.slowdown * (self.slots - 1.0)) / self.pace
