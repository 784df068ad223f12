"""One example for each use case: what it claims is what is decided, and all of it starts."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from pathlib import Path

import pytest

from controlplane.config import parse_config
from controlplane.fleet import FleetState
from controlplane.model import TrafficReport
from controlplane.steering import Plan, Steering
from testbed.demo.run import Demo
from testbed.demo.screen import plain_lines
from testbed.demo.world import build_world

EXAMPLES = Path(__file__).parents[2] / "examples"
RUNNABLE = sorted(path.parent for path in EXAMPLES.glob("*/emulation.yaml"))


def decide(name: str, text: str | None = None, *, part: float | None = None) -> Plan:
    """Decide on the example's own demand; of streams that swing on *part* of the way up."""
    folder = EXAMPLES / name
    config = parse_config(text or (folder / "fleet.yaml").read_text(), file="fleet.yaml")
    streams = build_world(folder).streams
    fleet, steering = FleetState(config, now=0.0), Steering(config)
    plan = None
    for second in range(1, 40):
        for stream in streams:
            rate = stream.rate
            if stream.swing is not None and part is not None:
                rate *= stream.swing.part_at(part * stream.swing.period / 2)
            fleet.apply(
                TrafficReport(
                    "envoy", stream.site, stream.service, "", float(second), 1.0, rate, rate
                ),
                now=float(second),
            )  # fmt: skip
        plan = steering.decide(fleet.view(now=float(second)))
    assert plan is not None
    return plan


def shares(name: str, text: str | None = None) -> dict[tuple[str, str], dict[str, float]]:
    """Return (service, client site) -> site -> share, decided on the example's own demand."""
    plan = decide(name, text)
    found: dict[tuple[str, str], dict[str, float]] = {}
    for key, assignment in plan.assignments.items():
        sums: dict[str, float] = defaultdict(float)
        for item in assignment.allocations:
            if item.priority == 0:
                sums[item.site] += item.share
        found[key] = sums
    return found


def test_a_full_edge_sends_the_rest_to_cloud_and_neighbour() -> None:
    """Its own instance gets the most, and not everything."""
    found = shares("cloud-edge")["chat", "edge-south"]
    assert found["edge-south"] < 1.0
    assert found["cloud-1"] + found["edge-north"] > 0.1


def test_devices_come_last_and_what_can_wait_goes_farther() -> None:
    """Phones use an edge and not themselves; summaries leave the wanted edges, chats stay."""
    found = shares("cloud-edge-device")
    for service in ("chat", "summarise"):
        assert found[service, "phones"].get("phones", 0.0) == 0.0
    for site in ("edge-north", "edge-south"):
        assert found["chat", site][site] > 0.9
    assert found["chat", "phones"]["edge-north"] > 0.9
    assert found["summarise", "phones"].get("edge-north", 0.0) < 0.5
    assert found["summarise", "edge-south"]["cloud-1"] > 0.3


def test_neighbours_help_a_busy_edge() -> None:
    """The busy edge sends some away; the calm one keeps its own."""
    found = shares("edge-only")
    assert 0.3 < found["see", "edge-a"]["edge-a"] < 1.0
    assert found["see", "edge-b"]["edge-b"] > 0.5


def test_who_is_waited_for_stays_near() -> None:
    """The tolerant service leaves the near instance to the sensitive one."""
    found = shares("delay-mix")
    assert found["chat", "edge-1"]["edge-1"] > found["batch", "edge-1"]["edge-1"] + 0.1


def test_cheap_power_attracts_what_can_wait() -> None:
    """The far hydropower gets the reports; without a value of energy the near site does."""
    text = (EXAMPLES / "green-power" / "fleet.yaml").read_text()
    blind = text.replace("energy_value: 6000", "energy_value: 0")
    assert shares("green-power")["report", "office"]["hydro"] > 0.6
    assert shares("green-power", blind)["report", "office"]["hydro"] < 0.55


def test_more_replicas_are_wanted_where_the_load_swings_up() -> None:
    """Of the edge that swings at the top of its day; what runs there is enough."""
    low, high = (
        {group.site: group for group in decide("autoscaling", part=part).scaling}
        for part in (0.0, 1.0)
    )
    wanted = [groups["edge-north"].wanted or 0 for groups in (low, high)]
    assert 1 <= wanted[0] < wanted[1] <= high["edge-north"].replicas
    assert (1, 1) == (low["edge-south"].wanted, high["edge-south"].wanted)


@pytest.mark.envoy
@pytest.mark.parametrize("folder", RUNNABLE, ids=lambda folder: str(folder.name))
async def test_all_of_it_starts_and_answers(folder: Path, tmp_path: Path) -> None:
    """Instances, control plane, Envoys and traffic, as `make demo` starts them."""
    world = build_world(folder)
    starts = bool(world.asleep)
    async with Demo(world, tmp_path, seed=1) as demo:
        sending = asyncio.create_task(demo.play(600.0, go_on=False))
        wanted = {(stream.service, stream.site) for stream in world.streams}
        async with asyncio.timeout(180):
            while wanted - {(r.service, r.site) for r in demo.records if r.answered}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            # KEDA's questions, where an example has some: a failed call has no number.
            while not all(_is_answered(demo, group) for group in world.scaled):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            # What is asleep and worth its start answers in the end, and nothing failed till then.
            while starts and "north-2" not in {r.instance for r in demo.records}:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            # Of an Envoy's log, one request is explained: of the class that it belongs to.
            while world.logs and not demo.scene.explained:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        if world.logs:
            words = " ".join(" ".join(demo.scene.explained).split())
            assert f": {world.services[-1]} from edge, status 200 after" in words
            assert "of the service's requests" in words
        assert not starts or {"north-2"} == demo.scene.woken
        demo.interrupted.set()
        await sending
        assert not starts or all(record.answered for record in demo.records)
        assert 0 == await demo.count_rejected()
        # Emulated engines refuse names of models that they do not serve.
        assert [] == [record for record in demo.records if record.status == 404]


def _is_answered(demo: Demo, group: tuple[str, str]) -> bool:
    """Whether KEDA's client has a number for *group*, and the watcher sees it."""
    answer = demo.scene.scaling.get(group)
    if answer is None or answer.error:
        return False
    assert ("replicas-wanted", 1.0) == (answer.metric, answer.target)
    assert 1 <= answer.replicas
    line = f"KEDA asks for {'/'.join(group)}: {answer.replicas} "
    return any(line in each for each in plain_lines(demo.scene))


@pytest.mark.envoy
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["cloud-edge", "cloud-edge-device"])
async def test_the_missions_figures_meet_no_foreign_name(name: str, tmp_path: Path) -> None:
    """Engines that refuse foreign names, a training job, an edge that dies: no answer is 404.

    Two thousand requests where ``CATS_FAULTS`` asks for the long forms, four hundred elsewhere.
    """
    count = 2000 if "CATS_FAULTS" in os.environ else 400
    world = build_world(EXAMPLES / name)
    assert all(settings.serves for settings in world.instances.values())
    async with Demo(world, tmp_path, seed=2) as demo:
        length = count / sum(stream.rate for stream in world.streams)
        playing = asyncio.create_task(demo.play(length, go_on=True))
        async with asyncio.timeout(240):
            while len(demo.records) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        demo.interrupted.set()
        await playing
        answered = [record for record in demo.records if record.answered]
    models = {world.instances[record.instance].model for record in answered}
    assert [] == [record for record in demo.records if record.status == 404]
    assert len(answered) >= 0.98 * count
    assert len(models) >= 2
