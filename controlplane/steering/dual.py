"""The optimum of a large fleet by its dual: one price of work an instance, not one share a pair.

For prices p of work, each row's requests go where they cost least, and every instance offers the
load at which its own price is p. The prices at which the two agree are the optimum's. They
maximise the dual, a concave function of as many unknowns as there are instances:

    D(p) = sum_r demand_r min_e (linear_e + work_e p_i) - sum_i V_i*(p_i)

V* being the conjugate of the cost of work. The minimum is made smooth by an entropy with a small
temperature (Nesterov 2005), which also splits ties, and D is maximised by Newton steps, solved by
conjugate gradients, while the temperature falls (path following). Every pair takes part at every
step; what is exponential in a pair is made site by site, since instances of one site differ by
what does not depend on the client. Memory is that of (rows, serving sites) in single precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from controlplane.steering.curvature import Answer, Block, Curvature
from controlplane.steering.latency import Array, PriceTable

PRECISE = 5e-4
"""Temperature at the end, as a part of what a request costs on average."""

_COOLING = 4.0
"""Factor by which the temperature falls from one stage to the next."""

STAGES = 7
"""Temperatures from nothing; from the prices of nearly the same problem, as many as it takes."""

_NEAR = 0.1
"""Mismatch at which old prices are a good start."""

_BALANCED, _EXACT = 2e-2, 1e-3
"""Mismatch of offered and answered load, as a part of the whole, that ends a stage, and the last:
single precision knows no better."""

_LOST = 0.05
"""Mismatch from which a stage has failed."""

_FLAT = 1e-9
"""Least slope of a price, so that there is always an answer."""

_REACH, _NEAREST = 3.0, 1e-3
"""Temperatures by which the cost of a request at an instance may move in a stage's first step, and
below which the stage ends: farther away rows answer by exponentials, which no step foresees."""

_WIDER, _NARROWER = 2.0, 0.35
"""Factors on that bound after a step that gained where it held back, and after one that lost."""

_MOST_STEPS = 10
"""Newton steps of a stage."""

_FARTHEST = np.float32(-30.0)
"""Logarithm of the least share: single precision does not see it beside one, and neither shares nor
their products are subnormal, which processors multiply up to a hundred times as slowly."""


@dataclass(slots=True)
class Dual:
    """The dual of one problem.

    Attributes:
        blocks: the rows to decide.
        table: the cost of work.
        base: (instances,): work that is there whatever is decided.
    """

    blocks: Sequence[Block]
    table: PriceTable
    base: Array
    _longest: Array = field(init=False)
    """(instances,): the most work of a request there, whichever service it is of."""

    def __post_init__(self) -> None:
        self.table = self.table.tilted()
        self._longest = np.full(len(self.base), _FLAT)
        for block in self.blocks:
            np.maximum.at(self._longest, block.columns, block.work)

    def solve(self, start: Array | None, *, temperature: float) -> tuple[Array, list[Answer]]:
        """Return the prices of work at each temperature, and what the rows do at the last.

        Args:
            start: (stages, instances): the prices of nearly the same problem; none from nothing.
            temperature: at the end, weighted seconds.

        Returns:
            Prices, (stages, instances), the last of which are the solution's.
        """
        heats: Array = temperature * _COOLING ** np.arange(STAGES - 1.0, -1.0, -1.0)
        path, first = self._begin(start, heats)
        answers: list[Answer] = []
        moved: Array = np.zeros(path.shape[1])
        for stage in range(first, STAGES):
            price = path[stage]
            if stage > first + 1 or (stage == first + 1 and start is None and stage > 1):
                # Prices move about evenly with the temperature.
                price = path[stage - 1] + (path[stage - 1] - path[stage - 2]) / _COOLING
            elif stage > first:
                price = path[stage - 1] if start is None else price + moved
            last = stage == STAGES - 1
            found = self._descend(price, float(heats[stage]), last=last)
            if found[2] > _LOST and stage > first:
                # Too far in one step: half of the way first.
                middle = float(np.sqrt(heats[stage] * heats[stage - 1]))
                halfway = self._descend(path[stage - 1], middle, last=False)
                if halfway[2] <= _LOST:
                    found = self._descend(halfway[0], float(heats[stage]), last=last)
                    if found[2] > _LOST:
                        path[stage:], answers = halfway[0], halfway[1]
                        break
                else:
                    path[stage:] = path[stage - 1]
                    break
            moved = found[0] - path[stage]
            if start is not None and stage == first:
                path[:first] += moved
            path[stage], answers = found[0], found[1]
        return path, answers

    def _begin(self, start: Array | None, heats: Array) -> tuple[Array, int]:
        """Return prices at each temperature to begin with, and the stage to begin at."""
        if start is None:
            return np.tile(self._even(), (STAGES, 1)), 0
        path = np.maximum(start, self.table.price[:, 0])
        # As hot as it takes for the old prices to be about right.
        for stage in range(STAGES - 1, -1, -1):
            _, load, _ = self._evaluate(path[stage], float(heats[stage]))
            if self._apart(path[stage], load) <= _NEAR:
                return path, stage
        return path, 0

    def _apart(self, price: Array, load: Array) -> float:
        """Return the mismatch of offered and answered *load*, as a part of the whole."""
        offered, _ = self.table.invert(price)
        idle = (price <= self.table.price[:, 0]) & (load < offered)
        apart = np.where(idle, 0.0, np.abs(load - offered))
        return float(apart.sum()) / max(float(load.sum()), 1e-12)

    def _even(self) -> Array:
        demand = sum(float(block.demand.sum() * block.work.mean()) for block in self.blocks)
        level = (demand + float(self.base.sum())) / float(self.table.capacity.sum())
        return self.table.evaluate(min(level, 1.2) * self.table.capacity)[1]

    def _descend(
        self, price: Array, heat: float, *, last: bool
    ) -> tuple[Array, list[Answer], float]:
        """Maximise the dual at one temperature from *price*; return the mismatch left, too."""
        price = np.maximum(price, self.table.price[:, 0])
        value, load, answers = self._evaluate(price, heat)
        whole = max(float(load.sum()), 1e-12)
        unit = heat / self._longest
        reach = _REACH  # a trust region (Conn, Gould and Toint 2000), in every price on its own
        curvature: Curvature | None = None
        before, refused = np.inf, False
        for _ in range(_MOST_STEPS):
            offered, slope = self.table.invert(price)
            apart = load - offered
            # An instance that is idle at its lowest price has nothing to give back.
            apart = np.where((price <= self.table.price[:, 0]) & (apart < 0), 0.0, apart)
            missed = float(np.abs(apart).sum()) / whole
            if missed <= (_EXACT if last else _BALANCED):
                break
            if curvature is None or refused or missed > 0.3 * before:
                # While steps gain well, the last curvature will do.
                curvature = Curvature(self.blocks, answers, len(price))
            before, refused = missed, False
            step = curvature.solve(heat / np.maximum(slope, _FLAT), heat * apart)
            farthest = float(np.abs(step / unit).max())
            while True:
                near = np.clip(step, -reach * unit, reach * unit)
                tried = np.maximum(price + near, self.table.price[:, 0])
                found, load_there, answers_there = self._evaluate(tried, heat)
                if found >= value - 1e-9 * abs(value):
                    break
                reach, refused = _NARROWER * min(reach, farthest), True
                if reach < _NEAREST:
                    return price, answers, self._apart(price, load)
            if not refused and reach < farthest:
                reach *= _WIDER
            price, value, load, answers = tried, found, load_there, answers_there
        return price, answers, self._apart(price, load)

    def _evaluate(self, price: Array, heat: float) -> tuple[float, Array, list[Answer]]:
        """Return the dual at *price*, the load that the rows answer with, and their splits."""
        offered, _ = self.table.invert(price)
        conjugate = price * offered - self.table.evaluate(offered)[0]
        value = float(np.dot(self.base, price)) - float(conjugate.sum())
        load = self.base.copy()
        answers = []
        for block in self.blocks:
            least, answer = answer_block(block, price, heat)
            value += float(np.dot(block.demand, least))
            load[block.columns] += answer.total[block.site] * answer.inside * block.work
            answers.append(answer)
        return value, load, answers


def answer_block(block: Block, price: Array, heat: float) -> tuple[Array, Answer]:
    """Return what a request of each row costs, (rows,), and where the rows go at *price*."""
    node = block.own + block.work * price[block.columns]
    site = block.site
    low = np.minimum.reduceat(node, block.starts)
    inside = np.exp((low[site] - node) / heat)
    sums = np.add.reduceat(inside, block.starts)
    there = (low - heat * np.log(sums)).astype(np.float32)
    cost = block.path + there
    rows = np.arange(len(cost))
    # Where it is and then what it is: a search along rows is faster than their minimum.
    least = cost[rows, cost.argmin(axis=1)]
    cost -= least[:, None]
    cost *= np.float32(-1.0 / heat)
    np.maximum(cost, _FARTHEST, out=cost)
    split = np.exp(cost, out=cost)
    whole = split @ np.ones(split.shape[1], dtype=np.float32)
    split *= (np.float32(1.0) / whole)[:, None]
    total = block.demand.astype(np.float32) @ split
    return (
        least.astype(np.float64) - heat * np.log(whole.astype(np.float64)),
        Answer(split, inside / sums[site], total.astype(np.float64)),
    )
