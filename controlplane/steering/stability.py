"""When to push, and when to go slow.

* **Hysteresis by predicted gain**: the shares in use are evaluated on the new problem, and stay
  unless the new ones are better by ``steering.min_gain``, or an instance in use may no longer be
  used, or a row has no shares yet. Charges that no shares avoid are no part of the cost here:
  they would make every gain look small.
* **Oscillation**: pushes that undo the one before them. While the moves of load keep changing
  sign, only half of each move is made.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.optimiser import Flags, Flow

LONGEST = 3.0
"""Periods that shares are expected to be used, at most: queues do not last longer."""

QUIET, BUSY = 0.7, 0.85
"""Loads up to which queues pass by themselves, and from which they last for many periods."""

SETTLED, MOVED, TIE = 30.0, 0.1, 1e-3
"""Seconds without a push, under one leader, after which shares that are as good may replace those
in use, the part of the requests that they must move, and the part of the cost by which they may be
worse. Where it makes no difference to latency, equal instances get equal shares in the end. Of few
instances each is a good part of what there is: a move that spreads their load needs a gain that
falls in proportion until then, so that what first requests got wrong is soon corrected."""

RELIEF = 0.05
"""Gain by which what a move needs falls at most: all of the default, and no more than a part of
what operators asked for who want weights to move less often."""

FEW, SPREAD = 8, 0.9
"""Instances that are few, and the part of the sum of squared loads that a spread leaves at most."""

GREAT = 0.2
"""Gain that is a change of the fleet, not of its queues."""

_GAPS = 4
"""Pushes whose distance says how long shares are used."""

LEAST_MOVE = 0.03
"""Part of a row's requests that a rule has to move for its shares to be pushed: what is learned
of capacities never stands quite still."""

OFF_BOUNDS = 5e-3
"""Distance of a sum of shares from a bound that rounding and probes explain."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which shares to use."""

    shares: Array
    held: bool
    """True when the shares in use stay."""
    gain: float
    """Predicted gain of the new shares, as a part of the cost that shares can change."""


class Hysteresis:
    """Chooses between the shares in use and new ones; detects oscillation."""

    def __init__(self) -> None:
        self._last_move: Array | None = None
        self._turns = 0.0
        self._gaps: deque[float] = deque(maxlen=_GAPS)
        self._pushed_at: float | None = None
        self._rests_from: float | None = None
        self._resumed = False
        self._followed: tuple[str, float, tuple[float, ...]] | None = None
        self.reversals = 0
        """Pushes that undid the one before."""

    @property
    def oscillating(self) -> bool:
        """Return whether the latest pushes mostly undid each other."""
        return self._turns > 3.0

    def lifetime(self, now: float, period: float, *, load: float) -> float:
        """Return the seconds that shares decided at *now* will be used, by those before them.

        Shares that stay for a while should be good for that long: what the queues of this instant
        ask for, the next instant takes back, and a push for it serves no one. Near capacity it is
        otherwise: there queues last, and are what counts. *load* is that of the fleet, as a part
        of its capacity.
        """
        longest = 1.0 + calmness(load) * (LONGEST - 1.0)
        if self._pushed_at is None:
            return longest * period if self._resumed else period
        gaps = [*self._gaps, now - self._pushed_at]
        return min(max(sum(gaps) / len(gaps), period), longest * period)

    def resume(self) -> None:
        """Continue from shares of an earlier run, which have been in use for an unknown time."""
        self._resumed = True

    def follow(self, version: str, *, now: float) -> None:
        """Continue from shares that another process pushed; count its pushes, not one's own.

        A follower decides in order to learn. What it would have pushed, nothing received; counting
        it would have a new leader take shares that have long been in use for the news of a period,
        and move them.
        """
        if self._followed is None:
            self._followed = (version, now, ())
        elif version != self._followed[0]:
            _, before, gaps = self._followed
            self._followed = (version, now, (*gaps, now - before)[-_GAPS:])
        _, self._pushed_at, gaps = self._followed
        self._gaps = deque(gaps, maxlen=_GAPS)
        self._last_move, self._turns, self._rests_from = None, 0.0, now

    def settled(self, now: float) -> float:
        """Return how far shares have settled, from 0 to 1, where ties between them may be broken.

        They settle under one leader. Its successor has heard the same reports, but learned from
        them at other instants: what they would move by is no reason to move them at a failover.
        """
        since = now if self._rests_from is None else self._rests_from
        return min((now - since) / SETTLED, 1.0)

    def choose(
        self,
        flow: Flow,
        prices: PriceTable,
        *,
        used: Array,
        new: Array,
        now: float,
        min_gain: float,
        toll: float = 0.0,
        common: float = 0.0,
    ) -> Choice:
        """Choose for the coming period. *used* is 0 in rows that have no shares yet.

        *toll* is what going over to the new shares loses, and *common* the part of the cost that
        all shares have in common (`unavoidable`), both in the unit of the cost.
        """
        if self._rests_from is None:
            self._rests_from = now
        carried = np.add.reduceat(used, flow.starts) if len(used) else used
        if not len(used) or bool((carried < 1.0 - 1e-6).any()):
            # Something in use has gone, or something is new.
            self._last_move = None
            self._push(now, 1.0)
            return Choice(new, held=False, gain=1.0)
        old_cost = flow.cost(used, prices)
        gain = (old_cost - flow.cost(new, prices) - toll) / max(old_cost - common, 1e-12)
        settled = self.settled(now)
        if settled < 1.0 and not (len(flow.base) <= FEW and _spreads(flow, used, new)):
            settled = 0.0
        least = min_gain - settled * (min(min_gain, RELIEF) + TIE)
        if gain < min_gain and not (gain > least and _moves(flow, used, new)):
            return Choice(used, held=True, gain=gain)
        self._watch(flow.load(new) - flow.load(used), rested=self.rested(now))
        self._push(now, gain)
        if self.oscillating:
            new = used + 0.5 * (new - used)
        return Choice(new, held=False, gain=gain)

    def rested(self, now: float) -> float:
        """Return the seconds since the last push; 0 before the first one."""
        return 0.0 if self._pushed_at is None else now - self._pushed_at

    def _push(self, now: float, gain: float) -> None:
        """Note a push; after a great change the ones before it say nothing any more."""
        if gain >= GREAT:
            self._gaps.clear()
        elif self._pushed_at is not None:
            self._gaps.append(now - self._pushed_at)
        self._pushed_at = self._rests_from = now

    def _watch(self, move: Array, *, rested: float) -> None:
        """Note a move of load between instances, and whether it undoes the last one."""
        if rested >= SETTLED:
            # What comes after such a rest is no part of an oscillation: to go half of the way
            # then would leave an instance that recovered at half of its share.
            self._turns = 0.0
        last = self._last_move
        self._last_move = move
        if last is None or last.shape != move.shape:
            return
        size = float(np.linalg.norm(last) * np.linalg.norm(move))
        if size <= 0:
            return
        likeness = float(np.dot(last, move)) / size
        undone = likeness < -0.5
        self.reversals += undone
        self._turns = 0.8 * self._turns + undone


