"""Instances that are asleep until the plan wants them, and that end once it wants fewer.

Starts are what a webhook would do: it is called for each start that a plan wants, and the instance
answers after its ``start_up``. What ends one is not the control plane's; here it is what KEDA would
do with `cats_replicas_wanted`: drained once its group has had more replicas than are wanted for as
long as it is to be used, and switched off when it holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from controlplane.config import Override
from controlplane.model import WakeReport
from controlplane.sim.loop import ControlPlane
from controlplane.sim.telemetry_settings import TelemetrySettings
from controlplane.sim.world import World
from controlplane.steering import Plan
from controlplane.steering.scaling_group import ScalingGroup

LOOK = 15.0
"""Seconds between two looks at how many replicas are wanted, as KEDA's."""
_IDLE = 1e-3
"""Work below which a group has nothing to do."""


class WakingControlPlane(ControlPlane):
    """The control plane before instances some of which have ``wake``.

    Args:
        awake: whether these run all the time, for comparison.
        since: seconds from which machines are counted.
    """

    name: ClassVar[str] = "waking"

    def __init__(
        self,
        world: World,
        telemetry: TelemetrySettings,
        *,
        seed: int,
        until: float,
        awake: bool = False,
        since: float = 0.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(world, telemetry, seed=seed, until=until, clock=clock)
        instances = world.fleet.config.instances
        self._since = since
        self._wakes = {
            index: each.wake
            for index, each in enumerate(instances)
            if each.wake is not None and not awake
        }
        self._awake = [index for index in range(len(instances)) if index not in self._wakes]
        self._starting: dict[int, float] = {}
        """Instance -> when it answers."""
        self._ending: set[int] = set()
        self._too_many: dict[tuple[str, str], float] = {}
        """Group that has more replicas than are wanted -> since when."""
        self._look_due = 0.0
        self._hours = 0.0

    @property
    def instance_hours(self) -> float:
        """Return the hours that machines were in use, from the call of their start on."""
        return self._hours

    def start(self) -> None:
        """Begin with what may sleep asleep."""
        for index in self._wakes:
            self.world.set_alive(0.0, index, alive=False)
        super().start()

    def tick(self, now: float) -> None:
        """Start and end what is due, and decide."""
        if now > self._since:
            self._hours += (len(self._awake) + len(self._starting)) * self.period / 3600
        for index in [each for each, at in self._starting.items() if at <= now]:
            del self._starting[index]
            self._awake.append(index)
            self.world.set_alive(now, index, alive=True)
        for index in [each for each in self._ending if not self.world.outstanding[each]]:
            self._ending.remove(index)
            self._awake.remove(index)
            self.world.set_alive(now, index, alive=False)
            self._drain(now)
        super().tick(now)

    def note(self, plan: Plan) -> None:
        """Call for the starts that *plan* wants, and end what it has had no use for."""
        for wish in plan.cold_starts.values():
            index = self.world.names.index(wish.instance)
            if wish.wanted and index not in self._starting and index not in self._awake:
                self._starting[index] = plan.at + wish.start_up
                self._listen(WakeReport(wish.instance, plan.at), plan.at)
        if plan.at >= self._look_due:
            self._look_due = plan.at + LOOK
            for group in plan.scaling:
                self._look(group, plan.at)

    def _look(self, group: ScalingGroup, now: float) -> None:
        config = self.world.fleet.config
        key = group.site, group.model
        mine = [
            index
            for index in self._awake
            if index not in self._ending
            and (config.instances[index].site, config.instances[index].model) == key
        ]
        wanted = group.patient if group.wanted is None else group.wanted
        can_end = [index for index in mine if index in self._wakes]
        if not can_end or len(mine) <= (wanted if group.work > _IDLE else 0):
            self._too_many.pop(key, None)
            return
        since = self._too_many.setdefault(key, now)
        last = can_end[-1]
        if now - since >= self._wakes[last].use:
            del self._too_many[key]
            self._ending.add(last)
            self._drain(now)

    def _drain(self, now: float) -> None:
        """Have the instances drained that are to end, and no others."""
        config = self.world.fleet.config
        drains = tuple(
            Override(instance=self.world.names[index], drain=True) for index in self._ending
        )
        self.reconfigure(
            config.model_copy(update={"overrides": (*config.overrides, *drains)}), now, ramp=True
        )
