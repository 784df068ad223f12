"""Time spent inside an instance as a function of its load; knows nothing of fleets or services.

Load is *offered work* w: requests a second times the seconds one request takes when it is alone,
summed over the services of the instance. It is the mean number of requests that would be in
progress if they did not disturb each other, so services of different length add up.

Two shapes of engine are one curve with two parameters, slots B and slowdown b:

* b = 0: a queue with B servers. Mean number inside N = w + rho^sqrt(2(B+1)) / (1 - rho), the
  approximation of Sakasegawa (1977) for M/M/c, with rho = w / B.
* b > 0: a batching engine, where each further request in the batch slows everyone by the share b.
  A request that finds N others takes 1 + b N times as long (arrivals see time averages, and
  processor sharing is insensitive to the distribution of work), so N = w / (1 - b w); capacity
  is B / (1 + b (B - 1)); beyond B requests wait, and the same queueing term is added.

Number and marginal number are convex and increasing. By Little's law a request of work s spends
s N(w) / w, and adds s N'(w) to the total time of everyone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.knots import KNOTS, WIDTHS, Ladders, Places, knot_below

Array = NDArray[np.float64]

KNEE = 0.95
"""Share of capacity beyond which the stationary curve is continued as a straight marginal line:
overload gets a finite, steep price."""

TILT = 1e-3
"""Rise of a tilted price over an instance's capacity, as a part of its lowest price."""

_LEVELS: Array = np.concatenate(
    [np.linspace(0.0, 0.9, 46), 1.0 - np.geomspace(0.1, 0.0005, 50)[1:]]
)
"""Loads, as shares of capacity, between which the inverse curve is interpolated."""


@dataclass(frozen=True, slots=True)
class Curves:
    """The curves of several instances; arrays broadcast against loads of any shape."""

    slots: Array
    """Requests worked on at once, at least 1."""
    slowdown: Array
    """Share by which each further request in the batch slows the others, 0 to below 1."""
    copies: Array | float = 1.0
    """Like instances that stand behind one and share nothing but the load, evenly: a class of
    devices, each of which serves itself. Work, numbers and capacity are those of all together."""

    @property
    def capacity(self) -> Array:
        """Return the most work that can be sustained, in request-seconds a second."""
        capacity: Array = self.copies * self.each
        return capacity

    @property
    def each(self) -> Array:
        """Return the capacity of one of the copies."""
        return self.slots / (1.0 + self.slowdown * (self.slots - 1.0))

    @property
    def exponent(self) -> Array:
        """Return the steepness of the queueing term.

        The factor on Sakasegawa's exponent is fitted to exact birth-death chains with 8 to 64
        slots and slowdowns to 0.2: a batching engine slows down before it queues, so its queue
        grows later. The number inside is within 6 % of the chains up to 90 % load.
        """
        crowd = self.slowdown * self.slots
        steep = np.sqrt(2.0 * (self.slots + 1.0)) * (1.0 + 0.45 * crowd / (1.0 + 0.06 * crowd))
        # Parts of a slot (slow start) would make the curve concave near zero.
        limited: Array = np.maximum(steep, 2.0)
        return limited

    def of(self, own: Places) -> Curves:
        """Return the curves of the instances *own*."""
        copies = self.copies[own] if isinstance(self.copies, np.ndarray) else self.copies
        return Curves(self.slots[own], self.slowdown[own], copies)

    def column(self) -> Curves:
        """Return the same curves shaped to broadcast against (instances, loads)."""
        copies = self.copies[:, None] if isinstance(self.copies, np.ndarray) else self.copies
        return Curves(self.slots[:, None], self.slowdown[:, None], copies)

    def number(self, work: Array) -> Array:
        """Return the mean number inside at offered *work*; finite and convex everywhere."""
        knee = KNEE * self.capacity
        below = self._below(np.minimum(work, knee))
        beyond = np.maximum(work - knee, 0.0)
        number: Array = below.number + below.slope * beyond + 0.5 * below.curvature * beyond**2
        return number

    def marginal(self, work: Array) -> Array:
        """Return the number that one more unit of work adds; increasing, finite."""
        knee = KNEE * self.capacity
        below = self._below(np.minimum(work, knee))
        return below.slope + below.curvature * np.maximum(work - knee, 0.0)

    def pole_marginal(self, work: Array) -> Array:
        """Return the marginal number below capacity, without the straight line past the knee."""
        return self._below(np.minimum(work, 0.9995 * self.capacity)).slope

    def pole_number(self, work: Array) -> Array:
        """Return the number below capacity, without the straight line past the knee."""
        return self._below(np.minimum(work, 0.9995 * self.capacity)).number

    def _below(self, work: Array) -> _Below:
        own = work / self.copies
        rho = own / self.each
        power = self.exponent
        sharing = 1.0 / (1.0 - self.slowdown * own)
        return _Below(self, work, rho, 1.0 - rho, power, rho ** (power - 2.0), sharing)


