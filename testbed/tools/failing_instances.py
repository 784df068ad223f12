"""What one failing instance costs the clients of equal ones, measured."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from testbed.background import running_task
from testbed.fakes.instances import Fault
from testbed.processes.failing_fleets import FailingFleet


@dataclass(frozen=True, slots=True)
class Figures:
    """What a fault cost."""

    sent: int
    lost: int
    """Of those sent while it lasted."""
    share: float
    """Part of the attempts that reached the failing instance after its first five seconds."""
    recovered_after: float
    """Seconds after its end until it had its share again; infinite if it never had."""
    before: float
    """Its share before."""
    slowest: float
    """Seconds of the slowest good answer while it lasted."""
    demand: float
    """What the control plane took for demand while it lasted, over what clients sent."""
    reasons: Mapping[str, int]


async def measure(
    bed: FailingFleet,
    fault: Fault,
    *,
    rate: float,
    stream: bool = False,
    warm_up: float = 20.0,
    seconds: float = 60.0,
    recovery: float = 60.0,
    patience: float = 0.0,
) -> Figures:
    """Let instance ``a`` do *fault* for *seconds* while clients send, then be well again.

    Where *patience* is set, the fault comes as soon as ``a`` has an even share after the warm-up,
    which on a machine with other load takes up to that many seconds.
    """
    failing = bed.instances["a"]
    early = min(5.0, seconds / 2)
    async with running_task(bed.send(rate, stream=stream)):
        await asyncio.sleep(warm_up)
        even = await bed.evens_out("a", within=patience) if patience else None
        began = time.monotonic()
        before = bed.share("a", began - warm_up / 2, began - 1) if even is None else even
        failing.fault = fault
        await asyncio.sleep(early)
        reached, attempts = failing.requests, _attempts(bed)
        demands = await _watch_demand(bed, until=began + seconds)
        reached, attempts = failing.requests - reached, _attempts(bed) - attempts
        ended = time.monotonic()
        failing.fault = None
        recovered = await bed.share_returns("a", since=ended, within=recovery)
    during = [each for each in bed.requests if began <= each.sent_at < ended]
    lost = [each for each in during if not each.well]
    return Figures(
        sent=len(during),
        lost=len(lost),
        share=reached / max(attempts, 1),
        recovered_after=recovered,
        before=before,
        slowest=max((each.seconds for each in during if each.well), default=0.0),
        demand=sum(demands) / max(len(demands), 1) / (len(during) / (ended - began)),
        reasons=Counter(each.why for each in lost),
    )


async def _watch_demand(bed: FailingFleet, *, until: float) -> list[float]:
    """Return the demand that the control plane sees, a second apart, until an instant."""
    seen = []
    while time.monotonic() < until:
        fleet = await bed.plane.get_json("/api/v1/fleet")
        seen += [each["rate"]["value"] for each in fleet["demand"]]
        await asyncio.sleep(min(1.0, max(0.0, until - time.monotonic())))
    return seen


@dataclass(frozen=True, slots=True)
class ClientFigures:
    """What a client that asks for a model that no instance has cost the others."""

    sent: int
    """By the others, while it asked."""
    lost: int
    before: float
    """Share of instance ``a`` before."""
    during: float


async def measure_bad_client(
    bed: FailingFleet, *, rate: float, warm_up: float = 20.0, seconds: float = 60.0
) -> ClientFigures:
    """Let a second client ask as often as the first one for a model that no instance has."""
    other = FailingFleet(bed.plane, bed.envoy, bed.url, bed.instances)
    async with running_task(bed.send(rate)):
        await asyncio.sleep(warm_up)
        began = time.monotonic()
        before = bed.share("a", began - warm_up / 2, began - 1)
        async with running_task(other.send(rate, model="nobody-has-it")):
            await asyncio.sleep(seconds)
        ended = time.monotonic()
    during = [each for each in bed.requests if began <= each.sent_at < ended]
    return ClientFigures(
        sent=len(during),
        lost=sum(not each.well for each in during),
        before=before,
        during=bed.share("a", began, ended),
    )


def _attempts(bed: FailingFleet) -> int:
    return sum(each.requests for each in bed.instances.values())
