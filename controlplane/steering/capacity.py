"""Learning the curve of every instance from what it does, with the uncertainty carried along.

With n requests inside, an engine does work at the rate phi(n) = m / (1 + b (m - 1)), m = min(n, B)
(see `controlplane.steering.latency`), so in t seconds it completes about phi(n) t / s requests.
Occupancy and completions are what every engine reports, whatever else it lacks, and both are
exact by Little's law. So:

* **Pace** s: completions over exposure, a Gamma posterior. No regression, nothing that blows up
  when an instance is saturated or idle.
* **Slowdown** b: a grid of candidates, each with its own pace, weighted by how well it predicted
  the completions, from a prior that the kind of engine gives. Where an engine counts tokens as it
  makes them, these say slowdown and pace instead (`controlplane.steering.token_rates`).
* **Slots** B: what runs while others wait; while no one was ever seen waiting, a little more
  than was ever seen running.
* **Change**: a generalised likelihood ratio of the last seconds against what is believed (Lorden
  1971; Willsky and Jones 1976). When it speaks, older evidence is forgotten at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from controlplane.fleet.view import FleetView
from controlplane.steering.busy import Intervals, mean_busy, work_rate
from controlplane.steering.capacity_estimates import CapacityEstimates
from controlplane.steering.capacity_evidence import ALARM, count_completions, count_tokens
from controlplane.steering.capacity_state import CapacityState
from controlplane.steering.estimate import Estimate
from controlplane.steering.knots import Places
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.observation import (
    REPORTED,
    Gauge,
    Seen,
    read_instance,
    sum_traffic,
)
from controlplane.steering.sizes import SizeLearner
from controlplane.steering.token_rates import SLOWDOWNS


class CapacityLearner:
    """Keeps an estimate of each instance, renewed every cycle."""

    def __init__(self) -> None:
        self._state = CapacityState.new(())
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
        estimates = CapacityEstimates(self._state, layout)
        slots = estimates.slots(seen)
        self._learn_pace(seen, layout, estimates, slots, view.at)
        return estimates.make(view, seen, slots)

    def memory(self, *, now: float) -> dict[str, Any]:
        """Return what was learned as a JSON-ready document; instants become ages."""
        state = self._state
        return {name: state.saved(position, now) for position, name in enumerate(state.names)}

    def remember(self, memory: Mapping[str, Any], *, now: float) -> tuple[str, ...]:
        """Continue from what `memory` gave in another process.

        Returns:
            The names whose estimates cannot be read; they are learned from scratch.

        Raises:
            TypeError: it is no mapping; nothing was taken.
        """
        state = CapacityState.new(tuple(sorted(memory)))
        unread = []
        for position, name in enumerate(state.names):
            try:
                state.read(memory[name], position, now=now)
            except (ValueError, KeyError, TypeError):
                unread.append(name)
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
            self._state.written[:, 2] *= factor

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

    def _learn_pace(
        self,
        seen: Sequence[Seen],
        layout: Layout,
        estimates: CapacityEstimates,
        slots: Array,
        now: float,
    ) -> None:
        state = self._state
        rows, pairs = self._follow_gauges(seen)
        intervals = Intervals.of(pairs)
        correction = self._correct(rows, intervals)
        inside = intervals.inside(correction)
        pace = estimates.pace()[rows]
        busy = mean_busy(
            intervals, correction, inside=inside, ratio=intervals.span / pace, slots=slots[rows]
        )
        known = ~np.isnan(intervals.completed)
        span = np.where(known, intervals.span, 0.0)
        own = 1.0 - intervals.training
        size = len(seen)
        spans, count, lifetimes = np.zeros(size), np.zeros(size), np.zeros(size)
        exposure = np.zeros((size, len(SLOWDOWNS)))
        tokens = np.full((size, 5), np.nan)
        spans[rows] = span
        count[rows] = np.where(known, intervals.completed, 0.0) * span
        exposure[rows] = work_rate(busy) * span[:, None] * own[:, None]
        lifetimes[rows] = span / _lifetime(intervals, inside, pace)
        made = np.column_stack(
            [
                0.5 * (intervals.running + intervals.last_running),
                intervals.running - intervals.last_running,
                intervals.completed * span / intervals.size,
                intervals.output / own,
                intervals.prompt / own,
            ]
        )
        counted = known & ~np.isnan(intervals.output)
        tokens[rows[counted]] = made[counted]
        sizes = np.array([one.size for one in seen])
        batched = count_tokens(
            state, estimates, tokens, count, sizes=sizes, spans=spans, lifetimes=lifetimes, now=now
        )
        count_completions(
            state, estimates, count=count, exposure=exposure, spans=spans, batched=batched,
            kin=layout.kin, alarm=self._alarm, now=now,
        )  # fmt: skip

    def _follow_gauges(self, seen: Sequence[Seen]) -> tuple[Places, list[tuple[Gauge, Seen]]]:
        """Record new gauges; return the instances with an earlier one, beside what is seen now.

        An instance whose reports have not changed has nothing to learn from.
        """
        gauges = self._state.gauges
        rows: list[int] = []
        pairs: list[tuple[Gauge, Seen]] = []
        for position, one in enumerate(seen):
            gauge, last = one.gauge, gauges[position]
            if gauge is None or (last is not None and gauge.at <= last.at):
                continue
            gauges[position] = gauge
            if last is not None:
                rows.append(position)
                pairs.append((last, one))
        return np.array(rows, dtype=np.intp), pairs

    def _correct(self, rows: Places, intervals: Intervals) -> Array:
        """Return the factors by which claimed occupancies are too small for what Envoys observe."""
        state, number, witness = self._state, intervals.mean_number, intervals.witness
        claimed = state.claimed[rows] + 0.2 * (number - state.claimed[rows])
        old = state.observed[rows]
        observed = np.where(np.isnan(old), witness, old + 0.2 * (witness - old))
        heard = ~np.isnan(witness)
        state.claimed[rows] = claimed
        state.observed[rows] = np.where(heard, observed, old)
        doubted = heard & state.understated[rows]
        factor = np.where(number > 0, witness / np.where(number > 0, number, 1.0), 0.0)
        return np.where(doubted, factor, 1.0)


def _lifetime(intervals: Intervals, inside: Array, pace: Array) -> Array:
    """Return the seconds that a request is inside: as seen, whatever *pace* is believed."""
    ended = intervals.completed / intervals.size
    shown = (inside > 0.0) & (ended > 0.0)
    return np.where(shown, inside / np.where(shown, ended, 1.0), pace)
