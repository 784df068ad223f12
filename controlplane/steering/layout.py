"""What the configuration alone decides: who may serve whom, at what fixed penalty; no load here.

Made once per configuration, so that a cycle of steering is array arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from controlplane.config import Config, Instance, Override, PolicyName, Service, SiteKind
from controlplane.config.eligibility import covers, drain_of, exclusion
from controlplane.config.length_classes import group_classes
from controlplane.steering.latency import Array
from controlplane.steering.shedding import Pool, find_pools

DEFAULT_SERVICE_TIME = 1.0
"""Seconds a request takes alone, where no one ever said or measured anything."""

Indices = NDArray[np.intp]

Key = tuple[str, str]
"""(service, client site)."""


@dataclass(frozen=True, slots=True)
class ServiceLayout:
    """One service: which instances may serve it."""

    service: Service
    policy: PolicyName
    canary: tuple[int, PolicyName] | None
    """Index of a client site and the policy that decides there instead."""
    weight: float
    """Cost of a second of its delay."""
    size: float
    """Work of a request, in requests of ordinary size, until it is learned."""
    columns: tuple[int, ...]
    """Instances that the configuration allows; a device's for its own clients only."""
    devices: Mapping[str, tuple[int, ...]]
    """Device site -> its own instances that may serve the service."""
    pinned: frozenset[int]
    """Devices' instances to which an override pins their clients; others' clients are free."""
    penalty: Array
    """(instances,): seconds; infinite where excluded."""
    reasons: Mapping[int, str]
    """Instance -> why the configuration excludes it."""
    limits: tuple[tuple[tuple[int, ...], float, float, str, int], ...]
    """(instances, least share, largest share, in words, the only client site or -1) for each
    override that bounds shares."""
    fixed: Array
    """(instances,): weights under the policy ``static``."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The fleet as configured; instances and sites by index."""

    config: Config
    instances: tuple[Instance, ...]
    column: Mapping[str, int]
    rank: Indices
    """(instances,): place in the order of names."""
    sites: tuple[str, ...]
    """Client sites: every configured site."""
    site_of: tuple[int, ...]
    """Instance -> index of its site."""
    reach: Indices
    """(instances,): index of the only client site that may use it, a device's; -1 for all."""
    services: tuple[ServiceLayout, ...]
    keys: tuple[Key, ...]
    """Every row by name: services, then client sites."""
    key: Mapping[Key, int]
    """Row -> its place in `keys`."""
    kin: tuple[tuple[int, ...], ...]
    """Instances of one model, model by model."""
    pools: tuple[Pool, ...]
    """Services that share instances with each other and with no other."""
    pool_of: Indices
    """(instances,): the pool whose services use each, devices included; -1 where none does."""
    classes: tuple[tuple[int, ...], ...]
    """Services that are classes of one by the length of the body, two or more each."""
    pace: Array
    """(instances,): prior seconds of a request of ordinary size, alone."""
    slots: Array
    """(instances,): requests worked on at once, as configured or by default."""
    stated_slots: NDArray[np.bool_]
    """(instances,): whether the configuration says them."""
    joules: Array
    """(instances,): watts above idle at full load."""


def build_layout(config: Config, instances: tuple[Instance, ...]) -> Layout:
    """Lay out *instances* (configured and discovered, in name order) under *config*."""
    names = tuple(site.name for site in config.sites)
    index = {name: position for position, name in enumerate(names)}
    known = [service.service_time for service in config.services if service.service_time]
    ordinary = sum(known) / len(known) if known else DEFAULT_SERVICE_TIME
    services = tuple(
        _lay_out_service(config, instances, service, ordinary, clients=index)
        for service in config.services
    )
    keys = tuple((service.service.name, name) for service in services for name in names)
    site_of = tuple(index[instance.site] for instance in instances)
    own = np.array([site.kind is SiteKind.DEVICE for site in config.sites], dtype=bool)
    places = np.array(site_of, dtype=np.intp)
    reach = np.where(own[places], places, -1).astype(np.intp)
    pools = find_pools(
        [service.service.name for service in services],
        [tuple(c for c in service.columns if reach[c] < 0) for service in services],
    )
    return Layout(
        config=config,
        instances=instances,
        column={instance.name: position for position, instance in enumerate(instances)},
        rank=np.argsort(np.argsort(np.array([instance.name for instance in instances], dtype=str))),
        sites=names,
        site_of=site_of,
        reach=reach,
        services=services,
        keys=keys,
        key={key: place for place, key in enumerate(keys)},
        kin=_group_by_model(instances),
        pools=pools,
        pool_of=_pool_of(pools, services, len(instances)),
        classes=group_classes(config.services),
        pace=np.array([instance.service_time or ordinary for instance in instances]),
        slots=np.array([float(instance.slots) for instance in instances]),
        stated_slots=np.array(["slots" in i.model_fields_set for i in instances], dtype=bool),
        joules=np.array([max(0.0, i.power.busy - i.power.idle) for i in instances]),
    )


def _pool_of(pools: Sequence[Pool], services: Sequence[ServiceLayout], count: int) -> Indices:
    """Return the pool of each of *count* instances."""
    found = np.full(count, -1, dtype=np.intp)
    for number, pool in enumerate(pools):
        for service in pool.services.tolist():
            found[list(services[service].columns)] = number
    return found


