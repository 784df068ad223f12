"""The estimate of every instance, made of what is remembered of its work.

What an instance has not shown itself, the others of its model say, as far as they are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from controlplane.config import Engine
from controlplane.fleet.view import FleetView
from controlplane.steering.capacity_state import CapacityState
from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.observation import Seen
from controlplane.steering.scatter import common_mean, pull_to, scatter_of, tolerated
from controlplane.steering.token_rates import SLOWDOWNS, BatchFit, fit_batches

_BATCHING = frozenset({Engine.VLLM, Engine.SGLANG, Engine.TRTLLM, Engine.TGI, Engine.EPP})

_LEAST_SCATTER = 0.25
"""Variance of completions over that of a Poisson count that is believed at least."""
_GUESS, _GUESS_KNOWN = 1.25, 1.6
"""Slots over the most that was ever seen running, where none ever waited. Where it is known how a
batch slows down, more is risked: a large machine is found only by filling it."""

_ENOUGH_WRITTEN = 10.0
"""Completions from which tokens a request are known well enough."""
_LEAST_PACE = 1e-4
"""Seconds of work in a request, at least: gauges may find an instance empty each time, though it
completes requests in between."""
_ENOUGH_FULL = 3
"""Instances of a model that must have been full for their slots to say of the others'."""
PRIOR_COUNT = 1.0
"""Completions that the prior of the pace is worth."""
_ENOUGH, _MOST_PULL = 4, 2.0
"""Unlike instances of a model whose common mean is worth more than each one's own pace, and the
standard errors by which that moves a pace at most."""
_LIKE = 1.5
"""Ratio of slots from which machines are not of one kind."""


