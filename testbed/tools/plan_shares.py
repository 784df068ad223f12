"""The shares that a plan serves, as ``/api/v1/plan`` shows them, and how far they move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

Shares = dict[tuple[str, str, str], tuple[int, float]]
"""(service, client site, instance) -> priority, and share in it."""


def shares(plan: Any) -> Shares:
    """Return where the requests of each client site go, and where they would go instead."""
    return {
        (service, site, item["instance"]): (item["priority"], item["share"])
        for service, of in plan["services"].items()
        for site, items in of["from"].items()
        for item in items
    }


def largest_move(before: Shares, after: Shares) -> float:
    """Return by how much the share of an instance has changed at most.

    A fallback gets nothing; one that is probed instead has moved by what the probe gets.
    """
    moved = 0.0
    for key in before | after:
        (first, share), (then, other) = before.get(key, (0, 0.0)), after.get(key, (0, 0.0))
        if first != then:
            share, other = (share if first == 0 else 0.0), (other if then == 0 else 0.0)
        moved = max(moved, abs(share - other))
    return moved


async def settled_shares(
    plan: Callable[[], Awaitable[Any]], *, quiet: float = 3.0, within: float = 90.0
) -> Shares:
    """Return the shares once they have stayed as they are for *quiet* seconds.

    Raises:
        TimeoutError: they move on for *within* seconds.
    """
    async with asyncio.timeout(within):
        since, settled = time.monotonic(), shares(await plan())
        while time.monotonic() - since < quiet:
            await asyncio.sleep(0.1)
            now = shares(await plan())
            if largest_move(settled, now) > 0.005:
                since, settled = time.monotonic(), now
    return settled
