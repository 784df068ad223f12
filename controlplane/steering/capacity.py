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
from controlplane.steering.busy import busy_level, mean_busy, work_rate
from controlplane.steering.capacity_estimates import CapacityEstimates
from controlplane.steering.capacity_evidence import ALARM, count_completions, count_tokens
from controlplane.steering.capacity_state import CapacityState
from controlplane.steering.estimate import Estimate
from controlplane.steering.latency import Array
from controlplane.steering.layout import Layout
from controlplane.steering.observation import REPORTED, Seen, read_instance, sum_traffic
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
        pace = estimates.pace()
        size = len(seen)
        count = np.zeros(size)
        exposure = np.zeros((size, len(SLOWDOWNS)))
        spans = np.zeros(size)
        tokens = np.full((size, 5), np.nan)
        lifetimes = np.zeros(size)
        for position, one in enumerate(seen):
            gauge, last = one.gauge, state.gauges[position]
            if gauge is None or (last is not None and gauge.at <= last.at):
                continue
            state.gauges[position] = gauge
            if last is None:
                continue
            span = gauge.at - last.at
            correction = self._correct(position, one, 0.5 * (gauge.number + last.number))
            completed = one.completed
            if completed is None or one.completed_at < gauge.at - span:
                continue
            residence = one.residence
            if residence is not None and correction <= 1.0:
                # Latencies are reported when they end, however long before they began: no more can
                # have been inside than those who left and those who are still there.
                residence = min(residence, completed * span / one.size + gauge.number)
            busy = mean_busy(
                last, gauge, correction, residence=residence, ratio=span / pace[position],
                slots=slots[position], level=busy_level(residence, slots[position]),
            )  # fmt: skip
            count[position] = completed * span
            exposure[position] = work_rate(busy) * span * (1.0 - one.training)
            spans[position] = span
            lifetimes[position] = span / _lifetime(one, residence, pace[position])
            if one.output is not None and gauge.source == last.source == REPORTED:
                tokens[position] = (
                    0.5 * (gauge.running + last.running),
                    gauge.running - last.running,
                    completed * span / one.size,
                    one.output / (1.0 - one.training),
                    one.prompt / (1.0 - one.training),
                )
        sizes = np.array([one.size for one in seen])
        batched = count_tokens(
            state, estimates, tokens, count, sizes=sizes, spans=spans, lifetimes=lifetimes, now=now
        )
        count_completions(
            state, estimates, count=count, exposure=exposure, spans=spans, batched=batched,
            kin=layout.kin, alarm=self._alarm, now=now,
        )  # fmt: skip

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


def _lifetime(one: Seen, residence: float | None, pace: float) -> float:
    """Return the seconds that a request is inside: as seen, whatever *pace* is believed."""
    ended = (one.completed or 0.0) / one.size
    return residence / ended if residence and ended > 0.0 else pace
