"""From a plan to what every Envoy gets: one snapshot for each client site.

What did not change is not built again: equal endpoints are one object across sites and cycles,
and a site whose endpoints are all as before gets the very snapshot it had.
A resource that a client would refuse is left out, its last good form kept if there is one, and
the rest is published; the faults are reported beside it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import betterproto2

from controlplane.config import Config, Site, SiteKind, SiteListener
from controlplane.config.eligibility import may_serve
from controlplane.resources import names
from controlplane.resources.clusters import build_cluster
from controlplane.resources.endpoints import EndpointEncoder
from controlplane.resources.listeners import build_listener
from controlplane.resources.packing import to_resource
from controlplane.resources.routes import build_routes
from controlplane.resources.validate import allocation_faults, constraint_faults
from controlplane.resources.views import Fault, Views
from controlplane.steering.assignment_sums import digest_of, sums_of
from controlplane.steering.plan import Allocation, Plan
from controlplane.xds.snapshot import EMPTY, Snapshot, TypeSnapshot
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource

UNKNOWN_SITE = ""
"""The view of an Envoy whose site the configuration does not name."""
_Places = tuple[frozenset[str], frozenset[str]]
"""Services that have a lower priority at a client site, and those that its own model serves."""
_Key = tuple[str, bytes]
"""A service, and the digest of what its endpoints are made from."""


class SnapshotBuilder:
    """Builds the snapshots of one configuration; a new configuration takes a new builder.

    Listener, routes and clusters are built once, here; `build` makes the endpoints of a plan.

    Args:
        config: the configuration.
        previous: the builder of the configuration before. What cannot be built now stays as it
            was there: an Envoy whose listener is left out would stop to serve.
    """

    def __init__(self, config: Config, *, previous: SnapshotBuilder | None = None) -> None:
        self._config = config
        self._previous = previous
        self._instances = {instance.name: instance for instance in config.instances}
        self._encoder = EndpointEncoder(
            config.sites, config.instances, services=config.services, models=config.models
        )
        self._static_faults: list[Fault] = []
        self._clusters = TypeSnapshot.of(self._valid_clusters())
        self._listeners = self._build_listeners()
        self._routes = self._build_routes()
        self._fallback_of = dict(self._fallbacks())
        self._partial_routes: dict[tuple[_Places, frozenset[str]], TypeSnapshot] = {}
        self._idle = {
            service.name: self._encoder.encode(service.name, ()).version
            for service in config.services
        }
        """Service -> version of its endpoints if there are none."""
        self._encoded: dict[_Key, Resource] = {}
        self._good: dict[tuple[str, str], Resource] = {}
        """(service, view) -> endpoints as last published."""
        if previous is not None:
            self._good |= previous.last_good
        self._averages: dict[str, tuple[tuple[Resource, ...], Resource]] = {}
        """Service -> endpoints of the sites, and of the unknown one that came from them."""
        self._snapshots: dict[str, Snapshot] = {}
        self._previous = None

    def build(self, plan: Plan) -> Views:
        """Build every client site's snapshot of *plan*."""
        faults = list(self._static_faults)
        before, self._encoded = self._encoded, {}
        snapshots = {}
        by_service: dict[str, list[Resource]] = {name: [] for name in self._clusters.resources}
        for site in self._config.sites:
            resources = []
            for service, of_sites in by_service.items():
                resource = self._row(service, site.name, plan, before, faults)
                resources.append(resource)
                of_sites.append(resource)
            snapshots[site.name] = self._snapshot(site.name, TypeSnapshot.of(resources))
        snapshots[UNKNOWN_SITE] = self._snapshot(
            UNKNOWN_SITE,
            TypeSnapshot.of(
                self._average(service, tuple(resources), plan, faults)
                for service, resources in by_service.items()
            ),
        )
        self._snapshots = snapshots
        return Views(MappingProxyType(snapshots), tuple(faults))

    def _snapshot(self, view: str, endpoints: TypeSnapshot) -> Snapshot:
        previous = self._snapshots.get(view)
        if previous is not None and previous.of_type(ENDPOINT).version == endpoints.version:
            return previous
        return Snapshot(
            MappingProxyType(
                {
                    CLUSTER: self._clusters,
                    ENDPOINT: endpoints,
                    LISTENER: self._listeners[view],
                    ROUTE: self._routes_of(view, endpoints),
                }
            )
        )

    def _row(
        self,
        service: str,
        view: str,
        plan: Plan,
        before: Mapping[_Key, Resource],
        faults: list[Fault],
    ) -> Resource:
        """Return the endpoints of one service from one site: the very ones from before if equal."""
        place = service, view
        if place not in plan.assignments:
            return self._endpoints(service, view, (), 0.0, faults)
        key = service, digest_of(plan.assignments, place)
        resource = self._encoded.get(key) or before.get(key)
        if resource is None:
            assignment = plan.assignments[place]
            known = len(faults)
            resource = self._endpoints(
                service, view, assignment.allocations, assignment.drop, faults
            )
            if len(faults) > known:
                return resource
        self._encoded[key] = resource
        self._good[place] = resource
        return resource

    def _endpoints(
        self,
        service: str,
        view: str,
        allocations: Sequence[Allocation],
        drop: float,
        faults: list[Fault],
    ) -> Resource:
        wrong = allocation_faults(allocations, self._instances)
        if wrong:
            faults += (Fault(ENDPOINT, service, view, message) for message in wrong)
            good = self._good.get((service, view))
            return self._encoder.encode(service, ()) if good is None else good
        resource = self._encoder.encode(service, allocations, drop=drop)
        self._good[service, view] = resource
        return resource

    def _average(
        self, service: str, of_sites: tuple[Resource, ...], plan: Plan, faults: list[Fault]
    ) -> Resource:
        """Return the sum of all sites' weights; without devices, which no one else can reach."""
        known = self._averages.get(service)
        if known is not None and all(map(operator.is_, known[0], of_sites)):
            return known[1]
        devices = {site.name for site in self._config.sites if site.kind is SiteKind.DEVICE}
        total, drop = sums_of(plan.assignments, service)
        allocations = [
            Allocation(*place, 0.0, total[place])
            for place in sorted(total)
            if place[1] not in devices
        ]
        resource = self._endpoints(service, UNKNOWN_SITE, allocations, drop, faults)
        self._averages[service] = of_sites, resource
        return resource

    def _valid_clusters(self) -> Iterator[Resource]:
        for service in self._config.services:
            yield from self._if_valid(CLUSTER, service.name, build_cluster(service, self._config))

    def _build_listeners(self) -> Mapping[str, TypeSnapshot]:
        by_place: dict[tuple[SiteListener | None, str], TypeSnapshot] = {}
        listeners = {}
        for site in (None, *self._config.sites):
            view = UNKNOWN_SITE if site is None else site.name
            # An access log names the site, so that no two are alike.
            place = (
                SiteListener() if site is None else site.listener,
                view if self._config.envoy.access_log else "",
            )
            if place not in by_place:
                message = build_listener(self._config, site)
                by_place[place] = TypeSnapshot.of(
                    self._if_valid(LISTENER, names.LISTENER, message, view=view)
                )
            listeners[view] = by_place[place]
        return listeners

    def _routes_of(self, view: str, endpoints: TypeSnapshot) -> TypeSnapshot:
        """Return the routes of a view, whose list of models has those that have endpoints."""
        resources = endpoints.resources.items()
        idle = frozenset(
            name for name, resource in resources if resource.version == self._idle[name]
        )
        if not idle or any(fault.type_url == ROUTE for fault in self._static_faults):
            return self._routes[view]
        places = self._fallback_of[view]
        key = places, idle
        known = self._partial_routes.get(key)
        if known is None:
            message = build_routes(
                self._config,
                with_fallback=places[0],
                on_device=places[1],
                available=endpoints.resources.keys() - idle,
            )
            known = TypeSnapshot.of(self._if_valid(ROUTE, names.ROUTES, message, view=view))
            self._partial_routes[key] = known
        return known

    def _build_routes(self) -> Mapping[str, TypeSnapshot]:
        by_fallback: dict[_Places, TypeSnapshot] = {}
        routes = {}
        for view, fallback in self._fallbacks():
            if fallback not in by_fallback:
                message = build_routes(
                    self._config, with_fallback=fallback[0], on_device=fallback[1]
                )
                by_fallback[fallback] = TypeSnapshot.of(
                    self._if_valid(ROUTE, names.ROUTES, message, view=view)
                )
            routes[view] = by_fallback[fallback]
        return routes

    def _fallbacks(self) -> Iterator[tuple[str, _Places]]:
        spread = frozenset(_services_on_many_sites(self._config))
        yield UNKNOWN_SITE, (spread, frozenset())
        for site in self._config.sites:
            own = frozenset(_services_on_device(site, self._config))
            yield site.name, (spread | own, own)

    def _if_valid(
        self, type_url: str, name: str, message: betterproto2.Message, *, view: str = UNKNOWN_SITE
    ) -> Iterable[Resource]:
        wrong = constraint_faults(type_url, bytes(message))
        if not wrong:
            return (to_resource(name, message),)
        self._static_faults += (Fault(type_url, name, None, each) for each in wrong)
        if self._previous is None:
            return ()
        kept = self._previous.static_resources(type_url, view).get(name)
        return () if kept is None else (kept,)

    @property
    def last_good(self) -> Mapping[tuple[str, str], Resource]:
        """Return (service, view) -> its endpoints as last published."""
        return self._good

    def static_resources(self, type_url: str, view: str) -> Mapping[str, Resource]:
        """Return the listener, the routes or the clusters of a view by name."""
        if type_url == CLUSTER:
            return self._clusters.resources
        if type_url == ROUTE and view in self._snapshots:
            return self._snapshots[view].of_type(ROUTE).resources
        by_view = self._listeners if type_url == LISTENER else self._routes
        return by_view.get(view, EMPTY).resources


def _services_on_many_sites(config: Config) -> Iterator[str]:
    """Return the services that a plan may give spares: instances to fall to at another site."""
    devices = {site.name for site in config.sites if site.kind is SiteKind.DEVICE}
    sites = {site.name: site for site in config.sites}
    for service in config.services:
        serving = {e.site for e in config.instances if may_serve(service, e, sites)} - devices
        if len(serving) > 1:
            yield service.name


def _services_on_device(site: Site, config: Config) -> Iterator[str]:
    if site.kind is not SiteKind.DEVICE:
        return
    local = [instance for instance in config.instances if instance.site == site.name]
    for service in config.services:
        if any(may_serve(service, instance, {site.name: site}) for instance in local):
            yield service.name
