"""A decision as assignments: each is made when someone asks for it, with its terms.

What goes to Envoys is known of every row at once, as a digest; so a row that stays as it is costs
next to nothing, in a plan of ten thousand rows too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial

import numpy as np

from controlplane.steering.decision import Decision
from controlplane.steering.digest import (
    Words,
    drop_words,
    name_words,
    plan_version,
    split_words,
    term_words,
)
from controlplane.steering.explain import (
    RowSpan,
    excluded,
    explain_device,
    explain_exclusions,
    explain_fallback,
    explain_share,
    mean_latencies,
)
from controlplane.steering.layout import Key
from controlplane.steering.lazy_assignments import LazyAssignments
from controlplane.steering.plan import Allocation, Assignment
from controlplane.steering.problem import Row
from controlplane.steering.weights import device_weights, fallback_weights


class Assignments(LazyAssignments):
    """The assignments of a decision, by service and client site.

    Args:
        decision: what was decided.
        fallbacks: row -> instances to fall to when no other answers.
    """

    def __init__(self, decision: Decision, fallbacks: Mapping[int, tuple[int, ...]]) -> None:
        self._decision = decision
        self._fallbacks = fallbacks
        self._made: dict[Key, Assignment] = {}
        layout, pairs = decision.problem.layout, decision.problem.pairs
        self._layout = layout
        self._rows = {int(n): index * pairs.sites for index, n in enumerate(pairs.numbers)}
        self._starts = decision.problem.flow.starts
        self._empty = {(row.service, row.site): row for row in decision.problem.empty}
        self._latencies = mean_latencies(decision)
        self._digests = self._digest_rows()
        self.version = plan_version(zip(layout.keys, self._digests, strict=True))
        """Hash of what goes to Envoys."""

    def __getitem__(self, key: Key) -> Assignment:
        """Return one assignment."""
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._make(*divmod(self._layout.key[key], self._sites))
        return made

    def __iter__(self) -> Iterator[Key]:
        """Return the keys, services by services."""
        return iter(self._layout.keys)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._layout.keys)

    def __deepcopy__(self, memo: object) -> Assignments:
        """Return the same: nothing that is seen of it ever changes."""
        return self

    def digest(self, key: Key) -> bytes:
        """Return the digest of what Envoys get of one assignment."""
        return self._digests[self._layout.key[key]]

    def sums(self, service: str) -> tuple[dict[tuple[str, str], int], float]:
        """Return the weights of one service, added up over client sites, and its drop.

        By (instance, site), without devices and what is fallen to.
        """
        layout, decision = self._layout, self._decision
        number = layout.key[service, layout.sites[0]] // self._sites
        first = self._rows.get(number)
        if first is None:
            return {}, 0.0
        flow = decision.problem.flow
        own = (flow.row >= first) & (flow.row < first + self._sites)
        weights = np.bincount(
            flow.column[own], decision.weights[own], len(layout.instances)
        ).astype(np.int64)
        found = {
            (layout.instances[c].name, layout.instances[c].site): int(weights[c])
            for c in np.flatnonzero(np.where(layout.reach < 0, weights, 0)).tolist()
        }
        return found, decision.drops.get(number, 0.0)

    def keys_with(self, instances: Collection[str]) -> set[Key]:
        """Return the keys of the assignments that send anything to any of *instances*."""
        layout, problem = self._layout, self._decision.problem
        column = layout.column
        chosen = np.zeros(len(layout.instances), dtype=bool)
        chosen[[column[name] for name in instances if name in column]] = True
        used = (self._decision.weights > 0) & chosen[problem.flow.column]
        numbers = set(np.unique(problem.flow.row[used]).tolist())
        numbers.update(row for row, fall in self._fallbacks.items() if chosen[list(fall)].any())
        rows = [problem.rows[number] for number in numbers]
        with_devices = (row for row in (*problem.rows, *problem.empty) if row.devices)
        rows += [row for row in with_devices if chosen[list(row.devices)].any()]
        return {(layout.services[r.service].service.name, layout.sites[r.site]) for r in rows}

    @property
    def notes(self) -> dict[Key, str]:
        """Return what is to be said of assignments: fallbacks, freezes, overloads."""
        sites = self._layout.sites
        services = self._layout.services
        said = {
            (services[service].service.name, sites[site]): note
            for (service, site), note in self._decision.notes.items()
        }
        for (service, site), row in self._empty.items():
            if not row.devices:
                said.setdefault((services[service].service.name, sites[site]), _UNUSABLE)
        return said

    @property
    def _sites(self) -> int:
        return len(self._layout.sites)

    def _digest_rows(self) -> list[bytes]:
        decision, layout = self._decision, self._layout
        flow, pairs = decision.problem.flow, decision.problem.pairs
        names = name_words(instance.name for instance in layout.instances)
        totals: Words = np.zeros((len(layout.keys), 2), dtype=np.uint64)
        place = (pairs.numbers[:, None] * pairs.sites + np.arange(pairs.sites)).ravel()
        kept = np.flatnonzero(decision.weights)
        if len(kept):
            terms = term_words(names[flow.column[kept]], decision.weights[kept])
            rows, starts = np.unique(flow.row[kept], return_index=True)
            totals[place[rows]] = np.add.reduceat(terms, starts, axis=1).T
        by_priority: dict[int, dict[int, tuple[int, ...]]] = {}
        for number, chosen in self._fallbacks.items():
            by_priority.setdefault(self._fallback_priority(number), {})[number] = chosen
        for priority, fallbacks in by_priority.items():
            rows = np.fromiter(fallbacks, dtype=np.intp)
            order = {chosen: n for n, chosen in enumerate(dict.fromkeys(fallbacks.values()))}
            weights = [fallback_weights(layout, chosen) for chosen in order]
            words = split_words(names, list(order), weights, priority=priority)
            totals[place[rows]] += words[[order[chosen] for chosen in fallbacks.values()]]
        for service, drop in decision.drops.items():
            if service in self._rows:
                totals[service * self._sites : (service + 1) * self._sites] += drop_words(drop)
        for number, row in enumerate((*decision.problem.rows, *decision.problem.empty)):
            spare = self._spare(number, row)
            if spare:
                priority = self._device_priority(row)
                devices = device_weights(decision.estimates, layout, spare)
                split, amounts = tuple(devices), list(devices.values())
                words = split_words(names, [split], [amounts], priority=priority)
                totals[row.service * self._sites + row.site] += words[0]
        whole = totals.astype("<u8").tobytes()
        return [whole[start : start + 16] for start in range(0, len(whole), 16)]

    def _make(self, service: int, site: int) -> Assignment:
        first = self._rows.get(service)
        if first is None:
            return self._make_bare(self._empty[service, site])
        number = first + site
        decision, layout = self._decision, self._layout
        starts = self._starts
        end = int(starts[number + 1]) if number + 1 < len(starts) else len(decision.shares)
        row = decision.problem.rows[number]
        span = RowSpan(number, row, int(starts[number]), end)
        own = slice(span.first, span.end)
        used = np.flatnonzero(decision.weights[own])
        columns = decision.problem.flow.column[own][used].tolist()
        shares = decision.shares[own][used]
        allocations = [
            self._allocate(span, column, share, weight, 0)
            for column, share, weight in zip(
                columns,
                (shares / shares.sum()).tolist(),
                decision.weights[own][used].tolist(),
                strict=True,
            )
        ]
        allocations.sort(key=lambda each: each.instance)
        chosen = self._fallbacks.get(number, ())
        total = layout.config.steering.weight_sum
        allocations += self._allocate_devices(
            row, self._spare(number, row), priority=self._device_priority(row)
        )
        priority = self._fallback_priority(number)
        fall = [
            self._allocate(span, column, weight / total, weight, priority)
            for column, weight in zip(chosen, fallback_weights(self._layout, chosen), strict=True)
        ]
        allocations += sorted(fall, key=lambda each: each.instance)
        return Assignment(
            service=layout.services[service].service.name,
            client_site=layout.sites[site],
            policy=decision.policy_of(row),
            allocations=tuple(allocations),
            left_out=partial(explain_exclusions, decision, span, frozenset((*columns, *chosen))),
            demand=float(decision.problem.flow.demand[number]),
            note=decision.note_of(row),
            drop=decision.drops.get(service, 0.0),
            standing=decision.standing_of(row),
            predicted_latency=float(self._latencies[number]),
        )

    def _allocate(
        self, span: RowSpan, column: int, share: float, weight: int, priority: int
    ) -> Allocation:
        instance = self._layout.instances[column]
        explain = explain_fallback if priority else explain_share
        return Allocation(
            instance.name,
            instance.site,
            share,
            weight,
            priority,
            partial(explain, self._decision, span, column),
        )

    def _make_bare(self, row: Row) -> Assignment:
        """Return the assignment of a row that nothing but its own devices may serve."""
        decision, layout = self._decision, self._layout
        devices = self._allocate_devices(row, row.devices, priority=0)
        return Assignment(
            service=layout.services[row.service].service.name,
            client_site=layout.sites[row.site],
            policy=decision.policy_of(row),
            allocations=tuple(devices),
            left_out=excluded(decision, row),
            note=decision.note_of(row) or ("" if devices else _UNUSABLE),
            standing=decision.standing_of(row),
        )

    def _device_priority(self, row: Row) -> int:
        """Return the priority of a row's own devices without a share: the next, or all there is."""
        return 1 if row.service in self._rows else 0

    def _fallback_priority(self, number: int) -> int:
        """Return the priority of a row's fallbacks: after its own devices.

        A link that goes takes all instances elsewhere, and a request has few retries.
        """
        return 2 if self._spare(number, self._decision.problem.rows[number]) else 1

    def _spare(self, number: int, row: Row) -> tuple[int, ...]:
        """Return those of a row's own devices that have no share of it: an endpoint has one."""
        if not row.devices or row.service not in self._rows:
            return row.devices
        decision = self._decision
        first = int(self._starts[number])
        end = int(self._starts[number + 1]) if number + 1 < len(self._starts) else None
        own = slice(first, end)
        used = set(decision.problem.flow.column[own][decision.weights[own] > 0].tolist())
        return tuple(device for device in row.devices if device not in used)

    def _allocate_devices(
        self, row: Row, devices: tuple[int, ...], *, priority: int
    ) -> list[Allocation]:
        if not devices:
            return []
        layout = self._layout
        total = layout.config.steering.weight_sum
        return [
            Allocation(
                instance=layout.instances[device].name,
                site=layout.sites[row.site],
                share=weight / total,
                weight=weight,
                priority=priority,
                reason=partial(explain_device, self._decision, row, device, priority),
            )
            for device, weight in device_weights(self._decision.estimates, layout, devices).items()
        ]


_UNUSABLE = "no usable instance"
