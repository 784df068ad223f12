"""What is followed in Kubernetes clusters: objects that several rules want are followed once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import aiohttp

from controlplane.config import Config, KubernetesApi, KubernetesCluster
from controlplane.config.merge import route_sources
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.discovery_status import HTTP_ROUTES
from controlplane.sources.kubernetes.api_answers import ApiError
from controlplane.sources.kubernetes.client import ApiClient
from controlplane.sources.kubernetes.matches import source_watches
from controlplane.sources.kubernetes.reflector import Reflector
from controlplane.sources.kubernetes.watches import Watch, watches


@dataclass(frozen=True, slots=True)
class FollowKey:
    """Objects that are followed."""

    name: str
    """Of the cluster; empty for the one of ``discovery.api``."""
    cluster: KubernetesApi | KubernetesCluster
    wanted: Watch


@dataclass(frozen=True, slots=True)
class DiscoverySource:
    """A rule, or an entry of a service's ``http_routes``."""

    name: str
    kind: str
    cluster: str
    keys: tuple[FollowKey, ...]
    """What has to be followed for it: its objects first, then what it looks up."""


def sources_of(config: Config) -> tuple[DiscoverySource, ...]:
    """Return what the configuration has discovered."""
    discovery = config.discovery
    if discovery is None:
        return ()
    wanted = [
        (rule.name, rule.kind.value, rule.cluster, tuple(watches(config, rule)))
        for rule in discovery.rules
    ]
    wanted += [
        (name, HTTP_ROUTES, source.cluster, source_watches(config, source))
        for name, _, source in route_sources(config)
    ]
    return tuple(
        DiscoverySource(
            name,
            kind,
            of or "",
            tuple(FollowKey(of or "", discovery.cluster(of or ""), each) for each in followed),
        )
        for name, kind, of, followed in wanted
    )


@dataclass(frozen=True, slots=True)
class _Followed:
    reflector: Reflector
    task: asyncio.Task[None]
    client: ApiClient


class Followers:
    """Follows what is wanted.

    Args:
        control: for its clock, its log and its metrics.
        on_change: is called when objects, or the state of an API server, have changed.
    """

    def __init__(self, control: ControlPlane, *, on_change: Callable[[], None]) -> None:
        self._control = control
        self._on_change = on_change
        self._followed: dict[FollowKey, _Followed] = {}

    def follow(
        self,
        keys: Iterable[FollowKey],
        *,
        session: aiohttp.ClientSession,
        group: asyncio.TaskGroup,
    ) -> None:
        """Follow *keys* and nothing else; what is followed already goes on."""
        wanted = dict.fromkeys(keys)
        for key in [key for key in self._followed if key not in wanted]:
            self._followed.pop(key).task.cancel()
        for key in wanted:
            if key in self._followed:
                continue
            client = ApiClient(key.cluster, session)
            log = self._control.log
            reflector = Reflector(
                key.wanted,
                client,
                on_change=self._on_change,
                count=_counted(self._control, key),
                clock=self._control.clock,
                log=log.bind(cluster=key.name) if key.name else log,
            )
            name = f"follow {key.wanted.resource.name} {key.name}".rstrip()
            task = group.create_task(reflector.run(), name=name)
            self._followed[key] = _Followed(reflector, task, client)

    def of(self, source: DiscoverySource) -> list[Reflector]:
        """Return who follows what *source* wants; none until all of it is followed."""
        if any(key not in self._followed for key in source.keys):
            return []
        return [self._followed[key].reflector for key in source.keys]

    def client(self, source: DiscoverySource) -> ApiClient | None:
        """Return the client of the API server that *source* looks at; None before it is asked."""
        found = (self._followed[key].client for key in source.keys if key in self._followed)
        return next(found, None)

    def stop(self) -> None:
        """Follow nothing any more."""
        for followed in self._followed.values():
            followed.task.cancel()
        self._followed.clear()


def failure_of(reflectors: Sequence[Reflector]) -> ApiError | None:
    """Return why an API server does not answer; None while all do."""
    return next((each.failure for each in reflectors if each.failure is not None), None)


def age_of(reflectors: Sequence[Reflector], now: float) -> float | None:
    """Return the seconds since the API servers last said how things are; None if one never did."""
    heard = [each.confirmed_at for each in reflectors]
    known = [at for at in heard if at is not None]
    return max(0.0, now - min(known)) if known and len(known) == len(heard) else None


def _counted(control: ControlPlane, key: FollowKey) -> Callable[[str, str], None]:
    def count(verb: str, outcome: str) -> None:
        labels = (key.name, key.wanted.resource.name, verb, outcome)
        control.metrics.discovery_requests.labels(*labels).inc()

    return count
