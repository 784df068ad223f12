"""Learning how a batch slows down from the tokens that an engine makes, step by step.

Completions say little of it: they follow the number inside by a service time, and a sum of
latencies that is counted when requests end grows with them by itself. Tokens have no such lag. A
batch of n makes y = K n / (1 + b (n - 1)) of them a second, K being those of a lone request, so
that y against the number running, both of the same interval, is the curve itself. What the number
did between two gauges is unknown, but it deviates from their mean independently of it (Berkson
1950), which leaves a regression on that mean without bias.

While a prompt is read, decoding halts, or is delayed as much where prompts are read in pieces: p
prompt tokens a second take the part p A. So y = K (1 - p A) n / (1 + b (n - 1)), which is linear in
K and K A for each candidate b. A prompt delays every other request and shares nothing, so that to
requests as a whole the slowdown is (q + b) / (q + 1), q being the time for the prompt over that for
decoding alone.

Not every engine counts tokens as it makes them; where they come with completions they scatter like
these, and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from controlplane.steering.latency import Array

ONE_ONE, ONE_TWO, TWO_TWO, ONE_Y, TWO_Y, Y_Y, COUNT, CHANCE = range(8)
"""Sums that are kept for each candidate: products of the two regressors and of the tokens."""
SUMS = 8

_UNIT = 1000.0
"""Tokens in which sums are kept, so that saved ones are of moderate size."""
_FLOOR = 0.03
"""Relative standard deviation of a second's tokens that is there however full the engine is."""
_MOST_SCATTER = 0.7
"""Variance over that of the requests that ended, from which tokens may have come with these."""
_ENOUGH = 8.0
"""Observations from which there is anything to say."""
_MOST_DEVIATION = 3.0
"""Deviation at which an interval counts at most: one alone may be a report that lies beside."""
_FARTHEST = 1000.0
_ALARM, _LEAST_CHANGE = 4.5, 0.1
"""Standard deviations, and logarithm of the speed, from which it has changed."""
_KEPT = 0.3
"""Part of the evidence that is kept then: the curve is known, but the speed is new."""
WINDOW = 6
"""Intervals among which a change is looked for."""
_PRIOR, _PRIOR_DEVIATION = 0.08, 0.1
_REFERENCE = 0.08
SLOWDOWNS: Array = np.array([0.0, 0.02, 0.05, 0.08, 0.12, 0.17, 0.23, 0.32, 0.5])
"""Candidates for the slowdown."""


def _cubics(grid: Array, at: Array) -> Array:
    """Return weights, (grid, at), by which values on *grid* go over into those *at* others.

    A cubic through the four nearest candidates, over the logarithm of the slowdown plus 0.03.
    """
    known, wanted = np.log(grid + 0.03), np.log(at + 0.03)
    made = np.zeros((len(grid), len(at)))
    for column, place in enumerate(wanted):
        first = int(np.clip(np.searchsorted(known, place) - 2, 0, len(grid) - 4))
        for row in range(first, first + 4):
            others = [known[each] for each in range(first, first + 4) if each != row]
            made[row, column] = np.prod([(place - x) / (known[row] - x) for x in others])
    return made


_FINE: Array = np.exp(np.linspace(np.log(0.03), np.log(0.53), 48)) - 0.03
_STEP: Array = np.gradient(_FINE)
_FINER = _cubics(SLOWDOWNS, _FINE)
"""What lies between the candidates."""


@dataclass(frozen=True, slots=True)
class TokenInterval:
    """What instances made between two gauges; every array is (instances,)."""

    running: Array
    """Mean number running."""
    change: Array
    """Of the number running from its beginning to its end."""
    ended: Array
    """Requests that completed meanwhile."""
    output: Array
    """Output tokens a second of a machine that does nothing else."""
    prompt: Array
    """Prompt tokens a second, of prompts that were read to their end."""


def reading_time(sums: Array) -> Array:
    """Return the seconds that `_UNIT` prompt tokens halt decoding, (instances,), by *sums*."""
    rate, delay, rest = _regress(sums)
    rows, best = np.arange(len(sums)), rest.argmin(axis=1)
    found: Array = delay[rows, best] / np.maximum(rate[rows, best], 1e-12)
    return found


