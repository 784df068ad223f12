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
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.latency import Array, PriceTable
from controlplane.steering.optimiser import Indices, conjugate_gradients

Single = NDArray[np.float32]

PRECISE = 5e-4
"""Temperature at the end, as a part of what a request costs on average."""

_COOLING = 4.0
"""Factor by which the temperature falls from one stage to the next."""

STAGES = 7
"""Temperatures from nothing; from the prices of nearly the same problem, as many as it takes."""

_NEAR = 0.25
"""Mismatch at which old prices are a good start."""

_BALANCED, _EXACT = 2e-2, 1e-3
"""Mismatch of offered and answered load, as a part of the whole, that ends a stage, and the last:
single precision knows no better."""

_DIRECT = 600
"""Instances up to which a step is solved directly."""

_LOST = 0.05
"""Mismatch from which a stage has failed."""

_FLAT = 1e-9
"""Least slope of a price, so that there is always an answer."""

_TINY, _SPARSE = 1e-7, 0.25
"""Share below which a pair is left out of the curvature, and the filled part of it below which
what is left is kept by itself."""

_MOST_STEPS = 10
"""Newton steps of a stage."""


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of one service that are decided."""

    demand: Array
    """(rows,): requests a second."""
    path: Single
    """(rows, sites): weighted seconds to each serving site."""
    columns: Indices
    """(usable,): instances, site by site."""
    starts: Indices
    """(sites,): where each site's instances begin."""
    own: Array
    """(usable,): weighted seconds at the instance whatever its load."""
    work: Array
    """(usable,): seconds of the instance that a request takes."""

    @property
    def site(self) -> Indices:
        """Return the site of each usable instance, (usable,)."""
        return np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=len(self.own)))


@dataclass(frozen=True, slots=True)
class Answer:
    """What the rows of a block do at some prices."""

    split: Single
    """(rows, sites)."""
    inside: Array
    """(usable,): each instance's part of its site."""
    total: Array
    """(sites,): requests a second that go to each."""


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

    def __post_init__(self) -> None:
        self.table = self.table.tilted()

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
        curvature: _Curvature | None = None
        before, length = np.inf, 1.0
        for _ in range(_MOST_STEPS):
            offered, slope = self.table.invert(price)
            apart = load - offered
            # An instance that is idle at its lowest price has nothing to give back.
            apart = np.where((price <= self.table.price[:, 0]) & (apart < 0), 0.0, apart)
            missed = float(np.abs(apart).sum()) / whole
            if missed <= (_EXACT if last else _BALANCED):
                break
            if curvature is None or length < 1.0 or missed > 0.3 * before:
                # While steps gain well, the last curvature will do.
                curvature = _Curvature(self.blocks, answers, len(price))
            before, length = missed, 1.0
            step = curvature.solve(heat / np.maximum(slope, _FLAT), heat * apart)
            rise = float(np.dot(step, apart))
            while True:
                tried = np.maximum(price + length * step, self.table.price[:, 0])
                found, load_there, answers_there = self._evaluate(tried, heat)
                if found >= value + 1e-4 * length * min(rise, 0.0) - 1e-9 * abs(value):
                    break
                length *= 0.35
                if length < 1e-4:
                    return price, answers, self._apart(price, load)
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
    least = cost.min(axis=1)
    cost -= least[:, None]
    cost *= np.float32(-1.0 / heat)
    split = np.exp(cost, out=cost)
    whole = split.sum(axis=1)
    split /= whole[:, None]
    total = block.demand.astype(np.float32) @ split
    return (
        least.astype(np.float64) - heat * np.log(whole.astype(np.float64)),
        Answer(split, inside / sums[site], total.astype(np.float64)),
    )


@dataclass(frozen=True, slots=True)
class _Term:
    """One block's part in the curvature."""

    block: Block
    site: Indices
    matter: Array
    """(usable,): work of an instance's part of a request to its site."""
    split: Single | tuple[Indices, Indices, Array]
    """(rows, sites), or rows, sites and values of what is not zero."""

    def scatter(self, here: Array) -> Array:
        """Return X^T (demand (X *here*)) for the split X, both (sites,)."""
        demand = self.block.demand
        if isinstance(self.split, tuple):
            row, site, value = self.split
            mean = np.bincount(row, value * here[site], len(demand)) * demand
            back: Array = np.bincount(site, value * mean[row], len(here)).astype(float)
            return back
        mean = (self.split @ here.astype(np.float32)) * demand
        return (mean.astype(np.float32) @ self.split).astype(np.float64)


class _Curvature:
    """How the load that rows answer with falls with the prices, times the temperature."""

    def __init__(self, blocks: Sequence[Block], answers: Sequence[Answer], count: int) -> None:
        self._count = count
        self._terms: list[_Term] = []
        self.own: Array = np.zeros(count)
        self.diagonal: Array = np.zeros(count)
        for block, answer in zip(blocks, answers, strict=True):
            site = block.site
            matter = answer.inside * block.work
            own = answer.total[site] * matter * block.work
            self.own[block.columns] += own
            squares = block.demand.astype(np.float32) @ (answer.split * answer.split)
            self.diagonal[block.columns] += own - squares[site] * matter**2
            split: Single | tuple[Indices, Indices, Array] = answer.split
            if count > _DIRECT:
                row, place = np.nonzero(answer.split > _TINY)
                if len(row) < _SPARSE * answer.split.size:
                    split = row, place, answer.split[row, place].astype(np.float64)
            self._terms.append(_Term(block, site, matter, split))

    def solve(self, give: Array, aim: Array) -> Array:
        """Solve (D + M) p = *aim*, D being the diagonal *give*, positive; all are (instances,)."""
        if self._count <= _DIRECT:
            system = self.dense()
            system[np.diag_indices(self._count)] += give
            return np.linalg.solve(system, aim).astype(np.float64)
        return conjugate_gradients(self.apply, self.diagonal, give=give, aim=aim)

    def dense(self) -> Array:
        """Return the whole matrix, (instances, instances)."""
        matrix = np.zeros((self._count, self._count))
        matrix[np.diag_indices(self._count)] = self.own
        for term in self._terms:
            split, site, columns = term.split, term.site, term.block.columns
            if isinstance(split, tuple):
                raise TypeError("a sparse split is not for direct solution")
            together = (split.T * term.block.demand.astype(np.float32)) @ split
            spread = together.astype(np.float64)[np.ix_(site, site)]
            matrix[np.ix_(columns, columns)] -= term.matter[:, None] * spread * term.matter
        return matrix

    def apply(self, price: Array) -> Array:
        """Return the product with *price*, (instances,)."""
        moved: Array = self.own * price
        for term in self._terms:
            block = term.block
            here = np.add.reduceat(term.matter * price[block.columns], block.starts)
            moved[block.columns] -= term.matter * term.scatter(here)[term.site]
        return moved