def calmness(load: float) -> float:
    """Return how far queues pass by themselves at *load*: 1 where they do, 0 near capacity."""
    return min(max((BUSY - load) / (BUSY - QUIET), 0.0), 1.0)


def unavoidable(flow: Flow, charges: Array) -> float:
    """Return what all shares pay of *charges*, (entries,), weighted seconds for each request.

    Each row pays the least of its entries at least.
    """
    if not len(charges):
        return 0.0
    least = np.maximum(np.minimum.reduceat(charges, flow.starts), 0.0)
    return float(np.dot(flow.demand, least))


def _moves(flow: Flow, used: Array, new: Array) -> bool:
    """Return whether *new* shares send a good part of all requests elsewhere."""
    moved = 0.5 * float(np.dot(flow.demand[flow.row], np.abs(new - used)))
    return moved >= MOVED * float(flow.demand.sum())


def _spreads(flow: Flow, used: Array, new: Array) -> bool:
    """Return whether *new* shares spread load over instances that those in use leave out."""
    before, after = flow.load(used), flow.load(new)
    return float(after @ after) <= SPREAD * float(before @ before)


def forced_rows(flow: Flow, used: Array) -> Flags:
    """Report the rows whose shares in use cannot stay, (rows,).

    Something that they use has gone, or their sums are out of the bounds that operators set.
    """
    carried = np.add.reduceat(used, flow.starts) if len(used) else used
    forced: Flags = carried < 1.0 - 1e-6
    bounds = flow.bounds
    if len(bounds.entry):
        sums = np.bincount(bounds.group, used[bounds.entry], len(bounds.low))
        out = (sums < bounds.low - OFF_BOUNDS) | (sums > bounds.high + OFF_BOUNDS)
        forced[flow.row[bounds.entry[out[bounds.group]]]] = True
    return forced


def settle(flow: Flow, *, used: Array, new: Array) -> Array:
    """Return the shares of a rule, which weighs no gain: rows that would hardly change stay.

    All are (entries,); *used* is 0 in rows that have no shares yet.
    """
    if not len(used):
        return new
    moved = 0.5 * np.add.reduceat(np.abs(new - used), flow.starts)
    return np.where((moved < LEAST_MOVE)[flow.row], used, new)