def token_products(seen: TokenInterval, reading: Array) -> Array:
    """Return the products of one interval, (instances, slowdowns, SUMS).

    *reading*, (instances,), are the seconds that `_UNIT` prompt tokens take, as far as is known.
    """
    running = np.maximum(seen.running, 1e-3)
    within = 1.0 / (3.0 / np.maximum(seen.ended, 1e-3) + 1.0 / running) + seen.change**2 / 12.0
    rate = _mean_rate(running, within)
    more = np.maximum(running - 1.0, 0.0)[:, None]
    variance = seen.ended / 6.0
    usual = running / (1.0 + _REFERENCE * more[:, 0])
    one = rate / usual[:, None]
    prompt = seen.prompt / _UNIT
    two = -one * prompt[:, None]
    made = (seen.output / _UNIT / usual)[:, None]
    chance = one * one / np.maximum(seen.ended, 1.0)[:, None]
    # A long prompt is counted when it ends, though it may have begun in the interval before.
    lump = (prompt * reading) ** 2 / (seen.ended + 1.0) / 3.0
    weight = 1.0 / (_FLOOR**2 + np.maximum(variance, 0.05) / running**2 + lump)
    products = np.stack(
        [one * one, one * two, two * two, one * made, two * made,
         *(np.broadcast_to(each, one.shape)
           for each in (made * made, 1.0 / weight[:, None], chance))],
        axis=-1,
    )  # fmt: skip
    weighted: Array = products * weight[:, None, None]
    return weighted


def _mean_rate(mean: Array, variance: Array) -> Array:
    """Return the mean of n / (1 + b (n - 1)) over numbers of *mean* and *variance*.

    Two numbers stand for all, (instances, slowdowns); the lower one is never below zero.
    """
    deviation = np.sqrt(variance)
    empty = deviation >= mean
    low = np.where(empty, 0.0, mean - deviation)
    high = np.where(empty, mean + variance / mean, mean + deviation)
    part = np.where(empty, mean**2 / (mean**2 + variance), 0.5)

    def at(number: Array) -> Array:
        return number[:, None] / (1.0 + SLOWDOWNS * np.maximum(number - 1.0, 0.0)[:, None])

    made: Array = part[:, None] * at(high) + (1.0 - part[:, None]) * at(low)
    return made


def surprise(sums: Array, products: Array) -> Array:
    """Return how far *products* of one interval, (instances, slowdowns, SUMS), are from *sums*.

    (instances, 3): the deviation over its standard deviation, the product of what was made and what
    was to be expected, and the square of the latter. All are 0 where too little is known.
    """
    rate, delay, rest = _regress(sums)
    rows, best = np.arange(len(sums)), rest.argmin(axis=1)
    rate, delay, own = rate[rows, best], delay[rows, best], products[rows, best]
    count = sums[rows, best, COUNT]
    expected = rate**2 * own[:, ONE_ONE] + 2 * rate * delay * own[:, ONE_TWO]
    expected += delay**2 * own[:, TWO_TWO]
    along = rate * own[:, ONE_Y] + delay * own[:, TWO_Y]
    usual = np.maximum(rest[rows, best], 1e-12) / np.maximum(count, 1.0)
    deviation = (along - expected) / np.sqrt(np.maximum(expected * usual, 1e-30))
    made = np.stack([np.clip(deviation, -_FARTHEST, _FARTHEST), along, expected], axis=1)
    known = (count >= _ENOUGH) & (expected > 0.0)
    return np.where(known[:, None], made, 0.0)


def temper(products: Array, deviation: Array) -> Array:
    """Return *products* with less weight where their *deviation*, (instances,), is far out.

    A prompt that is read for seconds halts decoding before it is counted.
    """
    least = np.maximum(np.abs(deviation), _MOST_DEVIATION)
    made: Array = products * ((_MOST_DEVIATION / least) ** 2)[:, None, None]
    return made


def changed_speed(window: Array) -> Array:
    """Return the factor by which each machine's speed has changed, (instances,); 1 for most.

    *window*, (instances, intervals, 3), is what `surprise` said of the last intervals, newest last.
    """
    clipped = window[:, ::-1].copy()
    clipped[:, :, 0] = np.clip(clipped[:, :, 0], -_MOST_DEVIATION, _MOST_DEVIATION)
    latest = clipped.cumsum(axis=1)
    length = np.arange(1, window.shape[1] + 1)
    loud = np.abs(latest[:, :, 0]) / np.sqrt(length)
    rows, best = np.arange(len(window)), loud.argmax(axis=1)
    factor = latest[rows, best, 1] / np.maximum(latest[rows, best, 2], 1e-30)
    factor = np.clip(factor, 0.02, 50.0)
    far = np.abs(np.log(factor)) > _LEAST_CHANGE
    found: Array = np.where((loud[rows, best] > _ALARM) & far, factor, 1.0)
    return found