def _group_by_model(instances: tuple[Instance, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the positions of instances that serve the same models, under whatever first name."""
    by_model: dict[frozenset[str], list[int]] = {}
    for position, instance in enumerate(instances):
        by_model.setdefault(frozenset(instance.model_names), []).append(position)
    return tuple(tuple(members) for members in by_model.values())


def _lay_out_service(
    config: Config,
    instances: tuple[Instance, ...],
    service: Service,
    ordinary: float,
    *,
    clients: Mapping[str, int],
) -> ServiceLayout:
    sites = {site.name: site for site in config.sites}
    models = {model.name: model.penalty for model in service.models}
    overrides = [o for o in config.overrides if o.service in (None, service.name)]
    # A pin of a site says nothing of services that nothing there may serve.
    pinned = {
        position
        for position, instance in enumerate(instances)
        if any(o.pin and covers(o, instance) for o in overrides)
        and not exclusion(service, instance, sites[instance.site])
    }
    # A device's instance serves its own clients only, so that a pin there binds no others.
    own = {p for p in pinned if sites[instances[p].site].kind is SiteKind.DEVICE}
    elsewhere = bool(pinned - own)
    penalty = np.full(len(instances), np.inf)
    reasons: dict[int, str] = {}
    columns: list[int] = []
    devices: dict[str, tuple[int, ...]] = {}
    for position, instance in enumerate(instances):
        reason = exclusion(service, instance, sites[instance.site]) or _drained(instance, overrides)
        if not reason and elsewhere and position not in pinned:
            reason = "an override pins the service elsewhere"
        if reason:
            reasons[position] = reason
            continue
        penalty[position] = min(models.get(name, np.inf) for name in instance.model_names)
        if sites[instance.site].kind is SiteKind.DEVICE:
            devices[instance.site] = (*devices.get(instance.site, ()), position)
        columns.append(position)
    kept = {} if elsewhere else {instances[p].site: clients[instances[p].site] for p in own}
    limits = _limits(overrides, instances)
    limits += _device_pins(kept, tuple(column for column in columns if column not in own))
    canary = service.canary or (None if service.policy else config.steering.canary)
    return ServiceLayout(
        service=service,
        policy=service.policy or config.steering.policy,
        canary=None if canary is None else (clients[canary.client_site], canary.policy),
        weight=service.cost_of_delay,
        size=_prior_time(service, config.services) / ordinary,
        columns=tuple(columns),
        devices=devices,
        pinned=frozenset() if elsewhere else frozenset(own),
        penalty=penalty,
        reasons=reasons,
        limits=tuple(limits),
        fixed=_fixed_weights(overrides, instances),
    )


_Limit = tuple[tuple[int, ...], float, float, str, int]
"""Instances, least and largest share, the words for them, and the only client site; -1 for all."""


def _fixed_weights(overrides: list[Override], instances: tuple[Instance, ...]) -> Array:
    """Return each instance's weight under ``static``, (instances,)."""
    fixed = np.full(len(instances), float(STATIC_WEIGHT))
    for override in overrides:
        if override.weight is not None:
            covered = [p for p, instance in enumerate(instances) if covers(override, instance)]
            fixed[covered] = float(override.weight)
    return fixed


def _limits(overrides: list[Override], instances: tuple[Instance, ...]) -> list[_Limit]:
    """Return the bounds on shares that *overrides* set."""
    return [
        _limit(o, tuple(p for p, instance in enumerate(instances) if covers(o, instance)))
        for o in overrides
        if o.min_share is not None or o.max_share is not None
    ]


def _limit(override: Override, covered: tuple[int, ...]) -> _Limit:
    """Return the bounds on shares that *override* sets for the instances it covers."""
    low = override.min_share if override.min_share is not None else 0.0
    high = override.max_share if override.max_share is not None else 1.0
    place = override.instance or override.site or "all"
    words = " and ".join(
        part
        for part, given in (
            (f"min_share {low:.0%} at {place}", override.min_share is not None),
            (f"max_share {high:.0%} at {place}", override.max_share is not None),
        )
        if given
    )
    return covered, low, high, words, -1


def _device_pins(sites: Mapping[str, int], others: tuple[int, ...]) -> list[_Limit]:
    """Return what keeps the clients of the *sites* whose devices are pinned from all *others*."""
    return [
        (others, 0.0, 0.0, f"an override pins clients at {name} there", client)
        for name, client in sites.items()
    ]


def _prior_time(service: Service, services: Sequence[Service]) -> float:
    """Return the seconds that a request of *service* is taken to need until it is known.

    What is written for another service says something of those on the same models only: images
    take seconds, and embeddings beside them do not.
    """
    if service.service_time:
        return service.service_time
    models = {model.name for model in service.models}
    known = [
        other.service_time
        for other in services
        if other.service_time and models & {model.name for model in other.models}
    ]
    return sum(known) / len(known) if known else DEFAULT_SERVICE_TIME


STATIC_WEIGHT = 100
"""Weight under ``static`` of an instance for which no override says one."""


def _drained(instance: Instance, overrides: list[Override]) -> str:
    """Return which override drains *instance*; empty if none does."""
    override = drain_of(instance, overrides)
    if override is None:
        return ""
    return f"drained by an override{f': {override.reason}' if override.reason else ''}"
