"""What goes wrong, or merely changes, during a run: each a value that schedules itself.

Flash crowds change what arrives and so act on the streams before the arrivals are drawn; all
others act on the world or on its telemetry while it runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from controlplane.sim.reports import Telemetry
from controlplane.sim.workload import Stream, Surge
from controlplane.sim.world import World


class What(StrEnum):
    """Kinds of happenings."""

    SLOWDOWN = "slowdown"
    """Instances run at *amount* of their speed."""
    TRAINING = "training"
    """A training job takes *amount* of the machines, and is reported."""
    POWER_CAP = "power_cap"
    """A cap holds the machines to *amount* of their speed; in effect a slowdown."""
    DEATH = "death"
    """Instances refuse everything and fail what they hold."""
    FLASH_CROWD = "flash_crowd"
    """Client sites send *amount* times their rate."""
    CONGESTION = "congestion"
    """Round trips from client sites to instances' sites grow by *amount* seconds."""
    SILENCE = "silence"
    """Instances stop reporting but serve on; with *envoys* the Envoys fall silent, too."""
    LIE = "lie"
    """Instances report *amount* times their occupancy and latency."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happens at *at* and, unless *until* is infinite, ends."""

    what: What
    at: float
    until: float = float("inf")
    amount: float = 1.0
    instances: tuple[str, ...] = ()
    """Names; empty means all."""
    clients: tuple[str, ...] = ()
    """Client sites; empty means all."""
    envoys: bool = False


def surge_streams(streams: Sequence[Stream], happenings: Sequence[Happening]) -> tuple[Stream, ...]:
    """Apply flash crowds to the streams."""
    result = list(streams)
    for event in happenings:
        if event.what is not What.FLASH_CROWD:
            continue
        surge = Surge(event.at, event.until, event.amount)
        result = [
            replace(stream, surges=(*stream.surges, surge))
            if not event.clients or stream.site in event.clients
            else stream
            for stream in result
        ]
    return tuple(result)


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a happening acts on."""

    world: World
    telemetry: Telemetry | None
    event: Happening
    chosen: tuple[int, ...]
    """Indices of the instances meant."""

    def begin(self, now: float, _: int) -> None:
        self.world.changes += 1
        _ACTS[self.event.what](self, now, True)

    def end(self, now: float, _: int) -> None:
        self.world.changes += 1
        _ACTS[self.event.what](self, now, False)


def schedule(happenings: Sequence[Happening], world: World, telemetry: Telemetry | None) -> None:
    """Let everything happen in its time; without *telemetry* no one could be deceived."""
    for event in happenings:
        if event.what is What.FLASH_CROWD:
            continue
        chosen = tuple(
            index
            for index, name in enumerate(world.names)
            if not event.instances or name in event.instances
        )
        scene = _Scene(world, telemetry, event, chosen)
        world.kernel.at(event.at, scene.begin)
        if math.isfinite(event.until):
            world.kernel.at(event.until, scene.end)


def _slow_down(scene: _Scene, now: float, on: bool) -> None:
    for index in scene.chosen:
        for engine in scene.world.engines_of(index):
            engine.change(now, factor=scene.event.amount if on else 1.0)


def _train(scene: _Scene, now: float, on: bool) -> None:
    for index in scene.chosen:
        for engine in scene.world.engines_of(index):
            engine.change(now, training=scene.event.amount if on else 0.0)


def _die(scene: _Scene, now: float, on: bool) -> None:
    for index in scene.chosen:
        scene.world.set_alive(now, index, alive=not on)


def _congest(scene: _Scene, _now: float, on: bool) -> None:
    world, event = scene.world, scene.event
    clients = event.clients or tuple({sidecar.site for sidecar in world.sidecars})
    targets = tuple({world.sites[index] for index in scene.chosen})
    world.stretch_paths(clients, targets, event.amount if on else -event.amount)


def _silence(scene: _Scene, _now: float, on: bool) -> None:
    if scene.telemetry is not None:
        scene.telemetry.silence(scene.chosen, silent=on, envoys=scene.event.envoys)


def _lie(scene: _Scene, now: float, on: bool) -> None:
    if scene.telemetry is not None:
        scene.telemetry.lie(now, scene.chosen, scene.event.amount if on else None)


_ACTS: dict[What, Callable[[_Scene, float, bool], None]] = {
    What.SLOWDOWN: _slow_down,
    What.POWER_CAP: _slow_down,
    What.TRAINING: _train,
    What.DEATH: _die,
    What.CONGESTION: _congest,
    What.SILENCE: _silence,
    What.LIE: _lie,
}