def rescale(sums: Array, factor: Array) -> Array:
    """Return *sums* as if the machines had had *factor*, (instances,), times their speed before.

    The curve stays as it is; how fast it is is left to what follows.
    """
    made = sums.copy()
    made[..., [ONE_TWO, ONE_Y]] *= factor[:, None, None]
    made[..., [TWO_TWO, TWO_Y, Y_Y]] *= factor[:, None, None] ** 2
    return made * _KEPT


@dataclass(frozen=True, slots=True)
class BatchFit:
    """What tokens say of instances; every array is (instances,), not a number where nothing."""

    slowdown: Array
    """As requests see it, prompts included."""
    alone: Array
    """Seconds an output token that a request takes alone, its prompt included."""


def fit_batches(sums: Array, ratio: Array) -> BatchFit:
    """Return the curves that *sums*, (instances, slowdowns, SUMS), fit best.

    *ratio*, (instances,), is of prompt tokens to output tokens.
    """
    if not sums[:, 0, COUNT].any():
        nothing = np.full(len(sums), np.nan)
        return BatchFit(nothing, nothing)
    rate, delay, rest = _regress(sums)
    rows, best = np.arange(len(sums)), rest.argmin(axis=1)
    count, least = sums[:, 0, COUNT], np.maximum(rest[rows, best], 1e-12)
    chance = rate[rows, best] ** 2 * sums[rows, best, CHANCE]
    scatter = least / np.maximum(chance, 1e-12)
    judged = (count >= _ENOUGH) & (scatter < _MOST_SCATTER)
    likelihood = -0.5 * count[:, None] * (np.log(np.maximum(rest, 1e-12) / least[:, None]) @ _FINER)
    score = likelihood - 0.5 * ((_FINE - _PRIOR) / _PRIOR_DEVIATION) ** 2 + np.log(_STEP)
    weight = np.exp(score - score.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    decoding = weight @ _FINE
    upper = np.clip(np.searchsorted(SLOWDOWNS, decoding), 1, len(SLOWDOWNS) - 1)
    part = (decoding - SLOWDOWNS[upper - 1]) / (SLOWDOWNS[upper] - SLOWDOWNS[upper - 1])

    def at(values: Array) -> Array:
        between: Array = (1.0 - part) * values[rows, upper - 1] + part * values[rows, upper]
        return between

    reading = ratio * np.maximum(at(delay), 0.0)
    return BatchFit(
        np.where(judged, (reading + decoding) / (reading + 1.0), np.nan),
        np.where(judged, (1.0 + reading) / np.maximum(at(rate), 1e-12) / _UNIT, np.nan),
    )


def _regress(sums: Array) -> tuple[Array, Array, Array]:
    """Return tokens a second of a lone request, seconds a prompt token times it, and residuals."""
    determinant = sums[..., ONE_ONE] * sums[..., TWO_TWO] - sums[..., ONE_TWO] ** 2
    known = determinant > 1e-6 * sums[..., ONE_ONE] * np.maximum(sums[..., TWO_TWO], 1e-30)
    safe = np.where(known, determinant, 1.0)
    rate = (sums[..., TWO_TWO] * sums[..., ONE_Y] - sums[..., ONE_TWO] * sums[..., TWO_Y]) / safe
    slope = (sums[..., ONE_ONE] * sums[..., TWO_Y] - sums[..., ONE_TWO] * sums[..., ONE_Y]) / safe
    alone = sums[..., ONE_Y] / np.maximum(sums[..., ONE_ONE], 1e-30)
    both = known & (slope > 0.0) & (rate > 0.0)
    rate, slope = np.where(both, rate, alone), np.where(both, slope, 0.0)
    rest = sums[..., Y_Y] - rate * sums[..., ONE_Y] - slope * sums[..., TWO_Y]
    return rate, slope, np.maximum(rest, 0.0)
