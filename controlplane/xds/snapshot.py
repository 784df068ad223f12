"""All resources of one view at one instant, consistent and immutable.

A view is what the Envoys of one site share: they get the same bytes.
Versions are content hashes, so that the same content has the same version on every replica and
after every restart, and no one is sent what they hold.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from weakref import WeakValueDictionary

from controlplane.xds.holding import ClientState
from controlplane.xds.subscription import Subscription
from controlplane.xds.types import Resource


def content_version(body: bytes) -> str:
    """Return the version of a resource: 64 bits of BLAKE2b over its bytes, as hexadecimal."""
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def make_resource(name: str, body: bytes, *, ttl: float | None = None) -> Resource:
    """Name and version the serialised ``Any`` of a resource."""
    version = content_version(body if ttl is None else body + f"\0{ttl}".encode())
    return Resource(name=name, version=version, body=body, ttl=ttl)


@dataclass(frozen=True, slots=True)
class TypeSnapshot:
    """All resources of one type in one view."""

    version: str
    """Hash over the names and versions of the resources."""
    resources: Mapping[str, Resource]
    """By name, in name order."""
    shortest_ttl: float | None = None
    """Least time to live of the resources, in seconds; None if all live for ever."""
    selections: WeakValueDictionary[Subscription, ClientState] = field(
        default_factory=WeakValueDictionary, init=False, repr=False, compare=False
    )
    """What each subscription in use selects; shared by all streams that subscribe alike."""

    def select(self, subscription: Subscription) -> ClientState:
        """Return what *subscription* should hold; the same object for equal subscriptions."""
        holding = self.selections.get(subscription)
        if holding is None:
            resources, missing = subscription.choose(self.resources)
            holding = ClientState(self.version, resources, missing)
            self.selections[subscription] = holding
        return holding

    @classmethod
    def of(cls, resources: Iterable[Resource]) -> TypeSnapshot:
        """Collect *resources*; names must be unique.

        Raises:
            ValueError: two resources have one name.
        """
        by_name: dict[str, Resource] = {}
        for resource in sorted(resources, key=lambda resource: resource.name):
            if by_name.setdefault(resource.name, resource) is not resource:
                raise ValueError(f"two resources are named {resource.name!r}")
        digest = hashlib.blake2b(digest_size=8)
        for resource in by_name.values():
            digest.update(f"{resource.name}\0{resource.version}\0".encode())
        ttls = (resource.ttl for resource in by_name.values() if resource.ttl is not None)
        return cls(digest.hexdigest(), MappingProxyType(by_name), min(ttls, default=None))


EMPTY = TypeSnapshot.of(())


_ROLE_MARK = "@"
"""No site's name holds it."""


_VARIANT_MARK = "!"
"""No site's name holds it."""


def view_key(site: str, role: str = "", variant: str = "") -> str:
    """Name the view that clients of one role at one site share; a sidecar has no role.

    With *variant*, that of some of a site's clients who get other resources than the rest.
    """
    site = site.replace(_ROLE_MARK, "")
    if variant:
        site = f"{site}{_VARIANT_MARK}{variant}"
    return f"{site}{_ROLE_MARK}{role}" if role else site


def split_view_key(view: str) -> tuple[str, str]:
    """Return the site and the role of a view, without its variant."""
    site, _, role = view.partition(_ROLE_MARK)
    return site.partition(_VARIANT_MARK)[0], role


def default_view_key(view: str) -> str:
    """Return the view of the same role for clients whose site has none of its own."""
    _, mark, role = view.partition(_ROLE_MARK)
    return mark + role


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All resources of one view."""

    types: Mapping[str, TypeSnapshot]
    """Type URL -> its resources."""

    def of_type(self, type_url: str) -> TypeSnapshot:
        """Return the resources of a type; a type that is not served is empty."""
        return self.types.get(type_url, EMPTY)
