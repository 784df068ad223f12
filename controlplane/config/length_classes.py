"""Which services are classes of one by the length of the body: their matches differ by it alone."""

from __future__ import annotations

from collections.abc import Sequence

from controlplane.config.schema.services import Match, Service


def group_classes(services: Sequence[Service]) -> tuple[tuple[int, ...], ...]:
    """Return the services, by index, that differ by the length of the body: two or more each."""
    if not any(match.body_size for service in services for match in service.match):
        return ()
    groups: dict[frozenset[str], list[int]] = {}
    for number, service in enumerate(services):
        if service.match:
            key = frozenset(_without_length(match) for match in service.match)
            groups.setdefault(key, []).append(number)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _without_length(match: Match) -> str:
    return match.model_copy(update={"body_size": None}).model_dump_json()
