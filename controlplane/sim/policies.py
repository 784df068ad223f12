"""Baselines: the ways of choosing that others use, each against the same arrivals.

A policy sets every sidecar's picker, or pushes weights at each tick; it sees what its original
would see, except where its name says that it knows the truth (`capacity`, `optimum`, `oracle`).
Requests are decided by anyone who owns ``pick``; nothing here touches an engine.
"""

from __future__ import annotations

from controlplane.sim.device_oracle import DeviceOracle
from controlplane.sim.length_oracle import LengthOracle
from controlplane.sim.locality_policies import (
    Headroom,
    LoadAwareLocality,
    Spray,
    Waterfall,
    WaterFill,
)
from controlplane.sim.oracles import Optimum, Oracle
from controlplane.sim.orca_policies import ClientSideWrr, ClientSideWrrOutOfBand, Prequal
from controlplane.sim.policy import Policy
from controlplane.sim.policy_iteration import PolicyIteration
from controlplane.sim.sidecars import Sidecar


class Nearest(Policy):
    """Everything to the instance with the shortest round trip."""

    name = "nearest"

    def start(self) -> None:
        """Push once."""
        for sidecar in self.world.sidecars:
            best = min(sidecar.usable, key=sidecar.out.__getitem__)
            self.push(0.0, sidecar, [float(i == best) for i in range(len(self.world.engines))])


class RoundRobin(Policy):
    """Each instance in turn."""

    name = "round_robin"

    def start(self) -> None:
        """Push once."""
        self.push_all(0.0, [1.0] * len(self.world.engines))


class Random(Policy):
    """Each instance with equal chance."""

    name = "random"

    def start(self) -> None:
        """Replace the picker."""
        source = self.world.random
        for sidecar in self.world.sidecars:
            sidecar.pick = lambda _now, sidecar=sidecar: source.choice(sidecar.usable)  # type: ignore[misc]


class Capacity(Policy):
    """Fixed weights by the true capacity at the start."""

    name = "capacity"

    def start(self) -> None:
        """Push once."""
        fleet = self.world.fleet
        by_service = {name: fleet.capacities(name) for name in fleet.service_names()}
        for sidecar in self.world.sidecars:
            usable, capacities = set(sidecar.usable), by_service[sidecar.service]
            shares = [rate if i in usable else 0.0 for i, rate in enumerate(capacities)]
            self.push(0.0, sidecar, shares)


class LeastRequest(Policy):
    """Envoy's least request with equal weights.

    Of two random instances the one with fewer of this sidecar's own requests gets it.
    """

    name = "least_request"

    def start(self) -> None:
        """Replace the picker."""
        source = self.world.random.random
        for sidecar in self.world.sidecars:

            def pick(_now: float, sidecar: Sidecar = sidecar) -> int:
                usable, active = sidecar.usable, sidecar.active
                size = len(usable)
                first, second = usable[int(source() * size)], usable[int(source() * size)]
                return first if active[first] <= active[second] else second

            sidecar.pick = pick


BASELINES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (
        Nearest,
        RoundRobin,
        Random,
        Capacity,
        LeastRequest,
        ClientSideWrr,
        ClientSideWrrOutOfBand,
        LoadAwareLocality,
        Headroom,
        WaterFill,
        Waterfall,
        Spray,
        Prequal,
        Optimum,
        Oracle,
        DeviceOracle,
        PolicyIteration,
        LengthOracle,
    )
}
"""Every baseline by name."""
