"""Learning the curve of every instance from what it does, with the uncertainty carried along.

With n requests inside, an engine does work at the rate phi(n) = m / (1 + b (m - 1)), m = min(n, B)
(see `controlplane.steering.latency`), so in t seconds it completes about phi(n) t / s requests.
Occupancy and completions are what every engine reports, whatever else it lacks, and both are
exact by Little's law. So:

* **Pace** s: completions over exposure, a Gamma posterior. No regression, nothing that blows up
  when an instance is saturated or idle.
* **Slowdown** b: a grid of candidates, each with its own pace, weighted by how well it predicted
  the completions, from a prior that the kind of engine gives.
* **Slots** B: what runs while others wait; while no one was ever seen waiting, a little more
  than was ever seen running.
* **Change**: a generalised likelihood ratio of the last seconds against what is believed (Lorden
  1971; Willsky and Jones 1976). When it speaks, older evidence is forgotten at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from controlplane.config import Engine
from controlplane.fleet.view import FleetView
from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.observation import REPORTED, Gauge, Seen, read_instance, sum_traffic
from controlplane.steering.sizes import SizeLearner

SLOWDOWNS: Array = np.array([0.0, 0.02, 0.05, 0.08, 0.12, 0.17, 0.23, 0.32, 0.5])
"""Candidates for the slowdown."""

_BATCHING = frozenset({Engine.VLLM, Engine.SGLANG, Engine.TRTLLM, Engine.TGI, Engine.EPP})

MEMORY = 90.0
"""Seconds, in which some instance of the model is asked, over which unchanging evidence is kept."""

DISPERSION = 1.5
"""Variance of completions over that of a Poisson count, with which they are judged: what was
measured of it times this, and this at least, for a change has to be more than bad luck. Requests
of very different length, and prompts read one after another, end in clumps, whose variance is
several times as large."""

_MOST_DISPERSION = 12.0
_DISPERSION_COUNT = 20.0
"""Observations that the dispersion of the others of a model is worth, and of all that of Poisson
counts."""
_OUTLIER = 36.0
"""Largest squared deviation that counts for the dispersion, and none that is called a change: it
would hide the next one."""

ALARM = 4.5
"""Log likelihood ratio at which one of `_FEW` instances counts as changed; of more, each must show
it more clearly, for one of them is always unlucky (Bonferroni)."""
_FEW = 12

NEAR = 5.0
"""Service times between two gauges up to which gauges say more than the mean number inside."""

_WINDOW = 8
"""Observations among which a change is looked for."""

_LEAST_PACE = 1e-4
"""Seconds of work in a request, at least: gauges may find an instance empty each time, though it
completes requests in between."""
_ENOUGH_FULL = 3
"""Instances of a model that must have been full for their slots to say of the others'."""
_PRIOR_COUNT = 1.0
"""Completions that the prior of the pace is worth."""


_ENOUGH, _MOST_PULL = 4, 2.0
"""Instances of a model whose common mean is worth more than each one's own pace, and the standard
errors by which that moves a pace at most."""


@dataclass(slots=True)
class _State:
    """What is remembered of all instances; the first axis is theirs."""

    names: tuple[str, ...]
    count: Array
    """(instances,): completions remembered."""
    exposure: Array
    """(instances, slowdowns): work remembered."""
    score: Array
    """(instances, slowdowns): log likelihood remembered."""
    full: Array
    """(instances,): requests running when others waited; not a number if never seen."""
    highest: Array
    """(instances,): most requests running, slowly forgotten."""
    window_count: Array
    """(instances, window): latest completions, newest last."""
    window_exposure: Array
    """(instances, window, slowdowns)."""
    claimed: Array
    """(instances,): smoothed number inside by its own word."""
    observed: Array
    """(instances,): smoothed number inside by Envoys' word."""
    gauges: list[Gauge | None]
    changed_at: Array
    """(instances,): when a change was last noticed; not a number if never."""
    deviation: Array
    """(instances,): squared deviations of completions from the estimate, over Poisson's."""
    deviations: Array
    """(instances,): how many of them are remembered."""

    @staticmethod
    def new(names: tuple[str, ...]) -> _State:
        size, shapes = len(names), len(SLOWDOWNS)
        return _State(
            names=names,
            count=np.zeros(size),
            exposure=np.zeros((size, shapes)),
            score=np.zeros((size, shapes)),
            full=np.full(size, np.nan),
            highest=np.zeros(size),
            window_count=np.zeros((size, _WINDOW)),
            window_exposure=np.zeros((size, _WINDOW, shapes)),
            claimed=np.zeros(size),
            observed=np.full(size, np.nan),
            gauges=[None] * size,
            changed_at=np.full(size, np.nan),
            deviation=np.zeros(size),
            deviations=np.zeros(size),
        )

    def keep(self, names: tuple[str, ...]) -> _State:
        """Return the state of *names*: known ones as they are, others new."""
        fresh = _State.new(names)
        known = {name: position for position, name in enumerate(self.names)}
        for position, name in enumerate(names):
            old = known.get(name)
            if old is None:
                continue
            fresh.gauges[position] = self.gauges[old]
            for field in _ARRAYS:
                getattr(fresh, field)[position] = getattr(self, field)[old]
        return fresh