@dataclass(frozen=True, slots=True)
class _Below:
    """Curves below capacity: the number inside and its derivatives, each made when asked for.

    The queue is q = rho^p / (1 - rho); its logarithmic derivatives give slope and curvature.
    """

    curves: Curves
    work: Array
    rho: Array
    tail: Array
    """1 - rho."""
    power: Array
    base: Array
    """rho^(p - 2)."""
    sharing: Array
    """Factor by which those who share the batch slow a request down."""

    @property
    def number(self) -> Array:
        queue = self.base * self.rho**2 / self.tail
        number: Array = self.work * self.sharing + self.curves.copies * queue
        return number

    @property
    def slope(self) -> Array:
        rho, power = self.rho, self.power
        first = self.base * rho * (power - (power - 1.0) * rho) / self.tail**2
        slope: Array = self.sharing**2 + first / self.curves.each
        return slope

    @property
    def curvature(self) -> Array:
        rho, tail, power = self.rho, self.tail, self.power
        second = (
            self.base
            * (power * (power - 1.0) * tail**2 + 2.0 * power * rho * tail + 2.0 * rho**2)
            / tail**3
        )
        each, slowdown = self.curves.each, self.curves.slowdown
        curvature: Array = 2.0 * slowdown * self.sharing**3 + second / each**2
        return curvature / self.curves.copies


@dataclass(frozen=True, slots=True)
class Levels:
    """The inverse curve of several instances: what load a number of requests inside stands for."""

    capacity: Array
    """(instances, 1)."""
    numbers: Array
    """(instances, levels): mean number inside at each of the tabulated loads."""
    ladders: Ladders
    """The same."""

    @staticmethod
    def of(curves: Curves) -> Levels:
        """Tabulate the inverse of *curves*, whose arrays have shape (instances,)."""
        columns = curves.column()
        numbers = columns.pole_number(_LEVELS[None, :] * columns.capacity)
        return Levels(columns.capacity, numbers, Ladders.of(numbers))

    def load(self, number: Array) -> Array:
        """Return the work at which *number*, shape (instances, m), is the mean number inside."""
        tables = self.numbers
        count = tables.shape[1]
        upper = self.ladders.count(number)
        upper = np.minimum(np.maximum(upper, 1), count - 1)
        flat = tables.ravel()
        upper_at = upper + (np.arange(len(tables)) * count)[:, None]
        high = flat.take(upper_at)
        low = flat.take(upper_at - 1)
        part = np.minimum(np.maximum((number - low) / (high - low), 0.0), 1.0)
        share = _LEVELS[upper - 1] + part * (_LEVELS[upper] - _LEVELS[upper - 1])
        load: Array = share * self.capacity
        return load


