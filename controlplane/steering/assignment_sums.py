"""Assignments as a whole: their digests, notes and sums, without making each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from controlplane.steering.assignments import Assignments
from controlplane.steering.digest import assignment_digest
from controlplane.steering.layout import Key
from controlplane.steering.lazy_assignments import LazyAssignments
from controlplane.steering.plan import Assignment


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