class CapacityEstimates:
    """What is believed of the instances of *layout* by *state*, for one cycle."""

    def __init__(self, state: CapacityState, layout: Layout) -> None:
        self._state = state
        self._layout = layout
        self._fit: BatchFit | None = None

    def renew(self) -> None:
        """Fit curves to tokens again: some were counted."""
        self._fit = None

    @property
    def scatter(self) -> Array:
        """Return how much more completions scatter than Poisson counts, (instances,)."""
        return scatter_of(self._state.deviation, self._state.deviations, self._layout.kin)

    def slots(self, seen: Sequence[Seen]) -> Array:
        """Return the slots of each instance, (instances,), as reported or as seen so far."""
        state = self._state
        prior = self._prior_slots()
        fitted = ~np.isnan(self.batches().slowdown)
        made = np.empty(len(seen))
        for position, one in enumerate(seen):
            full, highest = state.full[position], state.highest[position]
            if one.slots is not None:
                made[position] = one.slots
            elif not np.isnan(full):
                made[position] = max(full, 0.9 * highest)
            else:
                guess = _GUESS_KNOWN if fitted[position] else _GUESS
                made[position] = max(prior[position], guess * highest + 1.0)
        return np.maximum(made, 1.0)

    def _prior_slots(self) -> Array:
        """Return the slots of instances never seen full: those of others of its model that were.

        A default that is several times too large draws everything to anyone who has not been full.
        """
        slots = self._layout.slots.copy()
        for group in self._layout.kin:
            members = list(group)
            full = self._state.full[members]
            unstated = [m for m in members if not self._layout.stated_slots[m]]
            if unstated and np.count_nonzero(~np.isnan(full)) >= _ENOUGH_FULL:
                slots[unstated] = np.nanmedian(full)
        return slots

    def weights(self) -> Array:
        """Return how likely each candidate slowdown is, (instances, slowdowns)."""
        batching = np.array([instance.engine in _BATCHING for instance in self._layout.instances])
        prior = np.where(
            batching[:, None],
            -0.5 * ((SLOWDOWNS - 0.08) / 0.08) ** 2,
            np.where(SLOWDOWNS > 0, -8.0 - 2.0 * SLOWDOWNS, 0.0),
        )
        score = self._state.score + prior
        weights = np.exp(score - score.max(axis=1, keepdims=True))
        normal: Array = weights / weights.sum(axis=1, keepdims=True)
        found = self.batches().slowdown
        fitted = ~np.isnan(found)
        normal[fitted] = _split(found[fitted])
        return normal

    def batches(self) -> BatchFit:
        """Return what tokens say of the curves."""
        if self._fit is None:
            prompts, outputs, _ = self._state.written.T
            ratio = prompts / np.maximum(outputs, 1.0)
            self._fit = fit_batches(self._state.tokens, ratio)
        return self._fit

    def _known_count(self) -> Array:
        """Return the completions that each pace is known from, (instances,)."""
        made: Array = np.where(self._written(), self._state.written[:, 2], self._state.count)
        return made

    def _written(self) -> NDArray[np.bool_]:
        """Return where tokens say the pace, (instances,)."""
        known = (self._state.written[:, 2] >= _ENOUGH_WRITTEN) & (self._state.doubted == 0.0)
        made: NDArray[np.bool_] = known & ~np.isnan(self.batches().alone)
        return made

    def _of_tokens(self, pace: Array) -> Array:
        """Return *pace*, (instances,), or what tokens say of it where they say anything.

        A request takes as long alone as its tokens do. Completions follow the number inside by a
        service time, and are counted over a mean number that gauges do not show.
        """
        written = self._written()
        return np.where(written, self.written_pace(), pace) if written.any() else pace

    def written_pace(self) -> Array:
        """Return the pace that tokens showed, (instances,); not a number where they show none."""
        return self.batches().alone * self._lengths()

    def _lengths(self) -> Array:
        """Return the output tokens of a request of ordinary size at each instance, (instances,).

        They are the clients' and not the machine's, so that instances of one model differ by what
        else they serve, and else by chance (`_common_mean`).
        """
        _, outputs, count = self._state.written.T
        length: Array = outputs / np.maximum(count, 1.0)
        noise = tolerated(self.scatter) / np.maximum(count, 1.0)
        for group in self._layout.kin:
            asked = [m for m in group if count[m] >= _ENOUGH_WRITTEN and outputs[m] > 0.0]
            if len(asked) < _ENOUGH:
                continue
            own = np.log(length[asked])
            centre, between = common_mean(own, noise[asked])
            length[asked] = np.exp(own + pull_to(centre, between, own, noise[asked]))
        return length

    def prior_pace(self) -> Array:
        """Return the pace of instances not seen yet: what the others of its model show."""
        state = self._state
        pace = self._layout.pace.copy()
        weights = self.weights()
        exposure = (state.exposure * weights).sum(axis=1)
        for group in self._layout.kin:
            members = list(group)
            reported = [m for m in members if self._layout.instances[m].service_time is None]
            count = state.count[members].sum()
            if count > 20 and reported:
                pace[reported] = max(exposure[members].sum() / count, _LEAST_PACE)
        return pace

    def pace(self) -> Array:
        """Return the believed pace of every instance."""
        weights = self.weights()
        exposure = (self._state.exposure * weights).sum(axis=1)
        return self._posterior(exposure, self.prior_pace())

    def _posterior(self, exposure: Array, prior: Array) -> Array:
        """Return the pace by what was completed in *exposure* work, or by tokens where counted."""
        pace = (exposure + PRIOR_COUNT * prior) / (self._state.count + PRIOR_COUNT)
        return self._of_tokens(pace)

    def _shrink(self, pace: Array, seen: Sequence[Seen]) -> Array:
        """Pull paces towards the mean of their model, as far as they may be the same.

        Empirical Bayes (Efron and Morris 1973): where instances differ no more than chance
        explains, their common mean is the better estimate of each; where they do differ, each
        keeps its own. No pace moves by more than `_MOST_PULL` of its standard errors (limited
        translation, Efron and Morris 1972): one that crawls is no accident, though all others are
        alike. What has hardly been asked is pulled most: first requests that seemed slow would
        leave it out for as long as they are remembered.

        Machines of one kind, by all that is known but their pace, count as equal until they show
        that they are not: a promise turns the difference of their first answers into seconds of
        cost, and the one left out cannot show that it is no slower.
        """
        count, scatter = self._known_count() + PRIOR_COUNT, self.scatter
        cautious = tolerated(scatter) / count
        measured = np.maximum(scatter, _LEAST_SCATTER) / count
        limit = _MOST_PULL * np.sqrt(cautious)
        shrunk = pace.copy()
        for group in self._layout.kin:
            members = [m for m in group if self._layout.instances[m].service_time is None]
            asked = [m for m in members if self._state.count[m] > 0.0]
            like = self._of_one_kind(members, seen)
            if not asked or (not like and len(members) < _ENOUGH):
                continue
            noise = measured if like else cautious
            centre, between = common_mean(np.log(pace[asked]), noise[asked], equal=like)
            pull = pull_to(centre, between, np.log(pace[members]), noise[members])
            pull = np.clip(pull, -limit[members], limit[members])
            shrunk[members] = pace[members] * np.exp(pull)
        return shrunk

    def _of_one_kind(self, members: Sequence[int], seen: Sequence[Seen]) -> bool:
        """Return whether nothing but their pace says that *members* are different machines."""
        if len({self._layout.instances[member].engine for member in members}) > 1:
            return False
        known = self._state.full[members]
        for place, member in enumerate(members):
            stated = self._layout.slots[member] if self._layout.stated_slots[member] else None
            known[place] = seen[member].slots or stated or known[place]
        if np.isnan(known).all():
            return True
        most = max(np.nanmax(known), self._state.highest[members].max())
        return bool(most < _LIKE * np.nanmin(known))

    def make(self, view: FleetView, seen: Sequence[Seen], slots: Array) -> list[Estimate]:
        """Return the estimates, of the instances as *view* shows them and as they were *seen*."""
        state = self._state
        weights = self.weights()
        slowdown = weights @ SLOWDOWNS
        prior = self.prior_pace()
        exposure = _between(state.exposure, slowdown)
        pace = np.maximum(self._posterior(exposure, prior), _LEAST_PACE)
        pace = self._shrink(pace, seen)
        dispersion = tolerated(self.scatter)
        error = np.sqrt(dispersion / (self._known_count() + dispersion))
        shown = [view.instances[instance.name] for instance in self._layout.instances]
        # What was measured fades to the prior as the silence grows.
        reported = np.minimum(1.0, 3.0 * np.array([each.confidence for each in shown]))
        training = np.array([one.training for one in seen])
        own = pace**reported * prior ** (1.0 - reported)
        hope = np.minimum(prior / own, 1.0)
        values = zip(
            slots.tolist(),
            slowdown.tolist(),
            (own / (1.0 - training)).tolist(),
            error.tolist(),
            hope.tolist(),
            strict=True,
        )
        witnesses = np.where(state.understated, state.observed, 0.0).tolist()
        counted = (state.count != 0.0).tolist()
        return [
            Estimate(
                *each,
                number=None if one.gauge is None else max(one.gauge.number, witness),
                number_age=max(0.0, view.at - one.gauge.at) if one.gauge is not None else 0.0,
                source=one.gauge.source if one.gauge is not None and learned else "prior",
            )
            for each, one, witness, learned in zip(values, seen, witnesses, counted, strict=True)
        ]


