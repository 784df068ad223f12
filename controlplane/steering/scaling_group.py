"""A group of like instances at one site, as an autoscaler or a batch system sees it."""

from __future__ import annotations

from dataclasses import dataclass

ROOM_PRICE = 2.0
"""Price of work up to which work fits: it delays others by as much as it takes itself."""


@dataclass(frozen=True, slots=True)
class ScalingGroup:
    """The instances of one model at one site, as an autoscaler sees them."""

    site: str
    model: str
    replicas: int
    """That may get requests now."""
    work: float
    """Mean number of requests in progress if none disturbed another: request-seconds a second."""
    utilisation: float
    """Work over what they sustain."""
    gain_least: float
    """Seconds of delay that one more replica would save each second, at least."""
    gain_most: float
    """The same at most: the shadow price of a replica."""
    wanted: int | None
    """Replicas that keep every promise at the work of the last minute; None if no number does."""
    patient: int
    """Replicas with which requests wait no longer than they take, whatever is promised."""
    bound_by: str
    """The service whose promise decides; empty where none is made."""
    room_work: float
    """Work that still fits at `ROOM_PRICE`."""
    room_rate: float
    """The same in requests of ordinary size a second."""
    asleep: int = 0
    """Instances that could be started."""
    starting: bool = False
    """Whether one of these is to be started, or is starting."""
