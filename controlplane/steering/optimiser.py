"""The mathematics of shares: a convex problem in, shares out; knows no fleet, no names, no time.

Minimise over shares x, each row's entries adding up to one,

    sum_e demand[row] x_e linear_e + sum_i V_i(a_i),   a_i = base_i + sum_e demand[row] x_e work_e

where V_i is the integral of an increasing price of work. The method is mirror descent with the
entropy as mirror (Beck and Teboulle 2003; exponentiated gradient), with three additions that make
it converge in tens of steps from the last solution: every entry's step is divided by how much the
marginal cost would move if its instance's load doubled (a diagonal Newton step), the temperature
falls with the remaining gap, and a step that does not lower the objective is halved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.latency import Array, PriceTable

Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]

CLIP = 4.0
FLOOR = 1e-7
"""Smallest share kept during the descent, from which an entry can rise again."""


_WHOLE = 1.0 - 1e-4
"""Share from which on a row counts as using one instance alone."""

_TINY = 1e-6

_RESIDUAL, _MOST_GRADIENTS = 0.02, 300
"""Part of the residual at which conjugate gradients stop, since steps are halved if need be, and
their iterations at most."""

_FLAT = 1e-9
"""Least slope of a price, so that there is always an answer."""

_LARGE, _MANY = 20_000, 150
"""Entries and instances beyond which prices are foreseen by conjugate gradients."""

_FRACTIONS: Array = np.linspace(0.0, 1.0, 17)[1:]
"""Parts of a step at which a line search looks at once."""


def _no_indices() -> Indices:
    return np.zeros(0, dtype=np.intp)


def _no_values() -> Array:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Limits on sums of shares within rows: one group is some entries of one row."""

    entry: Indices = field(default_factory=_no_indices)
    """(members,): entries, grouped."""
    group: Indices = field(default_factory=_no_indices)
    """(members,): the group of each, ascending."""
    low: Array = field(default_factory=_no_values)
    """(groups,)."""
    high: Array = field(default_factory=_no_values)
    """(groups,)."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """Limits on weighted sums of instances' work: power budgets of sites, rate limits."""

    weight: Array = field(default_factory=lambda: np.zeros((0, 0)))
    """(budgets, instances): watts per unit of work."""
    limit: Array = field(default_factory=_no_values)
    """(budgets,): watts."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Who may send where at what fixed cost. Entries are sorted by row; every row has one."""

    demand: Array
    """(rows,): requests a second, positive."""
    row: Indices
    """(entries,)."""
    column: Indices
    """(entries,): the instance."""
    linear: Array
    """(entries,): weighted seconds a request costs before it reaches the instance."""
    work: Array
    """(entries,): seconds of the instance that a request takes."""
    base: Array
    """(instances,): work that is there whatever is decided."""
    bounds: Bounds = Bounds()
    budgets: Budgets = Budgets()

    @property
    def starts(self) -> Indices:
        """Return the first entry of each row."""
        return np.searchsorted(self.row, np.arange(len(self.demand))).astype(np.intp)

    @property
    def limited(self) -> Flags:
        """Report the entries of rows with bounds: nothing is added to these for other reasons."""
        rows = np.zeros(len(self.demand), dtype=bool)
        rows[self.row[self.bounds.entry]] = True
        limited: Flags = rows[self.row]
        return limited

    def load(self, shares: Array) -> Array:
        """Return the work that *shares* put on each instance."""
        flow = self.demand[self.row] * shares * self.work
        return self.base + np.bincount(self.column, weights=flow, minlength=len(self.base))

    def marginal(self, price: Array) -> Array:
        """Return what one more request of each entry costs at the instances' *price* of work."""
        return self.linear + self.work * price[self.column]

    def paid(self, shares: Array, prices: PriceTable) -> Array:
        """Give, for each entry, what a request of its row costs at *shares*."""
        marginal = self.marginal(prices.evaluate(self.load(shares))[1])
        paid: Array = np.add.reduceat(shares * marginal, self.starts)[self.row]
        return paid

    def cost(self, shares: Array, prices: PriceTable) -> float:
        """Return the objective at *shares*."""
        travel = float(np.dot(self.demand[self.row] * shares, self.linear))
        return travel + float(prices.evaluate(self.load(shares))[0].sum())