def _between(values: Array, slowdown: Array) -> Array:
    """Return *values*, (instances, slowdowns), at the *slowdown* of each, (instances,)."""
    low = np.clip(np.searchsorted(SLOWDOWNS, slowdown, side="right") - 1, 0, len(SLOWDOWNS) - 2)
    rows = np.arange(len(values))
    first, second = values[rows, low], values[rows, low + 1]
    slope = (second - first) / (SLOWDOWNS[low + 1] - SLOWDOWNS[low])
    made = slope * (slowdown - SLOWDOWNS[low]) + first
    return np.where(slowdown >= SLOWDOWNS[-1], second, made)


def _split(slowdowns: Array) -> Array:
    """Return weights of the two candidates nearest to each of *slowdowns*, whose mean it is."""
    made = np.zeros((len(slowdowns), len(SLOWDOWNS)))
    rows = np.arange(len(slowdowns))
    upper = np.clip(np.searchsorted(SLOWDOWNS, slowdowns), 1, len(SLOWDOWNS) - 1)
    low, high = SLOWDOWNS[upper - 1], SLOWDOWNS[upper]
    made[rows, upper] = np.clip((slowdowns - low) / (high - low), 0.0, 1.0)
    made[rows, upper - 1] = 1.0 - made[rows, upper]
    return made
