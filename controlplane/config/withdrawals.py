"""What a new configuration takes from Envoys: instances that must get no more requests.

Whatever else changed can wait until shares are decided again; these cannot.
"""

from __future__ import annotations

from collections.abc import Iterator

from controlplane.config.eligibility import drain_of
from controlplane.config.schema import Config

Withdrawn = frozenset[tuple[str, str]]
"""(service, instance) pairs of which no request may follow."""


def withdrawn(before: Config, after: Config) -> Withdrawn:
    """Return what *after* takes away: instances that it lacks or has elsewhere, and new drains."""
    places = {each.name: each.site for each in after.instances}
    gone = [each.name for each in before.instances if places.get(each.name) != each.site]
    lost = frozenset((service.name, name) for name in gone for service in after.services)
    return lost | (drained(after) - drained(before))


def drained(config: Config) -> Withdrawn:
    """Return what overrides drain."""
    return frozenset(_drained(config))


def _drained(config: Config) -> Iterator[tuple[str, str]]:
    drains = [override for override in config.overrides if override.drain]
    if not drains:
        return
    for service in config.services:
        own = [each for each in drains if each.service in (None, service.name)]
        for instance in config.instances:
            if drain_of(instance, own) is not None:
                yield service.name, instance.name