_ARRAYS = (
    "count", "exposure", "score", "full", "highest", "window_count", "window_exposure",
    "claimed", "observed", "changed_at", "deviation", "deviations",
)  # fmt: skip


_LATER = ("deviation", "deviations")
"""Those that earlier versions did not save."""


class CapacityLearner:
    """Keeps a estimate per instance, renewed every cycle."""

    def __init__(self) -> None:
        self._state = _State.new(())
        self._alarm = ALARM
        self.size_learner = SizeLearner()
        self.sizes: Array = np.ones(0)
        """(services,): work of a request, in requests of ordinary size, as last observed."""

    def observe(
        self, view: FleetView, layout: Layout, *, burstiness: float = 1.0
    ) -> list[Estimate]:
        """Follow what *view* says is new; return the estimate of every instance of *layout*.

        *burstiness* is the factor by which demand jumps from period to period: gauges say little of
        the time between them then, and a change must show itself more clearly.
        """
        self._alarm = ALARM * burstiness**2
        names = tuple(instance.name for instance in layout.instances)
        if self._state.names != names:
            self._state = self._state.keep(names)
        services = [(each.service.name, each.size) for each in layout.services]
        traffic = sum_traffic(view, layout, dict(services) | self.size_learner.size)
        seen = [read_instance(view.instances[name], traffic.get(name)) for name in names]
        waits = {
            name: one.gauge.waiting / traffic[name].rate
            for name, one in zip(names, seen, strict=True)
            if one.gauge is not None and name in traffic and traffic[name].rate > 0
        }
        self.sizes, grown = self.size_learner.observe(
            services, view.served, waits=waits, now=view.at
        )
        self._rescale(names, grown)
        self._learn_slots(seen)
        slots = self._slots(seen, layout)
        self._learn_pace(seen, layout, slots, view.at)
        return self._believe(view, seen, layout, slots)

    def memory(self, *, now: float) -> dict[str, Any]:
        """Return what was learned as a JSON-ready document; instants become ages."""
        state = self._state
        return {
            name: {
                "age" if field == "changed_at" else field: _plain(
                    now - getattr(state, field)[position]
                    if field == "changed_at"
                    else getattr(state, field)[position]
                )
                for field in _ARRAYS
            }
            for position, name in enumerate(state.names)
        }

    def remember(self, memory: Mapping[str, Any], *, now: float) -> tuple[str, ...]:
        """Go on from what `memory` gave in another process.

        Returns:
            The names whose estimates cannot be read; they are learned from scratch.

        Raises:
            TypeError: it is no mapping; nothing was taken.
        """
        state = _State.new(tuple(sorted(memory)))
        unread = []
        for position, name in enumerate(state.names):
            try:
                found = _read_estimates(memory[name], state, position, now=now)
            except (ValueError, KeyError, TypeError):
                unread.append(name)
                continue
            for field, value in found.items():
                getattr(state, field)[position] = value
        self._state = state
        return tuple(unread)

    def forget(self, instances: Collection[str]) -> None:
        """Forget what was learned of *instances*, which are then taken to be as their like.

        Requests that are never answered look like a machine that crawls, with many slots or few.
        """
        if instances:
            names = self._state.names
            left = tuple(name for name in names if name not in instances)
            self._state = self._state.keep(left).keep(names)

    @property
    def changed_at(self) -> dict[str, float]:
        """Return when each instance's change was last noticed."""
        changed = zip(self._state.names, self._state.changed_at.tolist(), strict=True)
        return {name: at for name, at in changed if not np.isnan(at)}

    def _rescale(self, names: Sequence[str], grown: Mapping[str, float]) -> None:
        """Count what was completed before by the sizes that are believed now."""
        if grown:
            factor = np.array([grown.get(name, 1.0) for name in names])
            self._state.count *= factor
            self._state.window_count *= factor[:, None]

    def _learn_slots(self, seen: Sequence[Seen]) -> None:
        state = self._state
        for position, one in enumerate(seen):
            gauge, last = one.gauge, state.gauges[position]
            if gauge is None or (last is not None and gauge.at <= last.at):
                continue
            if gauge.source != REPORTED:
                # Others cannot say who runs from who waits.
                continue
            running = gauge.running
            state.highest[position] = max(running, 0.998 * state.highest[position])
            if gauge.waiting > 0 and running >= 1:
                full = state.full[position]
                known = not np.isnan(full) and 0.5 * full < running < 2.0 * full
                state.full[position] = full + 0.3 * (running - full) if known else running

    def _learn_pace(self, seen: Sequence[Seen], layout: Layout, slots: Array, now: float) -> None:
        state = self._state
        pace = self._pace(layout)
        size = len(seen)
        count = np.zeros(size)
        exposure = np.zeros((size, len(SLOWDOWNS)))
        spans = np.zeros(size)
        for position, one in enumerate(seen):
            gauge, last = one.gauge, state.gauges[position]
            if gauge is None or (last is not None and gauge.at <= last.at):
                continue
            state.gauges[position] = gauge
            if last is None:
                continue
            span = gauge.at - last.at
            number = 0.5 * (gauge.number + last.number)
            correction = self._correct(position, one, number)
            completed = one.completed
            if completed is None or one.completed_at < gauge.at - span:
                continue
            residence = one.residence
            if residence is not None and correction <= 1.0:
                # Latencies are reported when they end, however long before they began: no more can
                # have been inside than those who left and those who are still there.
                residence = min(residence, completed * span / one.size + gauge.number)
            busy = _mean_busy(
                last,
                gauge,
                correction,
                residence=residence,
                ratio=span / pace[position],
                slots=slots[position],
                level=_level(residence, slots[position]),
            )
            count[position] = completed * span
            exposure[position] = _rate(busy) * span * (1.0 - one.training)
            spans[position] = span
        self._update(count, exposure, spans, layout, now)

    def _correct(self, position: int, one: Seen, number: float) -> float:
        """Return the factor by which a claimed occupancy is too small for what Envoys observe."""
        state = self._state
        state.claimed[position] += 0.2 * (number - state.claimed[position])
        witness = one.observed if one.observed is not None else one.residence
        if witness is None:
            return 1.0
        old = state.observed[position]
        state.observed[position] = witness if np.isnan(old) else old + 0.2 * (witness - old)
        least = 0.5 * state.observed[position]
        if state.observed[position] < 1.0 or state.claimed[position] >= least:
            return 1.0
        return float(witness / number) if number > 0 else 0.0

    def _update(
        self, count: Array, exposure: Array, spans: Array, layout: Layout, now: float
    ) -> None:
        state = self._state
        # An instance that no one asked for anything has shown nothing.
        fresh = (spans > 0) & ((count > 0) | (exposure[:, 0] > 0))
        if not fresh.any():
            return
        prior_pace = self._prior_pace(layout)
        predicted = (state.count + _PRIOR_COUNT)[:, None] / (
            state.exposure + _PRIOR_COUNT * prior_pace[:, None]
        )
        mean = np.maximum(predicted * exposure, 1e-9)
        likelihood = (count[:, None] * np.log(mean) - mean) / self._dispersion(layout)[:, None]
        likelihood -= likelihood.max(axis=1, keepdims=True)
        # However rare reports are, some dozens are kept. Beside others of its model that are asked,
        # an idle instance is forgotten, since it may be idle on old evidence; where none is asked,
        # nothing is: the silence of clients says nothing of machines.
        fade = np.exp(-spans / np.maximum(MEMORY, 30.0 * spans))
        fade = np.where(_with_kin(fresh, layout), fade, 1.0)
        # A candidate is judged by what it predicted from some evidence, not from the prior.
        ready = fresh & (state.count > 10.0)
        state.score = state.score * fade[:, None] + np.where(ready[:, None], likelihood, 0.0)
        state.count = state.count * fade + count
        state.exposure = state.exposure * fade[:, None] + exposure
        rows = np.flatnonzero(fresh)
        state.window_count[rows] = np.roll(state.window_count[rows], -1, axis=1)
        state.window_count[rows, -1] = count[rows]
        state.window_exposure[rows] = np.roll(state.window_exposure[rows], -1, axis=1)
        state.window_exposure[rows, -1] = exposure[rows]
        self._detect(rows, layout, now)

    def _detect(self, rows: NDArray[np.intp], layout: Layout, now: float) -> None:
        """Forget what was before a change, where the latest observations speak of one."""
        state = self._state
        weights = self._shape_weights(layout)
        latest = state.window_count[:, ::-1].cumsum(axis=1)
        work = state.window_exposure[:, ::-1].cumsum(axis=1)
        before = state.count[:, None] - latest
        before_work = state.exposure[:, None, :] - work
        known = before > 1.0
        mean = np.where(known, before, 0.0)[:, :, None] / np.maximum(before_work, 1e-9) * work
        mean = np.maximum((mean * weights[:, None, :]).sum(axis=2), 1e-9)
        ratio = latest * np.log(np.maximum(latest, 1e-9) / mean) - (latest - mean)
        # The estimate it is compared with is itself only known to so many completions.
        spread = 1.0 + mean / np.maximum(before, 1.0)
        ratio = np.where(known, ratio / spread, 0.0)
        ratio /= self._dispersion(layout)[:, None]
        alarm = self._alarm + math.log(max(len(ratio) / _FEW, 1.0))
        best = ratio.argmax(axis=1)
        # One observation alone may be a report that lies beside the truth.
        loudest = ratio[:, 1:].max(axis=1)
        for row in rows.tolist():
            length = int(best[row]) + 1
            if loudest[row] < alarm:
                continue
            state.count[row] = state.window_count[row, -length:].sum()
            state.exposure[row] = state.window_exposure[row, -length:].sum(axis=0)
            state.window_count[row, :-length] = 0.0
            state.window_exposure[row, :-length] = 0.0
            state.changed_at[row] = now
        judged = rows[known[rows, -1] & (loudest[rows] < alarm)]
        square = (latest - mean)[judged, -1] ** 2 / (mean * spread)[judged, -1]
        keep = 1.0 - 1.0 / MEMORY
        state.deviation[judged] = keep * state.deviation[judged] + np.minimum(square, _OUTLIER)
        state.deviations[judged] = keep * state.deviations[judged] + 1.0

    def _dispersion(self, layout: Layout) -> Array:
        """Return how much more completions scatter than Poisson counts, (instances,).

        It is that of sums over the window, since clumps of seconds are what looks like a change.
        """
        total, number = self._state.deviation, self._state.deviations
        found = np.empty(len(total))
        for group in layout.kin:
            members = list(group)
            common = total[members].sum() + _DISPERSION_COUNT
            common /= number[members].sum() + _DISPERSION_COUNT
            found[members] = total[members] + _DISPERSION_COUNT * common
            found[members] /= number[members] + _DISPERSION_COUNT
        limited: Array = np.clip(DISPERSION * found, DISPERSION, _MOST_DISPERSION)
        return limited

    def _slots(self, seen: Sequence[Seen], layout: Layout) -> Array:
        state = self._state
        prior = self._prior_slots(layout)
        made = np.empty(len(seen))
        for position, one in enumerate(seen):
            full, highest = state.full[position], state.highest[position]
            if one.slots is not None:
                made[position] = one.slots
            elif not np.isnan(full):
                made[position] = max(full, 0.9 * highest)
            else:
                made[position] = max(prior[position], 1.25 * highest + 1.0)
        return np.maximum(made, 1.0)

    def _prior_slots(self, layout: Layout) -> Array:
        """Return the slots of instances never seen full: those of others of its model that were.

        A default that is several times too large draws everything to anyone who has not been full.
        """
        slots = layout.slots.copy()
        for group in layout.kin:
            members = list(group)
            full = self._state.full[members]
            untold = [m for m in members if not layout.told_slots[m]]
            if untold and np.count_nonzero(~np.isnan(full)) >= _ENOUGH_FULL:
                slots[untold] = np.nanmedian(full)
        return slots

    def _shape_weights(self, layout: Layout) -> Array:
        batching = np.array([instance.engine in _BATCHING for instance in layout.instances])
        prior = np.where(
            batching[:, None],
            -0.5 * ((SLOWDOWNS - 0.08) / 0.08) ** 2,
            np.where(SLOWDOWNS > 0, -8.0 - 2.0 * SLOWDOWNS, 0.0),
        )
        score = self._state.score + prior
        weights = np.exp(score - score.max(axis=1, keepdims=True))
        normal: Array = weights / weights.sum(axis=1, keepdims=True)
        return normal

    def _prior_pace(self, layout: Layout) -> Array:
        """Return the pace of instances not seen yet: what the others of its model show."""
        state = self._state
        pace = layout.pace.copy()
        weights = self._shape_weights(layout)
        exposure = (state.exposure * weights).sum(axis=1)
        for group in layout.kin:
            members = list(group)
            reported = [m for m in members if layout.instances[m].service_time is None]
            count = state.count[members].sum()
            if count > 20 and reported:
                pace[reported] = max(exposure[members].sum() / count, _LEAST_PACE)
        return pace

    def _pace(self, layout: Layout) -> Array:
        """Return the believed pace of every instance."""
        weights = self._shape_weights(layout)
        exposure = (self._state.exposure * weights).sum(axis=1)
        prior = self._prior_pace(layout)
        pace: Array = (exposure + _PRIOR_COUNT * prior) / (self._state.count + _PRIOR_COUNT)
        return pace

    def _shrink(self, pace: Array, layout: Layout) -> Array:
        """Pull paces towards the mean of their model, as far as they may be the same.

        Empirical Bayes (Efron and Morris 1973): where instances differ no more than chance
        explains, their common mean is the better estimate of each; where they do differ, each
        keeps its own. No pace moves by more than `_MOST_PULL` of its standard errors (limited
        translation, Efron and Morris 1972): one that crawls is no accident, though all others are
        alike. What has hardly been asked is pulled most: first requests that seemed slow would
        leave it out for as long as they are remembered.
        """
        noise = self._dispersion(layout) / (self._state.count + _PRIOR_COUNT)
        shrunk = pace.copy()
        for group in layout.kin:
            members = [m for m in group if layout.instances[m].service_time is None]
            asked = [m for m in members if self._state.count[m] > 0.0]
            if not asked or len(members) < _ENOUGH:
                continue
            centre, between = _common_mean(np.log(pace[asked]), noise[asked])
            away, own = centre - np.log(pace[members]), noise[members]
            most = _MOST_PULL * np.sqrt(own)
            pull = np.clip(own / (between + own) * away, -most, most)
            shrunk[members] = pace[members] * np.exp(pull)
        return shrunk

    def _believe(
        self, view: FleetView, seen: Sequence[Seen], layout: Layout, slots: Array
    ) -> list[Estimate]:
        state = self._state
        weights = self._shape_weights(layout)
        slowdown = weights @ SLOWDOWNS
        prior = self._prior_pace(layout)
        exposure = np.array(
            [
                np.interp(b, SLOWDOWNS, row)
                for b, row in zip(slowdown.tolist(), state.exposure, strict=True)
            ]
        )
        pace = (exposure + _PRIOR_COUNT * prior) / (state.count + _PRIOR_COUNT)
        pace = self._shrink(np.maximum(pace, _LEAST_PACE), layout)
        dispersion = self._dispersion(layout)
        error = np.sqrt(dispersion / (state.count + dispersion))
        made = []
        for position, instance in enumerate(layout.instances):
            shown = view.instances[instance.name]
            one, gauge = seen[position], seen[position].gauge
            confidence = shown.confidence
            # What was measured fades to the prior as the silence grows.
            reported = min(1.0, 3.0 * confidence)
            own = pace[position] ** reported * prior[position] ** (1.0 - reported)
            number = None if gauge is None else gauge.number
            if (
                gauge is not None
                and state.observed[position] > 1.0
                and state.claimed[position] < 0.5 * state.observed[position]
            ):
                number = max(gauge.number, float(state.observed[position]))
            made.append(
                Estimate(
                    slots=float(slots[position]),
                    slowdown=float(slowdown[position]),
                    pace=float(own / (1.0 - one.training)),
                    uncertainty=float(error[position]),
                    hope=min(float(prior[position] / own), 1.0),
                    number=number,
                    number_age=max(0.0, view.at - gauge.at) if gauge is not None else 0.0,
                    source=gauge.source if gauge is not None and state.count[position] else "prior",
                )
            )
        return made