@dataclass(frozen=True)
class PriceTable:
    """Increasing marginal costs of work per instance, piecewise linear: all an optimiser needs.

    What follows from the prices is made when asked for: most tables are steps to another one.
    """

    capacity: Array
    """(instances,)."""
    price: Array
    """(instances, knots): marginal cost at `KNOTS` times capacity, in weighted seconds a second
    per unit of work."""

    @staticmethod
    def of(capacity: Array, price: Array) -> PriceTable:
        """Make a table of *price*, shape (instances, knots), made increasing where it is not."""
        return PriceTable(capacity, np.maximum.accumulate(price, axis=1))

    @cached_property
    def value(self) -> Array:
        """Return the integral of the price at each knot, (instances, knots)."""
        areas = 0.5 * (self.price[:, 1:] + self.price[:, :-1]) * self._steps
        start = np.zeros((len(self.capacity), 1))
        return np.concatenate([start, np.cumsum(areas, axis=1)], axis=1)

    @cached_property
    def steepness(self) -> Array:
        """Return the slope at each knot, smoothed: a Newton step sees past the next knot."""
        slopes = np.diff(self.price, axis=1) / self._steps
        ends = np.pad(slopes, ((0, 0), (1, 1)), mode="edge")
        steepness: Array = 0.5 * (ends[:, 1:] + ends[:, :-1])
        return steepness

    @property
    def _steps(self) -> Array:
        steps: Array = WIDTHS[None, :] * self.capacity[:, None]
        return steps

    @cached_property
    def _ladders(self) -> Ladders:
        return Ladders.of(self.price)

    @staticmethod
    def stationary(curves: Curves) -> PriceTable:
        """Make the table of the long run: the marginal number inside."""
        columns = curves.column()
        loads = KNOTS[None, :] * columns.capacity
        return PriceTable.of(curves.capacity, columns.marginal(loads))

    def tilted(self) -> PriceTable:
        """Return the table with prices that rise everywhere, if only by `TILT`.

        Where prices are flat, shares would be arbitrary; so equal instances share evenly.
        """
        tilt = TILT * np.maximum(self.price[:, :1], 1e-9) * KNOTS
        return PriceTable.of(self.capacity, self.price + tilt)

    def raised(self, toll: Array) -> PriceTable:
        """Return the table with *toll*, (instances,), on the price of every load."""
        return PriceTable.of(self.capacity, self.price + toll[:, None])

    def evaluate(self, work: Array) -> tuple[Array, Array, Array]:
        """Return cost, price and smoothed slope of the price; all arrays are (instances,)."""
        index = knot_below(work / self.capacity)
        rows = np.arange(len(self.capacity))
        low, high = self.price[rows, index], self.price[rows, index + 1]
        width = (KNOTS[index + 1] - KNOTS[index]) * self.capacity
        slope = (high - low) / width
        beyond = work - KNOTS[index] * self.capacity
        part = np.minimum(np.maximum(beyond / width, 0.0), 1.0)
        before, after = self.steepness[rows, index], self.steepness[rows, index + 1]
        # Beyond the last knot the last line goes on.
        return (
            self.value[rows, index] + low * beyond + 0.5 * slope * beyond**2,
            low + slope * beyond,
            before * (1.0 - part) + after * part,
        )

    def prices(self, work: Array) -> Array:
        """Return the price alone, as a search asks for it; *work* is (..., instances)."""
        index = knot_below(work / self.capacity)
        flat, place = self.price.ravel(), np.arange(len(self.capacity)) * len(KNOTS) + index
        low, high = flat.take(place), flat.take(place + 1)
        width = WIDTHS.take(index) * self.capacity
        price: Array = low + (high - low) / width * (work - KNOTS.take(index) * self.capacity)
        return price

    def invert(self, price: Array) -> tuple[Array, Array]:
        """Return the work at which *price*, (instances,), holds, and the price's smoothed slope.

        Below the lowest price the work is 0; where the price is flat, it is any that has it.
        """
        rows = np.arange(len(self.capacity))
        index = self._ladders.count(price[:, None])[:, 0] - 1
        index = np.minimum(np.maximum(index, 0), len(KNOTS) - 2)
        low, high = self.price[rows, index], self.price[rows, index + 1]
        part = np.maximum(price - low, 0.0) / np.maximum(high - low, 1e-12)
        work = (KNOTS[index] + part * (KNOTS[index + 1] - KNOTS[index])) * self.capacity
        near = np.minimum(part, 1.0)
        before, after = self.steepness[rows, index], self.steepness[rows, index + 1]
        return work, before * (1.0 - near) + after * near
