"""Evidence of what instances do: counted, forgotten with time, and at once after a change."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from controlplane.steering.capacity_estimates import PRIOR_COUNT, CapacityEstimates
from controlplane.steering.capacity_state import CapacityState
from controlplane.steering.latency import Array
from controlplane.steering.scatter import tolerated
from controlplane.steering.token_rates import (
    SLOWDOWNS,
    TokenInterval,
    changed_speed,
    reading_time,
    rescale,
    surprise,
    temper,
    token_products,
)

MEMORY = 90.0
"""Seconds, in which some instance of the model is asked, over which unchanging evidence is kept."""

TOKEN_MEMORY = 300.0
"""Seconds over which tokens are kept: a change of speed shows in them at once, so that old ones do
no harm."""

_OUTLIER = 36.0
"""Largest squared deviation that counts for the dispersion, and none that is called a change: it
would hide the next one."""
ALARM = 4.5
"""Log likelihood ratio at which one of `_FEW` instances counts as changed; of more, each must show
it more clearly, for one of them is always unlucky (Bonferroni)."""
_FEW = 12

_LEAST_BATCH = 1.25
"""Mean of two gauges from which the tokens between them say how a batch slows down."""
_MOST_ENDED = 2.0
"""Service times between two gauges up to which they say what the batch was meanwhile. Of an
instance that holds a request or two for a part of the interval, those would be chosen whose gauges
happen to find them, and their tokens be too few: it would seem slow, get less and seem slower."""
_LEAST_COMPLETED = 1.0
"""Completions, or as many expected, that make an observation in which a change is looked for: where
few requests are sent, eight reports may hold a single one."""
_MIDDLE = len(SLOWDOWNS) // 3
"""A slowdown by which work is added up where none needs to be exact."""
_BEGUN = 0.6
"""Part of its tokens that a request in service has made, on average: of uneven ones, those in
service are the longer ones."""


def count_tokens(
    state: CapacityState,
    estimates: CapacityEstimates,
    tokens: Array,
    count: Array,
    *,
    sizes: Array,
    spans: Array,
    lifetimes: Array,
    now: float,
) -> NDArray[np.bool_]:
    """Remember what *tokens* made, (instances, 5), in *spans* seconds; NaN where none.

    Return of which instances they said how fast a batch is, (instances,).

    *count*, (instances,), are the requests of ordinary size that ended meanwhile, *sizes* those
    of a request there, *lifetimes* how many times a request's fit into *spans*.
    """
    batched = (tokens[:, 0] >= _LEAST_BATCH) & (lifetimes <= _MOST_ENDED)
    reported = np.flatnonzero(~np.isnan(tokens[:, 0]))
    if not len(reported):
        return batched
    fade = np.exp(-spans / TOKEN_MEMORY)
    # Tokens of requests that have not ended count as the part of a request that they are.
    begun = _BEGUN * tokens[reported, 1] * sizes[reported]
    made = np.column_stack(
        [tokens[reported][:, [4, 3]] * spans[reported, None], count[reported] + begun]
    )
    state.written[reported] = state.written[reported] * fade[reported, None] + made
    rows = np.flatnonzero(batched)
    _catch_up(state, estimates, rows[state.doubted[rows] > 0])
    state.doubted[rows] = 0.0
    state.since[rows] = 0.0
    reading = reading_time(state.tokens[rows])
    products = token_products(TokenInterval(*tokens[rows].T), reading)
    window = np.roll(state.surprise[rows], -1, axis=1)
    window[:, -1] = surprise(state.tokens[rows], products)
    factor = changed_speed(window)
    changed = factor != 1.0
    window[changed] = 0.0
    state.surprise[rows] = window
    state.changed_at[rows[changed]] = now
    kept = state.tokens[rows] * fade[rows, None, None]
    kept[changed] = rescale(kept[changed], factor[changed])
    state.tokens[rows] = kept + temper(products, np.where(changed, 0.0, window[:, -1, 0]))
    estimates.renew()
    return batched


def _catch_up(state: CapacityState, estimates: CapacityEstimates, rows: NDArray[np.intp]) -> None:
    """Let what tokens said of *rows* say the pace that completions have shown since."""
    if not len(rows):
        return
    work = (state.exposure * estimates.weights()).sum(axis=1)[rows]
    factor = estimates.written_pace()[rows] * state.count[rows] / np.maximum(work, 1e-9)
    known = ~np.isnan(factor) & (state.count[rows] > 1.0)
    factor = np.clip(factor[known], 0.02, 50.0)
    state.tokens[rows[known]] = rescale(state.tokens[rows[known]], factor)
    state.surprise[rows[known]] = 0.0
    estimates.renew()


def count_completions(
    state: CapacityState,
    estimates: CapacityEstimates,
    *,
    count: Array,
    exposure: Array,
    spans: Array,
    batched: NDArray[np.bool_],
    kin: Sequence[Sequence[int]],
    alarm: float,
    now: float,
) -> None:
    """Remember *count* completions, (instances,), of *exposure* work in *spans* seconds.

    Args:
        state: what is remembered.
        estimates: what is believed by it.
        count: in requests of ordinary size.
        exposure: (instances, slowdowns).
        spans: 0 where there is no observation.
        batched: (instances,): those whose tokens said how fast a batch is.
        kin: the instances of each model.
        alarm: see `ALARM`.
        now: the instant.
    """
    # An instance that no one asked for anything has shown nothing.
    fresh = (spans > 0) & ((count > 0) | (exposure[:, 0] > 0))
    if not fresh.any():
        return
    prior_pace = estimates.prior_pace()
    predicted = (state.count + PRIOR_COUNT)[:, None] / (
        state.exposure + PRIOR_COUNT * prior_pace[:, None]
    )
    mean = np.maximum(predicted * exposure, 1e-9)
    likelihood = (count[:, None] * np.log(mean) - mean) / tolerated(estimates.scatter)[:, None]
    likelihood -= likelihood.max(axis=1, keepdims=True)
    # However rare reports are, some dozens are kept. Beside others of its model that are asked,
    # an idle instance is forgotten, since it may be idle on old evidence; where none is asked,
    # nothing is: the silence of clients says nothing of machines.
    fade = np.exp(-spans / np.maximum(MEMORY, 30.0 * spans))
    fade = np.where(_with_kin(fresh, kin), fade, 1.0)
    # A candidate is judged by what it predicted from some evidence, not from the prior.
    ready = fresh & (state.count > 10.0)
    state.score = state.score * fade[:, None] + np.where(ready[:, None], likelihood, 0.0)
    state.count = state.count * fade + count
    state.exposure = state.exposure * fade[:, None] + exposure
    rows = np.flatnonzero(fresh)
    usual = state.count[rows] / np.maximum(state.exposure[rows, _MIDDLE], 1e-9)
    expected = usual * state.window_exposure[rows, -1, _MIDDLE]
    full = rows[np.maximum(state.window_count[rows, -1], expected) >= _LEAST_COMPLETED]
    state.window_count[full] = np.roll(state.window_count[full], -1, axis=1)
    state.window_count[full, -1] = 0.0
    state.window_exposure[full] = np.roll(state.window_exposure[full], -1, axis=1)
    state.window_exposure[full, -1] = 0.0
    state.window_count[rows, -1] += count[rows]
    state.window_exposure[rows, -1] += exposure[rows]
    alarm += math.log(max(len(count) / _FEW, 1.0))
    weights = estimates.weights()
    _detect(state, estimates, rows, weights=weights, alarm=alarm, now=now)
    work = (exposure * weights).sum(axis=1)
    state.since[~batched] += np.column_stack([count, work])[~batched]
    _doubt_tokens(state, estimates, alarm=alarm)


def _detect(
    state: CapacityState,
    estimates: CapacityEstimates,
    rows: NDArray[np.intp],
    *,
    weights: Array,
    alarm: float,
    now: float,
) -> None:
    """Forget what was before a change, where the latest observations speak of one."""
    latest = state.window_count[:, ::-1].cumsum(axis=1)
    work = state.window_exposure[:, ::-1].cumsum(axis=1)
    before = state.count[:, None] - latest
    before_work = state.exposure[:, None, :] - work
    known = before > 1.0
    mean = np.where(known, before, 0.0)[:, :, None] / np.maximum(before_work, 1e-9) * work
    mean = np.maximum((mean * weights[:, None, :]).sum(axis=2), 1e-9)
    ratio = _log_ratio(latest, mean)
    # The estimate it is compared with is itself only known to so many completions.
    spread = 1.0 + mean / np.maximum(before, 1.0)
    ratio = np.where(known, ratio / spread, 0.0)
    ratio /= tolerated(estimates.scatter)[:, None]
    best = ratio.argmax(axis=1)
    # One observation alone may be a report that lies beside the truth.
    loudest = ratio[:, 1:].max(axis=1)
    fitted = ~np.isnan(estimates.batches().slowdown)
    for row in rows.tolist():
        length = int(best[row]) + 1
        if loudest[row] < alarm:
            continue
        state.count[row] = state.window_count[row, -length:].sum()
        state.exposure[row] = state.window_exposure[row, -length:].sum(axis=0)
        state.window_count[row, :-length] = 0.0
        state.window_exposure[row, :-length] = 0.0
        state.changed_at[row] = now
        if not fitted[row]:
            state.tokens[row] = 0.0
    judged = rows[known[rows, -1] & (loudest[rows] < alarm)]
    square = (latest - mean)[judged, -1] ** 2 / (mean * spread)[judged, -1]
    keep = 1.0 - 1.0 / MEMORY
    state.deviation[judged] = keep * state.deviation[judged] + np.minimum(square, _OUTLIER)
    state.deviations[judged] = keep * state.deviations[judged] + 1.0


def _doubt_tokens(state: CapacityState, estimates: CapacityEstimates, *, alarm: float) -> None:
    """Believe completions where those since tokens last came do not fit what these said."""
    ended, work = state.since.T
    mean = np.maximum(work / np.maximum(estimates.written_pace(), 1e-9), 1e-9)
    state.doubted[_log_ratio(ended, mean) > alarm * tolerated(estimates.scatter)] = 1.0


def _log_ratio(count: Array, mean: Array) -> Array:
    """Return the log likelihood ratio of the best Poisson mean of *count* over *mean*."""
    ratio: Array = count * np.log(np.maximum(count, 1e-9) / mean) - (count - mean)
    return ratio


def _with_kin(some: NDArray[np.bool_], kin: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Return *some* instances, (instances,), and all that serve the same models as one of them."""
    every = some.copy()
    for group in kin:
        members = list(group)
        every[members] = some[members].any()
    return every