def _with_kin(some: NDArray[np.bool_], layout: Layout) -> NDArray[np.bool_]:
    """Return *some* instances, (instances,), and all that serve the same models as one of them."""
    every = some.copy()
    for group in layout.kin:
        members = list(group)
        every[members] = some[members].any()
    return every


def _read_estimates(
    saved: Mapping[str, Any], state: _State, position: int, *, now: float
) -> dict[str, Any]:
    """Return field -> value of one instance's saved estimates.

    Raises:
        ValueError, KeyError, TypeError: they are none.
    """
    found: dict[str, Any] = {}
    for field in _ARRAYS:
        if field == "changed_at":
            age = saved["age"]
            found[field] = np.nan if age is None else now - float(age)
            continue
        if field in _LATER and field not in saved:
            continue
        value = np.array(saved[field], dtype=float)  # none becomes not a number
        if value.shape != getattr(state, field)[position].shape or np.isinf(value).any():
            raise ValueError(field)
        found[field] = value
    return found


def _common_mean(values: Array, noise: Array) -> tuple[float, float]:
    """Return the mean of what *values* with variances *noise* measure, and how it varies.

    Its variance between instances is the one that explains what *noise* does not (DerSimonian and
    Laird 1986), in which those known well count most.
    """
    weight = 1.0 / noise
    mean = float(weight @ values / weight.sum())
    excess = float(weight @ (values - mean) ** 2) - (len(values) - 1)
    between = 0.0
    spread = float(weight.sum() - (weight @ weight) / weight.sum())
    # A single value varies with nothing; rounding alone would have it differ from its own mean.
    if len(values) > 1 and excess > 0.0 and spread > 0.0:
        between = excess / spread
    weight = 1.0 / (noise + between)
    return float(weight @ values / weight.sum()), between


