"""Where instances are, and which of them may be at one place: the one module that says so."""

from __future__ import annotations

from collections.abc import Iterable

from controlplane.config.schema.instances import Instance
from controlplane.config.schema.services import Service

Place = tuple[str, str]
"""Device site, or empty, and address: addresses of devices are each device's own."""


def place_of(instance: Instance, devices: Iterable[str]) -> Place:
    """Return where *instance* is; *devices* are the names of device sites."""
    return instance.site if instance.site in devices else "", instance.address


class Places:
    """The instances at each place.

    Args:
        services: no service may have two instances at one place, since Envoys know the instances
            of a service by their addresses.
    """

    def __init__(self, services: Iterable[Service]) -> None:
        self._by_model: dict[str, set[str]] = {}
        for service in services:
            for model in service.models:
                self._by_model.setdefault(model.name, set()).add(service.name)
        self._instances: dict[Place, list[Instance]] = {}

    def rival(self, place: Place, instance: Instance) -> Instance | None:
        """Return an instance at *place* that leaves *instance* no room there; None if none does.

        Several have room behind a gateway that distinguishes them, if no service has two of them.
        """
        return next(
            (
                other
                for other in self._instances.get(place, ())
                if other.gateway == instance.gateway or self.shared(other, instance)
            ),
            None,
        )

    def shared(self, one: Instance, other: Instance) -> set[str]:
        """Return the names of the services that list models of both."""
        return self._services(one) & self._services(other)

    def add(self, place: Place, instance: Instance) -> None:
        """Note that *instance* is at *place*."""
        self._instances.setdefault(place, []).append(instance)

    def _services(self, instance: Instance) -> set[str]:
        names: set[str] = set()
        return names.union(*(self._by_model.get(each, ()) for each in instance.model_names))
