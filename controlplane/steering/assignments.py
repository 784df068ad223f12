"""A decision as assignments: each is made when someone asks for it, with its terms.

What goes to Envoys is known of every row at once, as a digest; so a row that stays as it is costs
next to nothing, in a plan of ten thousand rows too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np

from controlplane.steering.decision import Decision
from controlplane.steering.digest import (
    Words,
    assignment_digest,
    drop_words,
    name_words,
    plan_version,
    term_words,
)
from controlplane.steering.explain import (
    RowSpan,
    excluded,
    explain_exclusions,
    explain_fallback,
    explain_share,
)
from controlplane.steering.latency import Array
from controlplane.steering.layout import Key
from controlplane.steering.plan import Allocation, Assignment, Why
from controlplane.steering.problem import Row
from controlplane.steering.weights import round_shares


class LazyAssignments(Mapping[Key, Assignment]):
    """Assignments of which digests and sums are known without making them."""

    @abstractmethod
    def digest(self, key: Key) -> bytes:
        """Return the digest of what Envoys get of one assignment."""

    @abstractmethod
    def sums(self, service: str) -> tuple[dict[tuple[str, str], int], float]:
        """Return the weights of one service, added up over client sites, and its drop.

        By (instance, site), of what is used first; devices may be left out.
        """

    @abstractmethod
    def keys_with(self, instances: Collection[str]) -> set[Key]:
        """Return the keys of the assignments that send anything to any of *instances*."""


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
        self._latencies = _mean_latencies(decision)
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
        known: dict[tuple[int, ...], Words] = {}
        for chosen in self._fallbacks.values():
            if chosen not in known:
                weights = np.array(self._fallback_weights(chosen), dtype=np.int64)
                words = term_words(names[list(chosen)], weights, 1)
                known[chosen] = words.sum(axis=1, dtype=np.uint64)
        if self._fallbacks:
            rows = np.fromiter(self._fallbacks, dtype=np.intp)
            totals[place[rows]] += np.array([known[c] for c in self._fallbacks.values()])
        for service, drop in decision.drops.items():
            if service in self._rows:
                totals[service * self._sites : (service + 1) * self._sites] += drop_words(drop)
        for number, row in enumerate((*decision.problem.rows, *decision.problem.empty)):
            spare = self._spare(number, row)
            if spare:
                priority = self._device_priority(number, row)
                devices = self._device_weights(spare)
                weights = np.array(list(devices.values()), dtype=np.int64)
                words = term_words(names[list(devices)], weights, priority)
                terms = words.sum(axis=1, dtype=np.uint64)
                totals[row.service * self._sites + row.site] += terms
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
        fall = [
            self._allocate(span, column, weight / total, weight, 1)
            for column, weight in zip(chosen, self._fallback_weights(chosen), strict=True)
        ]
        allocations += sorted(fall, key=lambda each: each.instance)
        allocations += self._allocate_devices(
            row, self._spare(number, row), priority=self._device_priority(number, row)
        )
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

    def _fallback_weights(self, chosen: tuple[int, ...]) -> list[int]:
        """Return the weights of fallback instances, by the slots that the configuration says."""
        if not chosen:
            return []
        layout = self._layout
        slots = {layout.instances[column].name: layout.slots[column] for column in chosen}
        whole = sum(slots.values())
        weights = round_shares(
            {name: count / whole for name, count in slots.items()},
            total=layout.config.steering.weight_sum,
        )
        return [weights[layout.instances[column].name] for column in chosen]

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

    def _device_priority(self, number: int, row: Row) -> int:
        """Return the priority of a row's own devices: the last resort, or all that there is."""
        if row.service not in self._rows:
            return 0
        return 2 if number in self._fallbacks else 1

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

    def _device_weights(self, devices: tuple[int, ...]) -> dict[int, int]:
        """Return device -> weight, by believed capacity."""
        layout = self._layout
        rate = {d: self._decision.estimates[d].capacity for d in devices}
        names = {layout.instances[d].name: d for d in devices}
        weights = round_shares(
            {name: rate[d] / sum(rate.values()) for name, d in names.items()},
            total=layout.config.steering.weight_sum,
        )
        return {names[name]: weight for name, weight in sorted(weights.items())}

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
                reason=partial(self._explain_device, row, device, priority),
            )
            for device, weight in self._device_weights(devices).items()
        ]

    def _explain_device(self, row: Row, device: int, priority: int) -> Why:
        layout, estimate = self._layout, self._decision.estimates[device]
        service = layout.services[row.service]
        near = layout.config.network.local_rtt
        size = float(self._decision.sizes[row.service])
        alone = estimate.pace * size
        confidence = self._decision.view.instances[layout.instances[device].name].confidence
        return Why(
            rtt=near,
            transfer=0.0,
            penalty=float(service.penalty[device]),
            energy=0.0,
            carbon=0.0,
            price=0.0,
            loading=0.0,
            failure=0.0,
            promise=0.0,
            service=alone,
            queueing=0.0,
            crowding=0.0,
            predicted_latency=near + alone,
            arrival_rate=0.0,
            capacity=estimate.capacity / size,
            confidence=confidence * estimate.known,
            previous_share=0.0,
            limits=("the client's own device, the last resort",) if priority else (),
        )


