"""The control plane itself in the loop, under the simulated clock.

The very `FleetState` and `Steering` that serve Envoys take the simulated reports and push their
weights to the simulated sidecars; nothing of the truth reaches them on another way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from controlplane.config import Config, PolicyName, Slo
from controlplane.errors import ReportError
from controlplane.fleet import FleetState
from controlplane.model import Report
from controlplane.sim.device_world import DeviceWorld
from controlplane.sim.devices import Device, put_own_second
from controlplane.sim.policy import Policy
from controlplane.sim.reports import Telemetry
from controlplane.sim.results import Outcome
from controlplane.sim.sidecars import Sidecar
from controlplane.sim.tariffs import Spent
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.world import World
from controlplane.steering import Plan, Steering
from controlplane.steering.plan import Allocation, Spending

PUSH_DELAY = 0.005
"""Seconds from a decision to the weights in force at an Envoy."""
UNDONE = 0.5
"""A push undoes the one before if what both changed is less than this fraction of either."""
_Row = tuple[str, str]
"""(service, client site)."""
_Pushed = Mapping[_Row, Sequence[Allocation]]


class ControlPlane(Policy):
    """Reports in, fleet, steering, weights out."""

    name: ClassVar[str] = "controlplane"

    def __init__(
        self,
        world: World,
        telemetry: TelemetrySettings,
        *,
        seed: int,
        until: float,
        policy: PolicyName | None = None,
        variant: str = "",
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(world)
        config = world.fleet.config
        if policy is not None:
            config = _with_policy(config, policy)
        if variant:
            config = VARIANTS[variant](config)
            for sidecar in world.sidecars:
                sidecar.affine = any(
                    each.name == sidecar.service and each.affinity for each in config.services
                )
        self.period = config.steering.period
        self._fleet = FleetState(config, now=0.0)
        self._steering = Steering(config)
        self._until = until
        self._version = ""
        self._delivered = ""
        self._low: Mapping[str, Collection[str]] = {}
        """Device site -> ids of the devices whose battery is low."""
        self._clock = clock
        self.solve_times: list[float] = []
        self.refused = 0
        """Reports that the fleet did not believe."""
        self.undone: list[float] = []
        """Instants of pushes that took back most of the push before."""
        self._pushed: list[_Pushed] = []
        """The last three pushes."""
        self.spending: list[tuple[float, Mapping[str, Spending]]] = []
        """(time, what requests cost as the plan says) at each decision, where energy has tariffs.
        """
        self.gains: list[float] = []
        """Predicted gain of each push, as a part of the cost."""
        self.predictions: list[tuple[float, float, float]] = []
        """(time, predicted mean latency over all demand, demand) at each decision."""
        self.telemetry = Telemetry(world, telemetry, self._listen, seed=seed, until=until)

    def start(self) -> None:
        """Push what is decided knowing the configuration only, and begin to listen."""
        self._note_clients()
        self.telemetry.start()
        self._decide(0.0, delay=0.0)

    def tick(self, now: float) -> None:
        """Decide, and push what changed."""
        self._decide(now, delay=PUSH_DELAY)

    def reconfigure(self, config: Config, now: float, *, ramp: bool) -> None:
        """Continue with another configuration; what is new rises slowly if *ramp*."""
        self._fleet.reconfigure(config, now=now, ramp=ramp)
        self._steering.reconfigure(config)

    def note(self, plan: Plan) -> None:
        """Receive each plan as it is made."""

    def annotate(self, outcome: Outcome, error: float | None) -> Outcome:
        """Add what only a control plane has to say."""
        seen = self._fleet.view(now=self._until).promises
        return replace(
            outcome,
            attainment={
                service: each.attainment
                for (service, kind), each in seen.items()
                if kind == "latency" and each.attainment is not None
            },
            refused=self.refused,
            gains=tuple(self.gains),
            undone=tuple(self.undone),
            predicted_error=error,
            solve_times=tuple(self.solve_times),
        )

    def _note_clients(self) -> None:
        """Have the fleet know which Envoys are connected: those of devices while linked."""
        envoys = {
            (sidecar.envoy, sidecar.site)
            for sidecar in self.world.sidecars
            if self._is_connected(sidecar)
        }
        self._fleet.set_clients(Counter(site for _, site in envoys))

    def _device(self, sidecar: Sidecar) -> Device | None:
        return self.world.device(sidecar) if isinstance(self.world, DeviceWorld) else None

    def _is_connected(self, sidecar: Sidecar) -> bool:
        device = self._device(sidecar)
        return device is None or device.linked

    def predicted_spent(self, *, after: float) -> dict[str, Spent]:
        """Return service -> what plans said that its mean request comes to, *after* an instant."""
        said: dict[str, list[Spending]] = {}
        for at, spending in self.spending:
            for service, each in spending.items():
                if at >= after:
                    said.setdefault(service, []).append(each)
        return {
            service: Spent(
                sum(each.rate * each.money for each in parts) / sum(each.rate for each in parts),
                sum(each.rate * each.carbon for each in parts) / sum(each.rate for each in parts),
            )
            for service, parts in said.items()
        }

    def _listen(self, report: Report, now: float) -> None:
        try:
            self._fleet.apply(report, now=now)
        except ReportError:
            self.refused += 1

    def _decide(self, now: float, *, delay: float) -> None:
        began = self._clock() if self._clock is not None else 0.0
        if self.world.fleet.devices:
            self._note_clients()
        view = self._fleet.view(now=now)
        self._low = {site: each.low for site, each in view.batteries.items()}
        plan = self._steering.decide(view)
        if self._clock is not None:
            self.solve_times.append(self._clock() - began)
        self._note_prediction(plan, now)
        self.note(plan)
        if self.world.fleet.tariffs:
            self.spending.append((now, plan.spending))
        # The same plan again is for devices whose link came back, or whose battery ran down.
        if plan.version == self._version and not self.world.fleet.devices:
            return
        self._version = plan.version

        def deliver(later: float, _: int) -> None:
            self._deliver(plan, later)

        if delay > 0:
            self.world.kernel.at(now + delay, deliver)
        else:
            self._deliver(plan, now)

    def _deliver(self, plan: Plan, now: float) -> None:
        index_of = {name: index for index, name in enumerate(self.world.names)}
        triples: dict[_Row, Sequence[tuple[int, int, int]]] = {}
        changed = False
        for sidecar in self.world.sidecars:
            key = sidecar.service, sidecar.site
            assignment = plan.assignments.get(key)
            if assignment is None or not self._is_connected(sidecar):
                continue
            weights = triples.get(key)
            if weights is None:
                weights = triples[key] = tuple(
                    (index_of[item.instance], item.weight, item.priority)
                    for item in assignment.allocations
                )
            device = self._device(sidecar)
            if device is not None and device.envoy in self._low.get(sidecar.site, ()):
                weights = put_own_second(weights, device.column)
            changed |= sidecar.push(weights, drop=assignment.drop)
        if changed and plan.version != self._delivered:
            self.pushes.append(now)
            self.gains.append(plan.gain)
            self._note_undoing(plan, now)
        self._delivered = plan.version

    def _note_undoing(self, plan: Plan, now: float) -> None:
        """Compare what this push and the one before moved with what both moved together."""
        assignments = plan.assignments.items()
        demand = {row: assignment.demand for row, assignment in assignments}
        pushed = {row: assignment.allocations for row, assignment in assignments}
        self._pushed = [*self._pushed[-2:], pushed]
        if len(self._pushed) < 3:
            return
        before, between, after = self._pushed
        smaller = min(_moved(demand, before, between), _moved(demand, between, after))
        if _moved(demand, before, after) < UNDONE * smaller:
            self.undone.append(now)

    def _note_prediction(self, plan: Plan, now: float) -> None:
        if plan.predicted_latency is not None:
            demand = sum(assignment.demand for assignment in plan.assignments.values())
            self.predictions.append((now, plan.predicted_latency, demand))


def _moved(demand: Mapping[_Row, float], some: _Pushed, other: _Pushed) -> float:
    """Return the requests a second that one gives to other instances than the other does."""
    moved = 0.0
    for row, rate in demand.items():
        mine, theirs = some.get(row, ()), other.get(row, ())
        if mine is theirs:
            continue
        one, two = _shares(mine), _shares(theirs)
        moved += rate * sum(
            abs(one.get(name, 0.0) - two.get(name, 0.0)) for name in one.keys() | two.keys()
        )
    return moved


def _shares(allocations: Sequence[Allocation]) -> dict[str, float]:
    return {item.instance: item.share for item in allocations if not item.priority}


def _without_money(config: Config) -> Config:
    steering = config.steering.model_copy(update={"energy_value": 0.0})
    return config.model_copy(update={"steering": steering})


def _without_promises(config: Config) -> Config:
    services = tuple(item.model_copy(update={"slo": Slo()}) for item in config.services)
    return config.model_copy(update={"services": services})


def _without_sessions(config: Config) -> Config:
    services = tuple(item.model_copy(update={"affinity": None}) for item in config.services)
    return config.model_copy(update={"services": services})


def _unpriced(config: Config) -> Config:
    services = tuple(
        item
        if item.affinity is None
        else item.model_copy(update={"affinity": item.affinity.model_copy(update={"pause": 0.0})})
        for item in config.services
    )
    return config.model_copy(update={"services": services})


VARIANTS: Mapping[str, Callable[[Config], Config]] = {
    "unpromised": _without_promises,
    "sessionless": _without_sessions,
    "unpriced": _unpriced,
    "moneyless": _without_money,
}
"""Name -> the configuration with something left out: ``slo``, ``affinity``, the price of moves,
``energy_value``."""


def _with_policy(config: Config, policy: PolicyName) -> Config:
    services = tuple(item.model_copy(update={"policy": policy}) for item in config.services)
    steering = config.steering.model_copy(update={"policy": policy})
    return config.model_copy(update={"services": services, "steering": steering})
