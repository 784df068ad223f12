"""The life of a request: sidecar, network, engine, network, sidecar; and the record of it.

The world joins kernel, engines and sidecars.
It knows no policy: anyone who steers sets each sidecar's ``pick`` or pushes it weights.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from heapq import heappush
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from controlplane.config import Service
from controlplane.sim.engine_spec import EngineLoad, EngineSpec
from controlplane.sim.instances import SimEngine
from controlplane.sim.kernel import Kernel
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.token_engine import TokenEngine, build_engine
from controlplane.sim.true_fleet import Fleet, Record, assign_requests, usable_instances
from controlplane.sim.workload import Arrivals

RESELECTIONS = 300
"""Picks that a retry has to find an untried host, as `controlplane.resources.retries` says."""


class World:
    """A fleet under way."""

    def __init__(self, fleet: Fleet, arrivals: Arrivals, *, seed: int) -> None:
        self.fleet = fleet
        self.kernel = Kernel()
        self.random = random.Random(seed)  # noqa: S311 -- a simulation, not a secret
        """For the choices that Envoys make; arrivals have their own source."""
        self.names = tuple(item.name for item in fleet.config.instances)
        self.sites = tuple(item.site for item in fleet.config.instances)
        self.times: list[float] = arrivals.times.tolist()
        self._arrivals = arrivals
        self.sidecars = self._build_sidecars()
        first = {(each.site, each.service): each.index for each in reversed(self.sidecars)}
        several = [len(self._envoys(stream.site)) for stream in fleet.streams]
        self._owner = assign_requests(fleet.streams, arrivals, first, several, seed=seed)
        deadline = [
            time + self.sidecars[owner].timeout
            for time, owner in zip(self.times, self._owner, strict=True)
        ]
        self._sessions: list[int] = (
            arrivals.session.tolist() if any(each.affine for each in self.sidecars) else []
        )
        """The session of each request, where some sidecar goes by it."""
        self.load = EngineLoad(
            arrivals.work.tolist(),
            arrivals.prompt.tolist(),
            arrivals.output.tolist(),
            deadline,
            fleet.models(arrivals),
            session=arrivals.session.tolist(),
        )
        self.engines: list[SimEngine] = [
            self._build_engine(index, fleet.engines[name]) for index, name in enumerate(self.names)
        ]
        self._arrive = [engine.arrive for engine in self.engines]
        self.outstanding = [0] * len(self.engines)
        """Requests sent to each instance and not answered by it yet, those on the way included."""
        self.backlog = [0.0] * len(self.engines)
        """Seconds that each instance, full and at its nominal speed, needs for the mean work of
        these; exact while it is true that none is known beyond its service."""
        self.dispatched = -1
        """The request that is being sent, for yardsticks that know it."""
        self.changes = 0
        """Counts what happened to engines: speeds, deaths, training."""
        size = len(self.times)
        self._latency = [nan] * size
        self._where = [-1] * size
        self._failed = bytearray(size)
        self._tried: dict[int, list[int]] = {}
        self._retries = fleet.config.envoy.retries.attempts

    def run(self, until: float) -> Record:
        """Run to *until* and return the record."""
        self.kernel.run(until, self.times, self._dispatch)
        return Record(
            self._arrivals.times,
            np.array(self._latency),
            np.array(self._where, dtype=np.int64),
            self._arrivals.stream,
            np.frombuffer(bytes(self._failed), dtype=np.bool_),
            self._arrivals.session,
            np.sum([sidecar.expected() for sidecar in self.sidecars], axis=0),
            self._first_tokens(),
        )

    def _first_tokens(self) -> NDArray[np.float64]:
        """Return the seconds to each request's first token, the way back included."""
        if not any(isinstance(engine, TokenEngine) for engine in self.engines):
            return np.empty(0)
        back = np.array([sidecar.back for sidecar in self.sidecars])
        way = back[np.array(self._owner, dtype=np.int64), np.array(self._where, dtype=np.int64)]
        seconds: NDArray[np.float64] = np.array(self.load.first) + way - self._arrivals.times
        return seconds

    def stretch_paths(self, from_sites: Sequence[str], to_sites: Sequence[str], by: float) -> None:
        """Add *by* seconds to the round trips between the sites from now on."""
        for sidecar in self.sidecars:
            if sidecar.site not in from_sites:
                continue
            for instance, site in enumerate(self.sites):
                if site in to_sites:
                    sidecar.out[instance] += by / 2
                    sidecar.back[instance] += by / 2

    def true_rtt(self, sidecar: Sidecar, instance: int) -> float:
        """Return the round trip as it is now, transfers included."""
        return sidecar.out[instance] + sidecar.back[instance]

    def set_alive(self, now: float, instance: int, *, alive: bool) -> None:
        """Kill or revive an engine; the Envoys' health checks find out within their interval."""
        check = self.fleet.config.envoy.health_check
        self.changes += 1
        if alive:
            self.engines[instance].revive(now)
        else:
            self.engines[instance].die(now)
        if check is None:
            return
        needed = check.healthy_after if alive else check.unhealthy_after
        for sidecar in self.sidecars:

            def verdict(_now: float, item: int, sidecar: Sidecar = sidecar) -> None:
                sidecar.set_probed(item, down=not self.engines[item].alive)

            delay = check.interval * (needed - 1 + self.random.random())
            self.kernel.at(now + delay, verdict, instance)

    def engines_of(self, instance: int) -> Sequence[SimEngine]:
        """Return the engines behind an instance: one, or those of a class of devices."""
        return (self.engines[instance],)

    def _build_engine(self, index: int, spec: EngineSpec) -> SimEngine:
        return build_engine(
            index, spec, self.kernel, self.load, finish=self._finish, lapse=self._lapse
        )

    def _envoys(self, site: str) -> list[str]:
        """Return the ids of the Envoys at a client site."""
        count = self.fleet.sidecars
        return [site] if count == 1 else [f"{site}-{number}" for number in range(count)]

    def _usable(self, service: Service, site: str) -> list[int]:
        """Return the indices of the instances that Envoys at *site* count requests of."""
        return usable_instances(self.fleet.config, service, client_site=site)

    def _build_sidecars(self) -> list[Sidecar]:
        config = self.fleet.config
        sidecars: list[Sidecar] = []
        index_of = {(stream.site, stream.service): stream for stream in self.fleet.streams}
        services = {service.name: service for service in config.services}
        needs: dict[str, list[float]] = {}
        for site, service_name in index_of:
            service = services[service_name]
            usable = self._usable(service, site)
            need = needs.setdefault(
                service_name, [1 / rate for rate in self.fleet.capacities(service_name)]
            )
            half = [self.fleet.rtt[site, where] / 2 for where in self.sites]
            bandwidth = config.network.default_bandwidth
            sent = service.request_size / bandwidth if bandwidth else 0.0
            got = service.response_size / bandwidth if bandwidth else 0.0
            for envoy in self._envoys(site):
                sidecar = Sidecar(
                    len(sidecars),
                    envoy=envoy,
                    site=site,
                    service=service_name,
                    usable=usable,
                    out=[way + sent for way in half],
                    back=[way + got for way in half],
                    need=need,
                    timeout=service.timeout or inf,
                    source=self.random,
                )
                sidecar.affine = service.affinity is not None
                if service.slo.latency or service.slo.ttft:
                    sidecar.times = []
                sidecars.append(sidecar)
        return sidecars

    def _dispatch(self, now: float, request: int) -> None:
        sidecar = self.sidecars[self._owner[request]]
        self.dispatched = request
        if sidecar.drop and self.random.random() < sidecar.drop:
            sidecar.dropped += 1
            self._fail(now, request)
            return
        if sidecar.affine and self._sessions and self._sessions[request] >= 0:
            instance = sidecar.pick_session(
                self._sessions[request], tried=self._tried.get(request, ())
            )
        else:
            instance = sidecar.pick(now)
        if self._tried and request in self._tried:
            instance = self._pick_again(now, sidecar, instance, self._tried[request])
        if instance < 0:
            # Envoys report it without an instance: it is demand.
            sidecar.dropped += 1
            self._fail(now, request)
            return
        self._send(now, request, sidecar, instance)

    def _pick_again(self, now: float, sidecar: Sidecar, instance: int, tried: Sequence[int]) -> int:
        """Return where a retry goes that would go to *instance*."""
        # The last retry goes to the next priority, if there is one (`previous_priorities`).
        lower = sidecar.pick_lower() if len(tried) == self._retries else -1
        if lower >= 0:
            instance = lower
        for _ in range(RESELECTIONS):
            if instance not in tried:
                break
            instance = sidecar.pick(now)
        return instance

    def _send(self, now: float, request: int, sidecar: Sidecar, instance: int) -> None:
        self._note_sent(request, sidecar, instance)
        kernel = self.kernel
        heappush(
            kernel.heap,
            (now + sidecar.out[instance], next(kernel.order), self._arrive[instance], request),
        )

    def _note_sent(self, request: int, sidecar: Sidecar, instance: int) -> None:
        self._where[request] = instance
        sidecar.issued[instance] += 1
        sidecar.active[instance] += 1
        self.outstanding[instance] += 1
        self.backlog[instance] += sidecar.need[instance]

    def _finish(self, now: float, request: int) -> None:
        instance = self._where[request]
        sidecar = self.sidecars[self._owner[request]]
        self.outstanding[instance] -= 1
        self.backlog[instance] -= sidecar.need[instance]
        kernel = self.kernel
        when = now + sidecar.back[instance]
        heappush(kernel.heap, (when, next(kernel.order), self._answer, request))

    def _answer(self, now: float, request: int) -> None:
        instance = self._where[request]
        sidecar = self.sidecars[self._owner[request]]
        latency = now - self.times[request]
        sidecar.active[instance] -= 1
        if latency > sidecar.timeout:
            self._latency[request] = sidecar.timeout
            self._failed[request] = 1
            sidecar.failed[instance] += 1
            return
        self._latency[request] = latency
        sidecar.succeeded[instance] += 1
        sidecar.latency_sum[instance] += latency
        if sidecar.times is not None:
            sidecar.times.append(latency)
        if sidecar.erring:
            sidecar.count_success(instance)
        if sidecar.on_response is not None:
            sidecar.on_response(sidecar, instance, now, latency)

    def _lapse(self, now: float, request: int) -> None:
        """A request that its engine refused, lost, or dropped because the client had gone."""
        instance = self._where[request]
        sidecar = self.sidecars[self._owner[request]]
        self.outstanding[instance] -= 1
        self.backlog[instance] -= sidecar.need[instance]
        if self.load.deadline[request] <= now:
            sidecar.active[instance] -= 1
            sidecar.failed[instance] += 1
            self._latency[request] = sidecar.timeout
            self._failed[request] = 1
            return
        self.kernel.at(now + sidecar.back[instance], self._refused, request)

    def _refused(self, now: float, request: int) -> None:
        instance = self._where[request]
        sidecar = self.sidecars[self._owner[request]]
        sidecar.active[instance] -= 1
        sidecar.failed[instance] += 1
        if sidecar.count_error(instance, now):
            self.kernel.at(now + 10.0, lambda _now, item: sidecar.uneject(item), instance)
        tried = self._tried.setdefault(request, [])
        tried.append(instance)
        if len(tried) <= self._retries:
            sidecar.retries += 1
            self._dispatch(now, request)
        else:
            self._fail(now, request)

    def _fail(self, now: float, request: int) -> None:
        self._failed[request] = 1
        self._latency[request] = now - self.times[request]
