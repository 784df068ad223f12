"""Streams that come, go, refuse and stall at random for minutes, against a whole control plane.

At the end every stream that is left must hold the newest version of every type, and the memory of
the control plane must not have grown. The dice are seeded.
Run alone: ``python -m benchmarks.soak [--minutes 10] [--streams 200] [--seed 1]``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Row, Target, table
from benchmarks.streams import LoadStream, Received, connect
from controlplane.xds.types import CLUSTER, ENDPOINT, LISTENER, ROUTE
from testbed.processes.control_planes import ControlPlaneProcess

SERVICES, INSTANCES = 5, 20
SITES = ("north", "cloud")
WANTS = {
    CLUSTER: (),
    ENDPOINT: tuple(f"service-{n}" for n in range(SERVICES)),
    LISTENER: (),
    ROUTE: ("inference",),
}
PACE = 0.2
"""Seconds between two changes of the weights."""
DEEDS_RATE = 0.5
"""Times a second that each stream does something odd."""
DEEDS = {"leave": 4, "refuse": 3, "stall": 3}
"""What they do, and how often it comes up."""
PAGE = os.sysconf("SC_PAGE_SIZE")
SETTLED = 0.2
"""Part of the run after which memory counts: until then pools and caches fill."""


def fleet() -> str:
    """Write a fleet whose weights can be set from outside."""
    return "\n".join(
        [
            "version: 1",
            "sites: [{name: north, kind: edge}, {name: cloud, kind: cloud}]",
            "models: [{name: m}]",
            "services:",
            *(
                f"  - {{name: service-{n}, match: [{{path: /s{n}}}], models: [{{name: m}}]}}"
                for n in range(SERVICES)
            ),
            "instances:",
            *(
                f"  - {{name: i{n}, site: {SITES[n % 2]}, model: m, address: 10.0.0.{n + 1}:80}}"
                for n in range(INSTANCES)
            ),
            "steering: {period: 1s}",
        ]
    )


@dataclass(slots=True)
class _Crowd:
    """The streams, and how they misbehave."""

    address: tuple[str, int]
    dice: random.Random
    streams: list[LoadStream]
    deeds: Counter[str]
    started: int = 0
    responses: int = 0

    async def fill(self, count: int) -> None:
        """Have *count* streams."""
        self.deeds["ended by the server"] += sum(each.closed for each in self.streams)
        self.streams = [each for each in self.streams if not each.closed]
        while len(self.streams) < count:
            self.started += 1
            stream = LoadStream(
                # Some come back under the name of one that left or is still there.
                f"soak-{self.dice.randrange(2 * count)}",
                WANTS,
                site=self.dice.choice((*SITES, "nowhere")),
                delta=self.dice.random() < 0.5,
                on_response=self._count,
            )
            self.streams.append(await connect(self.address, stream))

    def _count(self, _stream: LoadStream, _received: Received) -> None:
        self.responses += 1

    def misbehave(self) -> None:
        """Let one stream do something odd."""
        stream = self.dice.choice(self.streams)
        deed = self.dice.choices(tuple(DEEDS), tuple(DEEDS.values()))[0]
        self.deeds[deed] += 1
        if deed == "leave":
            stream.close()
            self.streams.remove(stream)
        elif deed == "refuse":
            # One that has not got everything would refuse what never changes, so is not sent again.
            stream.refuse_next = len(stream.versions) == len(WANTS)
        else:
            stream.stall()
            asyncio.get_running_loop().call_later(self.dice.uniform(0.1, 5.0), stream.go_on)

    def done(self, changes: int) -> int:
        """Return how often the rarest of what a run is about was done, *changes* included."""
        return min(changes, *(self.deeds[deed] for deed in DEEDS))

    def behave(self) -> None:
        """Let all read, and refuse no more."""
        for stream in self.streams:
            stream.refuse_next = False
            stream.go_on()

    def stale(self) -> int:
        """Count streams that do not hold what all others of their site and mode hold."""
        held: dict[tuple[str, bool, str], Counter[str]] = {}
        for stream in self.streams:
            for type_url in WANTS:
                place = stream.site, stream.delta, type_url
                versions = held.setdefault(place, Counter())
                versions[stream.versions.get(type_url, "")] += 1
        return sum(
            sum(versions.values()) - max(versions.values()) + versions[""]
            for versions in held.values()
        )


async def soak(*, streams: int, seconds: float, seed: int, least: int = 0) -> Row:
    """Run it, for longer than *seconds* where less than *least* of each kind was done by then."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="cats-soak-") as place:
        file = Path(place) / "fleet.yaml"
        file.write_text(fleet())
        command = ["testbed.tools.debug_updates"]
        async with ControlPlaneProcess(file, "--log-level", "error", command=command) as server:
            await server.wait_ready()
            crowd = _Crowd(("127.0.0.1", server.xds_port), dice, [], Counter())
            await crowd.fill(streams)
            memory: list[tuple[float, float]] = []
            begin = time.monotonic()
            changes = 0
            while (now := time.monotonic() - begin) < seconds or crowd.done(changes) < least:
                if now >= changes * PACE:
                    changes += 1
                    cluster = f"service-{dice.randrange(SERVICES)}"
                    await server.get(f"/debug/update?cluster={cluster}&weight={1 + changes}")
                    memory.append((now, _rss(server.pid)))
                crowd.misbehave()
                await crowd.fill(streams)
                await asyncio.sleep(dice.expovariate(DEEDS_RATE * streams))
            crowd.behave()
            await server.get("/debug/update?weight=1000000")
            stale = await _wait_fresh(crowd)
            await crowd.fill(streams)
            document = await server.get_json("/api/v1/envoys")
            _, exposition = await server.get("/metrics")
            for stream in crowd.streams:
                stream.close()
    known = sum(not line.startswith("#") for line in exposition.splitlines())
    return Row(
        f"{streams} streams, {seconds:g} s, seed {seed}",
        {
            "stale": float(stale),
            "RSS MB": memory[-1][1],
            "RSS growth MB a minute": 60 * slope(memory[round(SETTLED * len(memory)) :]),
            "streams started": float(crowd.started),
            "refusals": float(crowd.deeds["refuse"]),
            "stalls": float(crowd.deeds["stall"]),
            "cut by the server": float(crowd.deeds["ended by the server"]),
            "changes": float(changes),
            "responses": float(crowd.responses),
            "Envoys in the books": float(len(document["envoys"])),
            "metric lines": float(known),
        },
        (Target("stale", 0.0),),
    )


async def _wait_fresh(crowd: _Crowd, within: float = 60.0) -> int:
    """Wait until no one is stale; return how many still are."""
    ends = time.monotonic() + within
    while (stale := crowd.stale()) and time.monotonic() < ends:  # noqa: ASYNC110 -- sockets say
        await asyncio.sleep(0.1)
    return stale


def _rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE / 1e6


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the growth by least squares."""
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Soak the control plane.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(
        table(
            "Soak",
            [asyncio.run(soak(streams=given.streams, seconds=60 * given.minutes, seed=given.seed))],
        )
    )