_UNUSABLE = "no usable instance"


def _mean_latencies(decision: Decision) -> Array:
    """Return the mean latency that is predicted for each row, (rows,), seconds."""
    problem, flow = decision.problem, decision.problem.flow
    if not len(flow.row):
        return np.zeros(0)
    own = problem.rtt + problem.transfer + flow.work * decision.inside[flow.column]
    used = np.where(decision.weights > 0, decision.shares, 0.0)
    whole = np.maximum(np.add.reduceat(used, flow.starts), np.finfo(float).tiny)
    mean: Array = np.add.reduceat(used * own, flow.starts) / whole
    return mean


class Noted(Mapping[Key, Assignment]):
    """The same assignments, each with a note of why they stay."""

    def __init__(self, assignments: Mapping[Key, Assignment], note: str) -> None:
        self.assignments: Mapping[Key, Assignment] = (
            assignments.assignments if isinstance(assignments, Noted) else assignments
        )
        self.note = note

    def __getitem__(self, key: Key) -> Assignment:
        """Return one assignment."""
        return replace(self.assignments[key], note=self.note)

    def __iter__(self) -> Iterator[Key]:
        """Return the keys."""
        return iter(self.assignments)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.assignments)


def digest_of(assignments: Mapping[Key, Assignment], key: Key) -> bytes:
    """Return the digest of what Envoys get of one assignment, without making it where possible."""
    if isinstance(assignments, Noted):
        return digest_of(assignments.assignments, key)
    if isinstance(assignments, LazyAssignments):
        return assignments.digest(key)
    return assignment_digest(assignments[key])


def notes_of(assignments: Mapping[Key, Assignment]) -> dict[Key, str]:
    """Return what is to be said of assignments, without making all of them where possible."""
    if isinstance(assignments, Noted):
        return dict.fromkeys(assignments, assignments.note)
    if isinstance(assignments, Assignments):
        return assignments.notes
    return {key: each.note for key, each in assignments.items() if each.note}


def sums_of(
    assignments: Mapping[Key, Assignment], service: str
) -> tuple[dict[tuple[str, str], int], float]:
    """Return the weights of *service*, added up over client sites, and its largest drop.

    By (instance, site), of what is used first.
    """
    if isinstance(assignments, Noted):
        return sums_of(assignments.assignments, service)
    if isinstance(assignments, LazyAssignments):
        return assignments.sums(service)
    return add_up(assignments, service)


def add_up(
    assignments: Mapping[Key, Assignment], service: str
) -> tuple[dict[tuple[str, str], int], float]:
    """Return what `sums_of` does, from the assignments themselves."""
    found: dict[tuple[str, str], int] = {}
    drop = 0.0
    for key in assignments:
        if key[0] != service:
            continue
        assignment = assignments[key]
        drop = max(drop, assignment.drop)
        for each in assignment.allocations:
            if each.priority == 0:
                place = each.instance, each.site
                found[place] = found.get(place, 0) + each.weight
    return found, drop


def keys_with(assignments: Mapping[Key, Assignment], instances: Collection[str]) -> set[Key]:
    """Return the keys of the assignments that send anything to any of *instances*."""
    if isinstance(assignments, Noted):
        return keys_with(assignments.assignments, instances)
    if isinstance(assignments, LazyAssignments):
        return assignments.keys_with(instances)
    return {
        key
        for key, assignment in assignments.items()
        if any(each.instance in instances for each in assignment.allocations)
    }
