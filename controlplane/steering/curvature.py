"""How the load that rows answer with falls with the prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Indices, conjugate_gradients

Single = NDArray[np.float32]

DIRECT = 600
"""Instances up to which a step is solved directly."""

TINY, SPARSE = 1e-7, 0.01
"""Share below which a pair is left out of the curvature, and the filled part of it below which
what is left is kept by itself: a product with a whole matrix takes a hundredth of the time for
each value."""


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


class Curvature:
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
            if count > DIRECT:
                matters = answer.split > TINY
                if np.count_nonzero(matters) < SPARSE * matters.size:
                    row, place = np.nonzero(matters)
                    split = row, place, answer.split[row, place].astype(np.float64)
            self._terms.append(_Term(block, site, matter, split))

    def solve(self, give: Array, aim: Array) -> Array:
        """Solve (D + M) p = *aim*, D being the diagonal *give*, positive; all are (instances,)."""
        if self._count <= DIRECT:
            system = self.dense()
            system[np.diag_indices(self._count)] += give
            return np.linalg.solve(system, aim).astype(np.float64)
        return conjugate_gradients(self.apply, self.diagonal, give=give, aim=aim)

    def dense(self) -> Array:
        """Return the whole matrix, (instances, instances)."""
        matrix = np.zeros((self._count, self._count))
        matrix[np.diag_indices(self._count)] = self.own
        # Services mostly use the same instances: what they add up to is put in its place once.
        groups: dict[bytes, tuple[Indices, Array]] = {}
        for term in self._terms:
            split, site, columns = term.split, term.site, term.block.columns
            if isinstance(split, tuple):
                raise TypeError("a sparse split is not for direct solution")
            together = (split.T * term.block.demand.astype(np.float32)) @ split
            spread = together.astype(np.float64)[np.ix_(site, site)]
            spread *= term.matter
            spread *= term.matter[:, None]
            kept = groups.setdefault(columns.tobytes(), (columns, np.zeros_like(spread)))
            np.add(kept[1], spread, out=kept[1])
        for columns, spread in groups.values():
            matrix[np.ix_(columns, columns)] -= spread
        return matrix

    def apply(self, price: Array) -> Array:
        """Return the product with *price*, (instances,)."""
        moved: Array = self.own * price
        for term in self._terms:
            block = term.block
            here = np.add.reduceat(term.matter * price[block.columns], block.starts)
            moved[block.columns] -= term.matter * term.scatter(here)[term.site]
        return moved


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
