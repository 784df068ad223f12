"""A world with classes of devices: their own models, and links that go and come.

A device knows that its link is away: what its Envoy then sends over it fails at once, and what it
had sent is given up and retried, while the other end goes on working at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from heapq import heappush
from math import inf

from controlplane.config import Service
from controlplane.config.eligibility import is_reachable, may_serve
from controlplane.sim.devices import Device
from controlplane.sim.engine_spec import EngineSpec
from controlplane.sim.instances import SimEngine
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.token_engine import build_engine
from controlplane.sim.true_fleet import Fleet
from controlplane.sim.workload import Arrivals
from controlplane.sim.world import World


class DeviceWorld(World):
    """A fleet under way of which some client sites are classes of devices."""

    def __init__(self, fleet: Fleet, arrivals: Arrivals, *, seed: int) -> None:
        super().__init__(fleet, arrivals, seed=seed)
        self._orphans: set[tuple[int, int]] = set()
        """(request, instance) of attempts that an Envoy has given up, and an engine has not."""
        self.on_battery: list[int] = []
        """Requests that a device's own model got on battery."""
        self.devices = self._build_devices()
        """Envoy's id -> device."""
        self._device_of = [self.devices.get(sidecar.envoy) for sidecar in self.sidecars]
        self._sidecars_of: dict[str, list[Sidecar]] = {}
        for sidecar in self.sidecars:
            self._sidecars_of.setdefault(sidecar.envoy, []).append(sidecar)
        for device in self.devices.values():
            for start, end in device.spec.away:
                self.kernel.at(start, partial(self._lose_link, device))
                if end < inf:
                    self.kernel.at(end, partial(self._regain_link, device))

    def device(self, sidecar: Sidecar) -> Device | None:
        """Return the device that a sidecar is on; None if it is on none."""
        return self._device_of[sidecar.index]

    def engines_of(self, instance: int) -> list[SimEngine]:
        """Return the engines behind an instance: one, or those of a class of devices."""
        own = [each.engine for each in self.devices.values() if each.column == instance]
        return own or [self.engines[instance]]

    def _build_devices(self) -> dict[str, Device]:
        sites = {site.name: site for site in self.fleet.config.sites}
        devices = {}
        for site, kind in self.fleet.devices.items():
            column = self.names.index(kind.instance)
            for envoy, spec in zip(self._envoys(site), kind.devices, strict=True):
                devices[envoy] = Device(
                    envoy,
                    spec,
                    self._build_engine(column, spec.engine),
                    column=column,
                    floor=sites[site].battery.floor,
                    recharge=kind.recharge,
                )
        return devices

    def _build_engine(self, index: int, spec: EngineSpec) -> SimEngine:
        return build_engine(
            index,
            spec,
            self.kernel,
            self.load,
            finish=partial(self._finish_at, index),
            lapse=partial(self._lapse_at, index),
        )

    def _envoys(self, site: str) -> list[str]:
        if site not in self.fleet.devices:
            return super()._envoys(site)
        return [f"{site}-{number}" for number in range(len(self.fleet.devices[site].devices))]

    def _usable(self, service: Service, site: str) -> list[int]:
        if site not in self.fleet.devices:
            return super()._usable(service, site)
        config = self.fleet.config
        sites = {each.name: each for each in config.sites}
        return [
            index
            for index, item in enumerate(config.instances)
            if may_serve(service, item, sites) and is_reachable(item, sites, client_site=site)
        ]

    def _pick_again(self, now: float, sidecar: Sidecar, instance: int, tried: Sequence[int]) -> int:
        device = self._device_of[sidecar.index]
        if device is not None and device.column not in tried and sidecar.uses(device.column):
            # What the own model shares requests with is marked, and left out of retries.
            return device.column
        return super()._pick_again(now, sidecar, instance, tried)

    def _send(self, now: float, request: int, sidecar: Sidecar, instance: int) -> None:
        device = self._device_of[sidecar.index]
        if device is None:
            super()._send(now, request, sidecar, instance)
        elif instance == device.column:
            if device.spend(now, self.load.work[request], chosen=request not in self._tried):
                self.on_battery.append(request)
            self._note_sent(request, sidecar, instance)
            kernel = self.kernel
            when = now + sidecar.out[instance]
            heappush(kernel.heap, (when, next(kernel.order), device.engine.arrive, request))
        elif device.linked:
            device.under_way.add(request)
            super()._send(now, request, sidecar, instance)
        else:
            self._note_sent(request, sidecar, instance)
            self._take_out(instance, sidecar)
            self._refused(now, request)

    def _take_out(self, instance: int, sidecar: Sidecar) -> None:
        self.outstanding[instance] -= 1
        self.backlog[instance] -= sidecar.need[instance]

    def _finish_at(self, instance: int, now: float, request: int) -> None:
        if not self._is_orphan(request, instance):
            self._forget_sent(request)
            self._finish(now, request)

    def _lapse_at(self, instance: int, now: float, request: int) -> None:
        if not self._is_orphan(request, instance):
            self._forget_sent(request)
            self._lapse(now, request)

    def _is_orphan(self, request: int, instance: int) -> bool:
        """Count off an attempt that has ended at *instance*; return whether it was given up."""
        if (request, instance) not in self._orphans:
            return False
        self._orphans.discard((request, instance))
        self._take_out(instance, self.sidecars[self._owner[request]])
        return True

    def _forget_sent(self, request: int) -> None:
        device = self._device_of[self._owner[request]]
        if device is not None:
            device.under_way.discard(request)

    def _lose_link(self, device: Device, now: float, _: int) -> None:
        device.linked = False
        lost, device.under_way = sorted(device.under_way), set()
        for request in lost:
            self._orphans.add((request, self._where[request]))
            self._refused(now, request)
        self._check_paths(device, now)

    def _regain_link(self, device: Device, now: float, _: int) -> None:
        device.linked, device.linked_since = True, now
        self._check_paths(device, now)

    def _check_paths(self, device: Device, now: float) -> None:
        """Have the health checks of a device's Envoy find out that its link went or came."""
        check = self.fleet.config.envoy.health_check
        if check is None:
            return
        needed = check.healthy_after if device.linked else check.unhealthy_after
        for sidecar in self._sidecars_of[device.envoy]:
            for instance in sidecar.usable:
                if instance == device.column:
                    continue
                delay = check.interval * (needed - 1 + self.random.random())
                self.kernel.at(now + delay, partial(self._judge_path, device, sidecar), instance)

    def _judge_path(self, device: Device, sidecar: Sidecar, _now: float, instance: int) -> None:
        reached = device.linked and self.engines[instance].alive
        sidecar.set_probed(instance, down=not reached)