@dataclass(frozen=True, slots=True)
class Solution:
    """Shares and how good they are."""

    shares: Array
    """(entries,)."""
    cost: float
    gap: float
    """Most that could still be gained, as a share of the cost (Frank-Wolfe gap; ignores bounds)."""
    iterations: int
    multipliers: Array
    """(budgets,): price of a watt, weighted seconds a second."""


def uniform(flow: Flow) -> Array:
    """Return the shares that treat all of a row's entries alike."""
    counts = np.bincount(flow.row, minlength=len(flow.demand))
    return 1.0 / counts[flow.row]


def solve(
    flow: Flow,
    prices: PriceTable,
    *,
    start: Array | None = None,
    tolerance: float = 1e-4,
    most_iterations: int = 200,
) -> Solution:
    """Minimise the cost of *flow* under *prices*, from *start* if there is one.

    Stops when the duality gap is below *tolerance* of the cost, or steps gain nothing more.
    """
    descent = _Descent(flow, prices)
    shares = descent.project(uniform(flow) if start is None else start)
    budgets = flow.budgets
    if not len(budgets.limit):
        shares, gap, iterations = descent.run(shares, tolerance, most_iterations)
        return Solution(shares, flow.cost(shares, prices), gap, iterations, _no_values())
    # Augmented Lagrangian (Hestenes 1969).
    price = np.zeros(len(budgets.limit))
    scale = max(flow.cost(shares, prices), 1e-9)
    descent.stiffness = 20.0 * scale / budgets.limit**2
    total = 0
    gap = np.inf
    for _ in range(12):
        descent.multipliers = price
        shares, gap, iterations = descent.run(shares, tolerance, most_iterations // 2)
        total += iterations
        excess = budgets.weight @ flow.load(shares) - budgets.limit
        renewed = np.maximum(price + descent.stiffness * excess, 0.0)
        settled = bool(np.all(excess <= 1e-3 * budgets.limit))
        still = np.abs(renewed - price) <= 1e-2 * np.maximum(price, scale / budgets.limit * 1e-3)
        price = renewed
        if settled and bool(np.all(still)):
            break
    return Solution(shares, flow.cost(shares, prices), gap, total, price)


def conjugate_gradients(
    apply: Callable[[Array], Array], diagonal: Array, *, give: Array, aim: Array
) -> Array:
    """Solve (D + M) p = *aim* for symmetric M, not negative (Hestenes and Stiefel 1952).

    Args:
        apply: the product with M.
        diagonal: (n,): of M, for the preconditioner.
        give: (n,): the diagonal D, positive.
        aim: (n,).
    """
    scale = 1.0 / (give + np.maximum(diagonal, 0.0))
    found: Array = np.zeros(len(aim))
    rest: Array = aim.copy()
    along: Array = scale * rest
    size = float(np.dot(rest, along))
    enough = _RESIDUAL * float(np.abs(aim).sum())
    for _ in range(_MOST_GRADIENTS):
        if float(np.abs(rest).sum()) <= enough:
            break
        moved = give * along + apply(along)
        length = size / float(np.dot(along, moved))
        found += length * along
        rest -= length * moved
        ready: Array = scale * rest
        last, size = size, float(np.dot(rest, ready))
        along = ready + size / last * along
    return found


@dataclass(frozen=True, slots=True)
class Response:
    """How the instances' work answers their prices, times the temperature.

    M = sum over rows of demand (diag(x s s) - x s (x s)^T): what a unit of price on one instance
    moves to each other one.
    """

    row: Indices
    """(terms,): of entries that answer; a row that uses one instance alone does not."""
    column: Indices
    matter: Array
    """(terms,): work times share, times the root of the row's demand."""
    own: Array
    """(instances,): the diagonal's first part."""
    rows: int
    dense: Array | None
    """(instances, instances): the whole matrix, where it is small."""

    @staticmethod
    def of(flow: Flow, shares: Array, starts: Indices, *, dense: bool) -> Response:
        """Return the response at *shares*; as a matrix if *dense*."""
        count = len(flow.base)
        split = np.maximum.reduceat(shares, starts) < _WHOLE
        place = np.cumsum(split) - 1
        entry = np.flatnonzero(split[flow.row] & (shares > _TINY))
        row, column = place[flow.row[entry]], flow.column[entry]
        amount = flow.demand[flow.row[entry]]
        matter = flow.work[entry] * shares[entry]
        answer = amount * matter * flow.work[entry]
        own = np.bincount(column, answer, count).astype(np.float64)
        matter = matter * np.sqrt(amount)
        rows = int(np.count_nonzero(split))
        matrix: Array | None = None
        if dense:
            each = np.zeros((rows, count))
            each[row, column] = matter
            matrix = np.zeros((count, count))
            matrix[np.diag_indices(count)] = own
            matrix -= each.T @ each
        return Response(row, column, matter, own, rows, matrix)

    def foresee(self, price: Array, stiff: Array, shift: Array) -> Array:
        """Return the prices after a step, if curves were parabolas: (1 + H M) p = p0 - H C.

        All are (instances,): *stiff* is H, the curvature over the temperature; *shift* is C.
        """
        if self.dense is not None:
            aim = price - stiff * shift
            system = np.eye(len(price)) + stiff[:, None] * self.dense
            return np.linalg.solve(system, aim).astype(np.float64)
        squares = np.bincount(self.column, self.matter**2, len(price)).astype(np.float64)
        step = conjugate_gradients(
            self.apply,
            self.own - squares,
            give=1.0 / np.maximum(stiff, _FLAT),
            aim=-(shift + self.apply(price)),
        )
        foreseen: Array = price + step
        return foreseen

    def apply(self, price: Array) -> Array:
        """Return M times *price*."""
        mean = np.bincount(self.row, self.matter * price[self.column], self.rows)
        together = np.bincount(self.column, self.matter * mean[self.row], len(price))
        applied: Array = self.own * price - together
        return applied


class _Descent:
    """One run of the descent; holds what stays the same between steps."""

    def __init__(self, flow: Flow, prices: PriceTable) -> None:
        self.flow = flow
        self.prices = prices
        self.starts = flow.starts
        self.amount = flow.demand[flow.row]
        self.multipliers = np.zeros(len(flow.budgets.limit))
        self.stiffness = np.zeros(len(flow.budgets.limit))
        self.large = len(flow.row) > _LARGE or len(flow.base) > _MANY
        self.renewal = 2 if self.large else 1

    def run(
        self, shares: Array, tolerance: float, most_iterations: int
    ) -> tuple[Array, float, int]:
        """Descend from *shares*; give the shares, the relative gap and the steps taken."""
        flow, row, column, work = self.flow, self.flow.row, self.flow.column, self.flow.work
        load = flow.load(shares)
        travel = float(np.dot(self.amount * shares, flow.linear))
        value, price, curvature = self.evaluate(load, travel)
        warmth = 0.5
        gap = np.inf
        total_demand = float(flow.demand.sum())
        flat = 0
        response: Response | None = None
        for iteration in range(most_iterations):
            gradient = flow.marginal(price)
            best = np.minimum.reduceat(gradient, self.starts)
            regret = shares * (gradient - best[row]) * self.amount
            gap = float(regret.sum()) / max(abs(value), 1e-12)
            if gap < tolerance:
                return shares, gap, iteration
            temperature = max(warmth * gap * abs(value) / total_demand, 1e-9)
            if response is None or iteration % self.renewal == 0:
                response = Response.of(flow, shares, self.starts, dense=not self.large)
            mean = np.add.reduceat(shares * flow.linear, self.starts)
            apart = self.amount * work * shares * (flow.linear - mean[row])
            shift: Array = np.bincount(column, apart, len(price)).astype(float)
            foreseen = response.foresee(price, curvature / temperature, shift)
            push = -(flow.linear + work * foreseen[column]) / temperature
            push -= np.add.reduceat(shares * push, self.starts)[row]
            aim = self.project(shares * np.exp(np.clip(push, -CLIP, CLIP)))
            # Loads and travel are linear in the shares, so a step's follow from its aim's.
            step = flow.load(aim) - load
            further = float(np.dot(self.amount * aim, flow.linear)) - travel
            length = self.search(load, step, further)
            shares = shares + length * (aim - shares)
            load = load + length * step
            travel += length * further
            before = value
            value, price, curvature = self.evaluate(load, travel)
            if length < 0.4:
                warmth = min(4.0 * warmth, 1e4)
            elif length > 0.9:
                warmth = max(0.5 * warmth, 0.02)
            gained = before - value > 1e-2 * tolerance * abs(value)
            flat = 0 if gained else flat + 1
            if flat >= 3 and (length > 0.4 or flat >= 8):
                return shares, gap, iteration
        return shares, gap, most_iterations

    def search(self, start: Array, step: Array, travel: float) -> float:
        """Return the part of a *step* of the loads from *start* at which the cost is least.

        The cost is convex on the way and depends on it through the instances' loads and the
        *travel* alone, so looking for the sign of its slope at many points at once costs next to
        nothing.
        """
        low, width = 0.0, 1.0
        for _ in range(3):
            points = low + width * _FRACTIONS
            rising = self.slopes(start + points[:, None] * step, step, travel) > 0.0
            if not rising.any():
                return low + width
            width /= len(_FRACTIONS)
            low += width * int(rising.argmax())
        return low

    def slopes(self, loads: Array, step: Array, travel: float) -> Array:
        """Return the slope of the cost at each of *loads*, (points, instances), along *step*."""
        slopes: Array = travel + (self.prices.prices(loads) + self.watts(loads)) @ step
        return slopes

    def evaluate(self, load: Array, travel: float) -> tuple[float, Array, Array]:
        """Return the cost, each instance's price of work, and the slope of that price."""
        flow = self.flow
        costs, price, slope = self.prices.evaluate(load)
        value = travel + float(costs.sum())
        if len(flow.budgets.limit):
            use = flow.budgets.weight @ load - flow.budgets.limit
            active = np.maximum(self.multipliers + self.stiffness * use, 0.0)
            value += float(((active**2 - self.multipliers**2) / (2 * self.stiffness)).sum())
            price = price + active @ flow.budgets.weight
            slope = slope + ((active > 0) * self.stiffness) @ flow.budgets.weight**2
        return value, price, slope

    def watts(self, load: Array) -> Array | float:
        """Return what the budgets add to each instance's price of work at *load*."""
        budgets = self.flow.budgets
        if not len(budgets.limit):
            return 0.0
        use = load @ budgets.weight.T - budgets.limit
        price: Array = np.maximum(self.multipliers + self.stiffness * use, 0.0) @ budgets.weight
        return price

    def project(self, shares: Array) -> Array:
        """Scale *shares* to sum to one per row within the bounds (projection in entropy)."""
        row, bounds = self.flow.row, self.flow.bounds
        shares = np.maximum(shares, FLOOR)
        shares = shares / np.add.reduceat(shares, self.starts)[row]
        if not len(bounds.entry):
            return shares
        groups = len(bounds.low)
        for _ in range(30):
            sums = np.bincount(bounds.group, weights=shares[bounds.entry], minlength=groups)
            target = np.clip(sums, bounds.low, bounds.high)
            wrong = np.abs(target - sums) > 1e-9
            if not wrong.any():
                break
            factor = np.where(wrong, target / np.maximum(sums, FLOOR), 1.0)
            np.multiply.at(shares, bounds.entry, factor[bounds.group])
            # What was taken or given is made good by the row's entries outside bound groups.
            bound = np.zeros(len(shares), dtype=bool)
            tight = wrong | (sums <= bounds.low + 1e-9) | (sums >= bounds.high - 1e-9)
            bound[bounds.entry[tight[bounds.group]]] = True
            held = np.add.reduceat(np.where(bound, shares, 0.0), self.starts)
            free = np.add.reduceat(np.where(bound, 0.0, shares), self.starts)
            scale = np.where(free > FLOOR, (1.0 - held) / np.maximum(free, FLOOR), 1.0)
            scale = np.maximum(scale, 0.0)
            shares = np.where(bound, shares, shares * scale[row])
        return shares / np.add.reduceat(shares, self.starts)[row]
