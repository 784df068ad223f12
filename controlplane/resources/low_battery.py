"""What the clients on devices get whose battery is low: their own model comes after the others.

Such a device has the weights of its class without its own model, which is the next priority: it
answers what those do not, and all while the link is away. What is to be used at other sites when
one is lost comes after it. The views are derived from those of its class.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from envoy.config.endpoint.v3 import endpoint_pb2
from google.protobuf import any_pb2

from controlplane.resources import names
from controlplane.resources.endpoints import ANY_ONE_OF_P0
from controlplane.xds.snapshot import Snapshot, TypeSnapshot, make_resource, view_key
from controlplane.xds.types import ENDPOINT, Resource


class LowBatteryViews:
    """Derives views; only sites that have such clients are derived."""

    def __init__(self) -> None:
        self._derived: dict[str, tuple[Snapshot, Snapshot]] = {}
        """Site -> the view of its class, and the one that came of it."""

    def build(self, views: Mapping[str, Snapshot], sites: Collection[str]) -> dict[str, Snapshot]:
        """Derive the views of the device *sites* from *views*, by site.

        Returns:
            View key -> snapshot.
        """
        found = {}
        for site in sites:
            if site not in views:
                continue
            known = self._derived.get(site)
            if known is None or known[0] is not views[site]:
                known = views[site], _derive(views[site], site)
                self._derived[site] = known
            found[view_key(site, variant=names.LOW_BATTERY)] = known[1]
        return found


def _derive(snapshot: Snapshot, site: str) -> Snapshot:
    endpoints = snapshot.of_type(ENDPOINT)
    changed = TypeSnapshot.of(
        put_site_second(resource, site) for resource in endpoints.resources.values()
    )
    if changed.version == endpoints.version:
        return snapshot
    return Snapshot(MappingProxyType({**snapshot.types, ENDPOINT: changed}))


def put_site_second(resource: Resource, site: str) -> Resource:
    """Return an assignment with the endpoints of *site* as its second priority.

    The very one if they come after others already, if there are none, or if there are no others.
    """
    whole = endpoint_pb2.ClusterLoadAssignment.FromString(
        any_pb2.Any.FromString(resource.body).value
    )
    own = [group for group in whole.endpoints if group.locality.sub_zone == site]
    others = [group for group in whole.endpoints if group.locality.sub_zone != site]
    if not own or not others:
        return resource
    levels = sorted({group.priority for group in others})
    if min(group.priority for group in own) > levels[0]:
        return resource
    changed = endpoint_pb2.ClusterLoadAssignment(cluster_name=whole.cluster_name)
    changed.policy.CopyFrom(whole.policy)
    placed = [(group, 1) for group in own]
    for group in others:
        level = levels.index(group.priority)
        placed.append((group, level + 1 if level else 0))
    for group, priority in sorted(placed, key=lambda each: each[1]):
        added = changed.endpoints.add()
        added.CopyFrom(group)
        for endpoint in added.lb_endpoints:
            # Its own model shares nothing here: a retry goes there last.
            endpoint.metadata.filter_metadata.pop(names.LOAD_BALANCING, None)
        added.priority = priority
    changed.policy.overprovisioning_factor.value = ANY_ONE_OF_P0
    packed = any_pb2.Any(type_url=ENDPOINT, value=changed.SerializeToString(deterministic=True))
    return make_resource(resource.name, packed.SerializeToString(deterministic=True))
