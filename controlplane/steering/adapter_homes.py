"""Where models that are loaded when they are asked for have their homes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.latency import Array

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
HEADROOM = 1.3
"""Work that an instance's homes may add up to, as a multiple of its part of the whole."""
FULL = 1.25
"""Work that instances which are shared may get before another one is shared, likewise."""
SMALL = 0.25
"""Part of an instance's work up to which a model has one home, though that be a little more."""
STAY = 1.5
"""How much more another model must be wanted to take a home."""
SETTLED = 0.1
"""Part of an instance's work by which one that is shared may have more than another before a model
moves to that one: there it is mostly loaded again for each request, so that moving costs nothing,
and what is uneven drives requests to where they push out others."""
NEAR = 0.01
"""Seconds of round trip that count as equally far."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be placed; M models, I instances."""

    rates: Array
    """(M,): work a second asked of each."""
    allowed: Flags
    """(M, I): which may hold which."""
    distance: Array
    """(M, I): seconds of round trip from its clients, on average."""
    capacity: Array
    """(I,): work a second; 0 for instances that are not in use."""
    room: Indices
    """(I,): how many each holds at once."""


def choose_shared(wanted: Wanted, previous: Flags) -> Flags:
    """Return the instances, (I,), that those without a place of their own share.

    As few as can serve them; *previous* ones stay while they fit roughly.
    """
    rates = np.sort(wanted.rates)[::-1]
    fair = _fair(wanted)
    usable = wanted.capacity > 0

    def without_place(shared: Flags) -> float:
        return float(rates[int(wanted.room[usable & ~shared].sum()) :].sum())

    shared = np.zeros(len(fair), dtype=bool)
    for instance in np.lexsort((fair, ~previous)).tolist():
        if without_place(shared) <= float(fair[shared].sum()):
            break
        shared[instance] = usable[instance]
    kept = previous & usable
    near = abs(int(shared.sum()) - int(kept.sum())) <= 1 and bool(kept.any())
    return kept if near and without_place(kept) <= FULL * fair[kept].sum() else shared


def place(wanted: Wanted, *, homes: Flags, shared: Flags) -> Flags:
    """Return the homes of each model, (M, I).

    Args:
        wanted: what is to be placed.
        homes: the previous ones, or where engines have them loaded.
        shared: the instances of `choose_shared`.
    """
    fair = _fair(wanted)
    left = HEADROOM * fair
    own = (wanted.capacity > 0) & ~shared
    room = np.where(own, wanted.room, 0)
    chosen = np.zeros_like(homes)
    kept = (homes & own).any(axis=1)
    order = np.argsort(-wanted.rates * np.where(kept, STAY, 1.0), kind="stable")
    smallest = _least_with_place(wanted.rates, room)
    for model in order.tolist():
        rest = float(wanted.rates[model])
        while rest > 0:
            # A model that needs a whole instance would waste the room for all others there.
            usable = np.maximum(left - smallest * np.maximum(room - 1, 0), 0.0)
            able = wanted.allowed[model] & (room > 0) & (usable > 0) & ~chosen[model]
            if not able.any():
                break
            whole = able & ((usable >= rest) | (rest <= SMALL * fair))
            instance = _pick(wanted, model, homes[model], usable, whole if whole.any() else able)
            part = rest if whole[instance] else float(usable[instance])
            chosen[model, instance] = True
            room[instance] -= 1
            left[instance] -= part
            rest -= part
    for model in order.tolist():
        # Places beside large ones stay free above; small ones overdraw an instance but little.
        rate = float(wanted.rates[model])
        able = wanted.allowed[model] & (room > 0) & (rate <= SMALL * fair)
        if not chosen[model].any() and able.any():
            instance = _pick(wanted, model, homes[model], left, able)
            chosen[model, instance] = True
            room[instance] -= 1
            left[instance] -= rate
    load = np.zeros(len(fair))
    for model in order.tolist():
        if chosen[model].any():
            continue
        able = wanted.allowed[model] & (shared if shared.any() else wanted.capacity > 0)
        if not able.any():
            continue
        least = np.where(able, load / np.maximum(fair, 1e-12), np.inf)
        stays = homes[model] & able
        instance = int(np.argmin(np.where(stays, least - SETTLED, least)))
        chosen[model, instance] = True
        load[instance] += wanted.rates[model]
    return chosen


def _least_with_place(rates: Array, room: Indices) -> float:
    """Return the rate of the last model that finds a place of its own, were all alike in size."""
    places = int(room.sum())
    return float(np.sort(rates)[::-1][min(places, len(rates)) - 1]) if places else 0.0


def _fair(wanted: Wanted) -> Array:
    total = float(wanted.capacity.sum())
    fair: Array = wanted.capacity / total * wanted.rates.sum() if total > 0 else wanted.capacity
    return fair


def _pick(wanted: Wanted, model: int, homes: Flags, left: Array, able: Flags) -> int:
    """Return a previous home, else a near instance, else that with the most left."""
    far = np.round(wanted.distance[model] / NEAR)
    return int(np.lexsort((-left, far, ~homes, ~able))[0])
