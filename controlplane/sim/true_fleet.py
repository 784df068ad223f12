"""What truly exists, and the record of what became of every request there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from controlplane.config import Config, Service, SiteKind
from controlplane.config.eligibility import is_reachable, may_serve
from controlplane.sim.devices import DeviceClass
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.tariffs import Tariff
from controlplane.sim.workload import Arrivals, Stream, Work


@dataclass(frozen=True, slots=True)
class Fleet:
    """What truly exists; `config` is what the control plane is notified of it."""

    name: str
    config: Config
    engines: Mapping[str, EngineSpec]
    """Instance name -> engine, for every instance of the configuration."""
    streams: tuple[Stream, ...]
    rtt: Mapping[tuple[str, str], float]
    """(client site, instance's site) -> seconds, for every client site with a stream."""
    sidecars: int = 1
    """Envoys at each client site."""
    mean_work: float = 0.5
    """Seconds that a mean request takes alone at speed 1."""
    devices: Mapping[str, DeviceClass] = field(default_factory=dict)
    """Device site -> its devices, each with an Envoy; one instance stands for all of them."""
    tariffs: Mapping[str, Tariff] = field(default_factory=dict)
    """Site -> what energy costs there over time; all sites or none."""

    def mean_request(self, service: str | None = None) -> Work:
        """Return the mean work, prompt and output of a service's (or all) requests."""
        own = [stream for stream in self.streams if service in (None, stream.service)]
        weights = np.array([stream.rate for stream in own]) + 1e-12
        parts = weights / weights.sum()
        return Work(
            mean=float(parts @ [stream.work.mean for stream in own]),
            prompt=float(parts @ [stream.work.prompt for stream in own]),
            output=float(parts @ [stream.work.output for stream in own]),
        )

    def service_names(self) -> list[str]:
        """Return the services that clients ask for."""
        return list(dict.fromkeys(stream.service for stream in self.streams))

    def models(self, arrivals: Arrivals) -> list[int]:
        """Return what each request asks for, by number: each service has a model of its own."""
        number = {name: place for place, name in enumerate(self.service_names())}
        own = np.array([number[stream.service] for stream in self.streams], dtype=np.int64)
        models: list[int] = own[arrivals.stream].tolist()
        return models

    def capacities(self, service: str) -> list[float]:
        """Return the requests a second of *service* that each instance alone sustains."""
        mean = self.mean_request(service)
        return [
            self.engines[item.name].capacity(mean.mean, mean.prompt, mean.output)
            for item in self.config.instances
        ]


@dataclass(frozen=True, slots=True)
class Record:
    """What became of every request, in the order of arrival; all arrays are equally long."""

    times: NDArray[np.float64]
    """Arrival at the sidecar."""
    latency: NDArray[np.float64]
    """Seconds as the client saw them; NaN when not answered by the end."""
    instance: NDArray[np.int64]
    """Index of the instance that was tried last; -1 when there was none."""
    stream: NDArray[np.int64]
    failed: NDArray[np.bool_]
    session: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Number of each request's session, -1 for none; empty where no request has one."""
    expected: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(instances,): requests that each would have got by the shares in force as each was sent."""
    first: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """Seconds to the first token as the client saw it; not a number where there was none by the
    end, or where the engine does not count tokens; empty where none does."""


def usable_instances(config: Config, service: Service, *, client_site: str) -> list[int]:
    """Return the indices of the instances that may serve *service* for clients of a site.

    A device's instance serves the device alone; where anything else serves, it is left to those
    who push weights (as a fallback).
    """
    sites = {site.name: site for site in config.sites}
    found = [
        index
        for index, item in enumerate(config.instances)
        if may_serve(service, item, sites) and is_reachable(item, sites, client_site=client_site)
    ]
    shared = [i for i in found if sites[config.instances[i].site].kind is not SiteKind.DEVICE]
    return shared or found


def assign_requests(
    streams: Sequence[Stream],
    arrivals: Arrivals,
    first: Mapping[tuple[str, str], int],
    several: Sequence[int],
    *,
    seed: int,
) -> list[int]:
    """Return the sidecar of each request: one of those of its stream's site and service.

    Args:
        streams: whose requests they are.
        arrivals: the requests.
        first: (client site, service) -> the first of its sidecars, which follow each other.
        several: how many each stream has.
        seed: of the draw among several.
    """
    base = np.array([first[stream.site, stream.service] for stream in streams], dtype=np.int64)
    owner = base[arrivals.stream]
    if max(several, default=1) > 1:
        rng = np.random.default_rng((seed, 2))
        high = several[0] if len({*several}) == 1 else np.array(several)[arrivals.stream]
        owner = owner + rng.integers(0, high, len(owner))
    owners: list[int] = owner.tolist()
    return owners
