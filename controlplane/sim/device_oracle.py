"""The yardstick of devices: an oracle on each, which knows what its class cannot."""

from __future__ import annotations

from functools import partial

from controlplane.sim.device_world import DeviceWorld
from controlplane.sim.devices import Device, next_start
from controlplane.sim.oracles import Oracle
from controlplane.sim.sidecars import Sidecar


class DeviceOracle(Oracle):
    """`Oracle` for every client, which on a device knows its own model, battery and link as well.

    It knows the speed of each device and what is inside it, weighs the battery's wait on each
    device that is not on mains, keeps to the floor, and sends nothing over a link that will be
    gone before the answer is there.
    """

    name = "device_oracle"

    def start(self) -> None:
        """Replace the picker."""
        super().start()
        world = self.world
        if not isinstance(world, DeviceWorld):
            return
        self._penalty = {site.name: site.battery.penalty for site in world.fleet.config.sites}
        self._work = {
            service: world.fleet.mean_request(service).mean
            for service in world.fleet.service_names()
        }
        for sidecar in world.sidecars:
            device = world.device(sidecar)
            if device is not None:
                sidecar.pick = partial(self._pick_on, device, sidecar)

    def _pick_on(self, device: Device, sidecar: Sidecar, now: float) -> int:
        others = [index for index in sidecar.usable if index != device.column]
        if self._changes != self.world.changes:
            self._look()
        best, cost = self._cheapest(sidecar, others)
        if not device.linked or next_start(device.spec.away, now) < now + cost:
            return device.column
        if device.is_low(now):
            return best
        spec, work = device.engine.spec, self._work[sidecar.service]
        ahead = max(0, device.engine.present + 1 - spec.slots) / spec.slots
        own = sidecar.out[device.column] + sidecar.back[device.column]
        own += work / spec.speed * (1.0 + ahead)
        if not device.is_on_mains(now):
            own += self._penalty[sidecar.site]
        return device.column if own < cost else best