def _plain(value: Any) -> Any:
    """Return floats, and none for what is not a number."""
    if np.ndim(value):
        return [_plain(each) for each in value]
    return None if np.isnan(value) else round(float(value), 9)


def _mean_busy(
    last: Gauge,
    gauge: Gauge,
    correction: float,
    *,
    residence: float | None,
    ratio: float,
    slots: float,
    level: float,
) -> float:
    """Return the mean number of requests worked on between two gauges.

    Under steady arrivals the number relaxes to its new level within about one service time, so
    the later gauge says more of the interval the more service times, *ratio*, fit into it. Where
    the sum of latencies is reported it gives the mean number inside directly (Little): both are
    averaged, for their errors differ; and where many service times fit into the interval, the
    load at which that number is the mean, *level*, says more than gauges.
    """
    late = 0.5 if ratio < 1e-3 else 1.0 / -math.expm1(-ratio) - 1.0 / ratio
    running = late * min(gauge.running * correction, slots)
    running += (1.0 - late) * min(last.running * correction, slots)
    if residence is None:
        return running
    waiting = late * gauge.waiting + (1.0 - late) * last.waiting
    short = 0.5 * running + 0.5 * min(max(residence - waiting, 0.0), slots)
    near = 1.0 / (1.0 + (ratio / NEAR) ** 2)
    return near * short + (1.0 - near) * level


def _level(residence: float | None, slots: float) -> float:
    """Return the mean number worked on by a queue with *residence* requests inside on average."""
    if residence is None:
        return 0.0
    low, high = 0.0, slots
    power = math.sqrt(2.0 * (slots + 1.0))
    for _ in range(24):
        middle = 0.5 * (low + high)
        rho = middle / slots
        inside = middle + (rho**power / (1.0 - rho) if rho < 1.0 else math.inf)
        low, high = (middle, high) if inside < residence else (low, middle)
    return low


def _rate(busy: float) -> Array:
    """Return the work done a second by *busy* requests in progress, for each candidate slowdown."""
    rate: Array = busy / (1.0 + SLOWDOWNS * max(busy - 1.0, 0.0))
    return rate
