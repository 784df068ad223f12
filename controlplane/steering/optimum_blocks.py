"""Rows as blocks that the dual solves, and pairs of them that are worth being entries."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from controlplane.steering.curvature import Answer, Block, Single
from controlplane.steering.dual import answer_block
from controlplane.steering.latency import Array
from controlplane.steering.optimiser import Flags, Indices
from controlplane.steering.pairs import Codes, ServicePairs
from controlplane.steering.problem import Picture, Problem

_WORTH = 0.03
"""Least share of a row that the dual's solution has to give for a pair to become an entry."""

_PART, _TRIFLE = 0.1, 1e-4
"""Part of an instance's load from which a smaller share does so too, and the least that is looked
at."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Which rows are decided; all (rows,)."""

    optimal: Flags
    """Decided here; the others' shares stay."""
    live: Flags
    """With clients."""


def build_blocks(
    made: Picture, problem: Problem, rows: Rows, shares: Array
) -> tuple[list[tuple[Block, Codes]], Array]:
    """Return the rows that the dual decides, each block with its rows' codes, and other work.

    Rows that an operator bounds are not among them: their entries are complete.
    """
    pairs, flow = made.pairs, problem.flow
    free = rows.optimal & rows.live
    free[flow.row[flow.bounds.entry]] = False
    base = flow.load(np.where(free[flow.row], 0.0, shares))
    blocks: list[tuple[Block, Codes]] = []
    for index, service in enumerate(pairs.services):
        sites = np.flatnonzero(free[index * pairs.sites : (index + 1) * pairs.sites])
        if not len(sites):
            continue
        block = _block(service, sites, service.demand[sites])
        row = (int(pairs.numbers[index]) * pairs.sites + sites).astype(np.int64)
        blocks.append((block, row * pairs.instances))
    return blocks, base


def _block(service: ServicePairs, sites: Indices, demand: Array) -> Block:
    """Return the rows of *service* from client *sites*, its instances site by site."""
    order = np.argsort(service.place, kind="stable")
    starts = np.searchsorted(service.place[order], np.arange(len(service.at)))
    return Block(
        demand=demand,
        path=service.path(sites).astype(np.float32),
        columns=service.columns[order],
        starts=starts.astype(np.intp),
        own=service.own[order],
        work=service.work[order],
    )


def cost_scale(made: Picture, blocks: list[tuple[Block, Codes]]) -> float:
    """Return about what a request costs, weighted seconds: temperatures are parts of it."""
    demand = sum(float(block.demand.sum()) for block, _ in blocks)
    cost = sum(
        float(block.demand.sum())
        * (float(block.path.min(axis=1).mean()) + float(block.work.mean()))
        for block, _ in blocks
    )
    return cost / demand if demand > 0 else float(made.pace.mean())


def worthy_entries(block: Block, first: Codes, answer: Answer) -> tuple[Codes, Array]:
    """Return the pairs of *block* that are worth being entries, with their shares.

    A pair is if its row gives it a good part, or if its instance has a good part of its load from
    it: a small instance may be a trifle to each of many large rows. *first* holds each row's code
    without an instance.
    """
    ends = np.append(block.starts[1:], len(block.columns))
    counts = ends - block.starts
    row, site = np.nonzero(answer.split >= _TRIFLE)
    repeat = counts[site]
    pair = np.repeat(np.arange(len(row)), repeat)
    offset = np.arange(len(pair)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    own = block.starts[site][pair] + offset
    value = answer.split[row, site].astype(np.float64)[pair] * answer.inside[own]
    rows = row[pair]
    most = np.zeros(len(first))
    np.maximum.at(most, rows, value)
    whole = (answer.total[block.site] * answer.inside)[own]
    kept = (value >= np.minimum(_WORTH, 0.3 * most)[rows]) | (
        block.demand[rows] * value >= _PART * whole
    )
    rows, own, value = rows[kept], own[kept], value[kept]
    total = np.bincount(rows, value, len(first))
    return first[rows] + block.columns[own], value / total[rows]


def nearest_pairs(
    made: Picture, rows: Indices, price: Array, *, heat: float | None
) -> tuple[Codes, Array]:
    """Return pairs and shares for *rows* at *price*, as the dual would at temperature *heat*.

    Without *heat* each row gets its cheapest site's instances.
    """
    pairs = made.pairs
    found: list[tuple[Codes, Array]] = []
    for index, service in enumerate(pairs.services):
        mine = rows[rows // pairs.sites == index] % pairs.sites
        for part in np.array_split(mine, max(1, len(mine) * len(service.at) // 1_000_000)):
            if not len(part):
                continue
            block = _block(service, part, np.ones(len(part)))
            warm = 0.02 * float(block.work.mean()) if heat is None else heat
            answer = answer_block(block, price, warm)[1]
            answer = replace(answer, split=_largest(answer.split, 1 if heat is None else 2))
            first = (int(pairs.numbers[index]) * pairs.sites + part).astype(np.int64)
            found.append(worthy_entries(block, first * pairs.instances, answer))
    codes = np.concatenate([codes for codes, _ in found])
    order = np.argsort(codes, kind="stable")
    return codes[order], np.concatenate([values for _, values in found])[order]


def _largest(split: Single, count: int) -> Single:
    """Return *split* with the *count* largest parts of each row alone, scaled to one.

    Two sites are enough for a row that no one asks through.
    """
    rows = np.arange(len(split))
    kept = np.zeros_like(split)
    rest = split.copy()
    for _ in range(min(count, split.shape[1])):
        place = rest.argmax(axis=1)
        kept[rows, place] = split[rows, place]
        rest[rows, place] = -1.0
    kept /= kept.sum(axis=1, keepdims=True)
    return kept


def rows_of(made: Picture, codes: Codes) -> Indices:
    """Return the row of each of *codes*."""
    pairs = made.pairs
    service, site = np.divmod(codes // pairs.instances, pairs.sites)
    row: Indices = np.searchsorted(pairs.numbers, service) * pairs.sites + site
    return row
