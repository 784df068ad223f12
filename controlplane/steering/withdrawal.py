"""A plan without instances that must get no more requests, before shares are decided again.

The others keep their weights, so that their shares grow in proportion. Rows that send nothing to
what goes are not made, so a withdrawal from a large plan costs little.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from controlplane.config import Config
from controlplane.config.withdrawals import drained
from controlplane.steering.assignment_sums import add_up, digest_of, keys_with, sums_of
from controlplane.steering.digest import assignment_digest, plan_version
from controlplane.steering.layout import Key
from controlplane.steering.lazy_assignments import LazyAssignments
from controlplane.steering.plan import Assignment, Plan

Pairs = Collection[tuple[str, str]]
"""(service, instance)."""


class ReducedAssignments(LazyAssignments):
    """The assignments of a plan without what is withdrawn.

    An assignment that would lose all it has stays as it is: the decision that follows says what
    becomes of it.
    """

    def __init__(self, assignments: Mapping[Key, Assignment], pairs: Pairs) -> None:
        self._whole = assignments
        gone: dict[str, set[str]] = {}
        for service, instance in pairs:
            gone.setdefault(service, set()).add(instance)
        self._reduced: dict[Key, Assignment] = {}
        self._shifted: set[str] = set()
        """Services of which not only weights go: something else is used first, or all stays."""
        for service, names in gone.items():
            for key in sorted(k for k in keys_with(assignments, names) if k[0] == service):
                self._reduce(key, assignments[key], names)

    def _reduce(self, key: Key, assignment: Assignment, names: Collection[str]) -> None:
        before = assignment.allocations
        kept = tuple(each for each in before if each.instance not in names)
        present = sorted({each.priority for each in kept})
        if len(present) < len({each.priority for each in before}):
            self._shifted.add(key[0])
            place = {old: new for new, old in enumerate(present)}
            kept = tuple(replace(each, priority=place[each.priority]) for each in kept)
        if kept:
            self._reduced[key] = replace(assignment, allocations=kept)

    def __getitem__(self, key: Key) -> Assignment:
        """Return one assignment."""
        reduced = self._reduced.get(key)
        return self._whole[key] if reduced is None else reduced

    def __iter__(self) -> Iterator[Key]:
        """Return the keys."""
        return iter(self._whole)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._whole)

    def digest(self, key: Key) -> bytes:
        """Return the digest of what Envoys get of one assignment."""
        reduced = self._reduced.get(key)
        return digest_of(self._whole, key) if reduced is None else assignment_digest(reduced)

    def sums(self, service: str) -> tuple[dict[tuple[str, str], int], float]:
        """Return the weights of one service, added up over client sites, and its drop."""
        if service in self._shifted:
            return add_up(self, service)
        found, drop = sums_of(self._whole, service)
        found = dict(found)
        for key in (each for each in self._reduced if each[0] == service):
            kept = {each.instance for each in self._reduced[key].allocations}
            for each in self._whole[key].allocations:
                if each.priority == 0 and each.instance not in kept:
                    place = each.instance, each.site
                    if place in found:
                        found[place] -= each.weight
        return {place: weight for place, weight in found.items() if weight > 0}, drop

    def keys_with(self, instances: Collection[str]) -> set[Key]:
        """Return the keys of the assignments that send anything to any of *instances*."""
        return {
            key
            for key in keys_with(self._whole, instances)
            if any(each.instance in instances for each in self[key].allocations)
        }


def kept_under(plan: Plan, config: Config) -> Plan | None:
    """Return *plan* without what *config* lacks, has elsewhere or drains; itself if that is none.

    None where that does not do: a service or a client site has come or gone, or something would
    have nothing left.
    """
    pairs = {(service.name, site.name) for service in config.services for site in config.sites}
    if plan.assignments.keys() != pairs:
        return None
    places = {instance.name: instance.site for instance in config.instances}
    used = {
        (service, each.instance): each.site
        for (service, _), assignment in plan.assignments.items()
        for each in assignment.allocations
    }
    drains = drained(config)
    gone = {pair for pair, site in used.items() if places.get(pair[1]) != site or pair in drains}
    if not gone:
        return plan
    reduced = ReducedAssignments(plan.assignments, gone)
    left_with_none = any(
        (key[0], each.instance) in gone
        for key in reduced.keys_with({instance for _, instance in gone})
        for each in reduced[key].allocations
    )
    if left_with_none:
        return None
    digests = ((key, reduced.digest(key)) for key in reduced)
    return replace(plan, assignments=reduced, version=plan_version(digests))


def without(plan: Plan, pairs: Pairs) -> Plan:
    """Return *plan* without the (service, instance) *pairs*; the others keep their weights.

    Its version stays: no one decided it.
    """
    if not pairs:
        return plan
    return replace(plan, assignments=ReducedAssignments(plan.assignments, pairs))
