"""Replicas on a real NATS cluster of three nodes: one leads, all hear and hold the same."""

from __future__ import annotations

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from controlplane.bus.nats import REPORTS, NatsBus
from controlplane.bus.plan_key import PART
from controlplane.model import Report, ScrapeFailure
from controlplane.steering.plan import Plan
from testbed.background import until
from testbed.fakes.fleets import make_config, make_plan
from testbed.processes.nats_servers import NatsCluster, running_nats

PATIENCE = 60.0


@dataclass
class Replica:
    """A bus and what came over it."""

    bus: NatsBus
    task: asyncio.Task[None]
    heard: list[Report]
    clock: Callable[[], float]
    changes: list[str] = field(default_factory=list)

    async def stop(self, *, give_back: bool = True) -> None:
        """Leave, in good order or as if killed."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        if give_back:
            await self.bus.close()
        else:
            await self.bus._nats.close()


async def join(
    cluster: NatsCluster, name: str, *, offset: float = 0.0, may_lead: bool = True
) -> Replica:
    """Join a replica whose clock is *offset* ahead."""
    heard: list[Report] = []
    changes: list[str] = []

    def clock() -> float:
        return time.monotonic() + offset

    bus = NatsBus(
        cluster.url.split(","),
        me=name,
        on_report=heard.append,
        on_change=changes.append,
        clock=clock,
    )
    bus.may_lead = may_lead
    task = asyncio.create_task(bus.run())
    assert await bus.wait_for_look(within=PATIENCE)
    return Replica(bus, task, heard, clock, changes)


@asynccontextmanager
async def joined(
    directory: Path, *, size: int = 3
) -> AsyncIterator[tuple[NatsCluster, list[Replica]]]:
    """Join three replicas to a cluster of *size* nodes."""
    async with running_nats(directory, size=size) as cluster, AsyncExitStack() as ends:
        replicas = []
        for number in range(3):
            replica = await join(cluster, f"r{number}", offset=1000.0 * number)
            ends.push_async_callback(replica.stop)
            replicas.append(replica)
        yield cluster, replicas


def leaders(replicas: list[Replica]) -> list[str]:
    """Return who leads."""
    return [replica.bus.me for replica in replicas if replica.bus.leads]


def plan(*weights: int, note: str = "") -> Plan:
    """Make a plan of instance -> weight."""
    config = make_config()
    names = [instance.name for instance in config.instances]
    split = dict(zip(names, weights, strict=False))
    made = make_plan(config, {("chat", "north"): split})
    assignments = {k: replace(a, note=note) for k, a in made.assignments.items()}
    return replace(made, version=f"{weights}{len(note)}", assignments=assignments)


async def test_reports_and_clients_reach_every_replica(tmp_path: Path) -> None:
    """Each on the clock of who hears it; no one hears himself."""
    async with joined(tmp_path, size=1) as (_, replicas):
        first, second, third = replicas
        now = first.clock()
        first.bus.clients({"north": 2})
        for number in range(5000):
            first.bus.publish(ScrapeFailure(f"i{number}", now - 3.0, "timeout"))
        await until(lambda: 5000 == len(second.heard) == len(third.heard))
        age = second.clock() - second.heard[-1].at
        await until(lambda: second.bus.clients({"north": 1}) == {"north": 3})

        assert 3.0 <= age < 3.0 + PATIENCE
        assert [] == first.heard
        assert [f"i{number}" for number in range(5000)] == [
            report.instance for report in second.heard if isinstance(report, ScrapeFailure)
        ]


async def test_one_leads_and_its_plan_is_everyones(tmp_path: Path) -> None:
    """A follower may offer nothing; a plan larger than a message goes in parts, again and again."""
    async with joined(tmp_path) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert not await replicas[1].bus.offer(plan(9, 9))
        assert await replicas[0].bus.offer(plan(1, 2))
        await until(lambda: all(_same(r.bus.plan, plan(1, 2)) for r in replicas))
        for size in (3, 2):
            noise = random.Random(size).randbytes(PART * size // 2).hex()
            large = plan(3, 4, note=noise)
            assert await replicas[0].bus.offer(large)
            await until(lambda: all(_same(r.bus.plan, large) for r in replicas))  # noqa: B023


def _same(left: Plan | None, right: Plan) -> bool:
    return left is not None and left.assignments == right.assignments


async def test_a_replica_that_cannot_decide_yet_leaves_the_lead_to_others(tmp_path: Path) -> None:
    """Alone it waits; once it can decide, it leads."""
    async with running_nats(tmp_path, size=1) as cluster:
        waiting = await join(cluster, "waiting", may_lead=False)
        other = await join(cluster, "other", offset=1000.0)
        try:
            await until(lambda: waiting.bus.leads or other.bus.leads)
            assert other.bus.leads
            await other.stop()
            waiting.bus.may_lead = True
            await until(lambda: waiting.bus.leads)
        finally:
            await waiting.stop()


async def test_a_leader_that_goes_is_succeeded(tmp_path: Path) -> None:
    """Where it gave the lease back, and where it could not; test_lease says how soon."""
    async with joined(tmp_path) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.offer(plan(1, 2))
        for replica in replicas:
            replica.bus._joined_at = replica.clock() - 100.0  # they have listened for long
        await replicas[0].stop()
        await until(lambda: len(leaders(replicas[1:])) == 1)
        (second,) = (r for r in replicas[1:] if r.bus.leads)
        (third,) = (r for r in replicas[1:] if not r.bus.leads)
        await until(lambda: third.bus.plan is not None)
        assert _same(second.bus.plan, plan(1, 2))
        await second.stop(give_back=False)
        await until(lambda: third.bus.leads)
        assert await third.bus.offer(plan(5, 6))
        # What a leader writes that does not know of its end is refused by the store.
        third.bus._stored._revision -= 1
        assert not await third.bus.offer(plan(7, 8))


@pytest.mark.parametrize("node", [0, 1, 2])
async def test_a_node_that_dies_takes_nobody_with_it(tmp_path: Path, node: int) -> None:
    """Where it was connected, each replica goes on over another node."""
    async with joined(tmp_path) as (cluster, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.offer(plan(1, 2))
        await cluster.kill(node)
        await until(lambda: all(r.bus.connected for r in replicas))

        async def offered() -> bool:
            for replica in replicas:
                if replica.bus.leads and await replica.bus.offer(plan(3, 4)):
                    return True
            return False

        async with asyncio.timeout(PATIENCE):
            while not await offered():  # noqa: ASYNC110 -- it happens elsewhere
                await asyncio.sleep(0.1)
        await until(lambda: all(_same(r.bus.plan, plan(3, 4)) for r in replicas))


async def test_a_plan_that_is_offered_while_the_connection_changes_is_an_answer(
    tmp_path: Path,
) -> None:
    """It is the plan of all, or may be offered again; the next one is taken in any case."""
    async with joined(tmp_path, size=1) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        offering = asyncio.create_task(replicas[0].bus.offer(plan(1, 2)))
        await asyncio.sleep(0)  # it is being deflated
        await replicas[0].bus._reconnected()

        assert await offering in {True, False}
        async with asyncio.timeout(PATIENCE):
            while not await replicas[0].bus.offer(plan(3, 4)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await until(lambda: all(_same(r.bus.plan, plan(3, 4)) for r in replicas))


async def test_without_the_bus_nobody_leads_and_all_keep_the_plan(tmp_path: Path) -> None:
    """And when it is back, they go on."""
    async with joined(tmp_path, size=1) as (cluster, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.offer(plan(1, 2))
        await until(lambda: all(_same(r.bus.plan, plan(1, 2)) for r in replicas))
        await cluster.kill(0)
        await until(lambda: not leaders(replicas))
        assert not await replicas[0].bus.offer(plan(3, 4))
        assert all(_same(r.bus.plan, plan(1, 2)) for r in replicas)
        await cluster.start(0)
        await until(lambda: len(leaders(replicas)) == 1)
        # Another replica may lead before this one has connected again.
        await until(lambda: "the bus is reached again" in replicas[0].changes)


async def test_a_store_that_comes_back_empty_is_filled_again(tmp_path: Path) -> None:
    """The leader goes on and writes lease and plan again; later plans reach all replicas."""
    async with joined(tmp_path, size=1) as (cluster, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.offer(plan(1, 2))
        await until(lambda: all(_same(r.bus.plan, plan(1, 2)) for r in replicas))
        await cluster.kill(0)
        shutil.rmtree(tmp_path / "node-0")
        await cluster.start(0)
        # One that joins before the loss is noticed may lead itself, and would decide anyway.
        lost = "store of the bus lost"
        await until(lambda: any(lost in each for r in replicas for each in r.changes))
        await until(lambda: len(leaders(replicas)) == 1)
        late = await join(cluster, "late", offset=5000.0)
        try:
            await until(lambda: _same(late.bus.plan, plan(1, 2)))
            (leader,) = (r for r in replicas if r.bus.leads)
            assert await leader.bus.offer(plan(3, 4))
            await until(lambda: all(_same(r.bus.plan, plan(3, 4)) for r in [*replicas, late]))
        finally:
            await late.stop()

        assert any("store of the bus lost" in each for each in leader.changes)


async def test_a_leader_that_resigns_is_succeeded_and_stays_away(tmp_path: Path) -> None:
    """Another replica leads within the lease's time, with the previous plan."""
    async with joined(tmp_path, size=1) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.offer(plan(1, 2))
        await until(lambda: replicas[0].bus.replicas == 2)
        await replicas[0].bus.resign()

        assert not replicas[0].bus.leads
        await until(lambda: len(leaders(replicas)) == 1)
        assert leaders(replicas) != ["r0"]
        assert all(_same(replica.bus.plan, plan(1, 2)) for replica in replicas[1:])


async def test_one_leads_even_where_all_have_resigned(tmp_path: Path) -> None:
    """Each gave the lease up in turn, as where no replica hears an instance."""
    async with joined(tmp_path, size=1) as (_, replicas):
        for replica in replicas:
            replica.bus._joined_at = replica.clock() - 100.0  # they have listened for long
        await until(lambda: replicas[0].bus.replicas == 2)
        for _ in replicas:
            await until(lambda: len(leaders(replicas)) == 1)
            (leader,) = (replica for replica in replicas if replica.bus.leads)
            await until(lambda: leader.bus.may_resign)  # noqa: B023 -- it hears another one
            await leader.bus.resign()
            assert not leader.bus.may_resign
        await until(lambda: len(leaders(replicas)) == 1)


async def test_a_lease_that_was_given_up_while_the_store_was_away_is_released(
    tmp_path: Path,
) -> None:
    """The store still names the one that resigned; it must not renew for that."""
    async with joined(tmp_path, size=1) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        await until(lambda: replicas[0].bus.replicas == 2)
        await replicas[0].bus._reconnected()
        await replicas[0].bus.resign()
        await until(lambda: len(leaders(replicas[1:])) == 1)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"{}", id="no plan"),
        pytest.param(b'{"version": "x", "slot": 1e999, "parts": 1e999}\n', id="beyond bounds"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b'{"format": 99, "version": "x", "slot": 0, "parts": 0}\n', id="newer"),
    ],
)
async def test_a_plan_that_cannot_be_read_is_reported_and_replaced(
    tmp_path: Path, value: bytes
) -> None:
    """All keep the last one, nothing fails, and the leader writes it again."""
    async with joined(tmp_path, size=1) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.offer(plan(1, 2))
        await until(lambda: all(_same(r.bus.plan, plan(1, 2)) for r in replicas))
        written = await replicas[1].bus._bucket.put("plan", value)
        await until(lambda: all(r.bus._stored._revision > written for r in replicas))

        assert all(_same(r.bus.plan, plan(1, 2)) for r in replicas)
        assert any("unreadable" in each for each in replicas[0].changes)
        assert await replicas[0].bus.offer(plan(5, 6))
        await until(lambda: all(_same(r.bus.plan, plan(5, 6)) for r in replicas))


def names(replica: Replica) -> set[str]:
    """Return the names of the overrides that *replica* has."""
    return {item["id"] for item in replica.bus.overrides or ()}


async def test_overrides_written_at_once_are_all_kept(tmp_path: Path) -> None:
    """Each replica adds some, leader or not, and all come to the same."""
    async with joined(tmp_path, size=1) as (_, replicas):

        async def add(replica: Replica, name: str) -> bool:
            return await replica.bus.update_overrides(lambda known: [*(known or ()), {"id": name}])

        added = await asyncio.gather(
            *(add(replica, f"{replica.bus.me}-{number}") for replica in replicas for number in "12")
        )
        await until(lambda: all(len(names(replica)) == 6 for replica in replicas))

    assert [True] * 6 == added


async def test_a_store_that_lost_the_overrides_gets_them_again(tmp_path: Path) -> None:
    """From the leader, with what has been added since the store was made."""
    async with joined(tmp_path, size=1) as (cluster, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[1].bus.update_overrides(lambda _: [{"id": "drain"}])
        await until(lambda: all(names(replica) == {"drain"} for replica in replicas))
        await replicas[0].bus._bucket.purge("overrides")
        late = await join(cluster, "late", offset=5000.0)
        try:
            await until(lambda: names(late) == {"drain"})
        finally:
            await late.stop()


@pytest.mark.parametrize(
    ("value", "replaced"),
    [
        pytest.param(b"no json", True, id="unreadable"),
        pytest.param(b'{"format": 1, "overrides": 7}', True, id="no list"),
        pytest.param(b'{"format": 99, "overrides": []}', False, id="newer"),
    ],
)
async def test_overrides_that_cannot_be_read_change_nothing(
    tmp_path: Path, value: bytes, *, replaced: bool
) -> None:
    """All keep theirs and report it; what a newer version wrote is not overwritten."""
    async with joined(tmp_path, size=1) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.update_overrides(lambda _: [{"id": "drain"}])
        await until(lambda: all(names(replica) == {"drain"} for replica in replicas))
        await replicas[1].bus._bucket.put("overrides", value)
        unreadable = "overrides on the bus unreadable"
        await until(lambda: any(unreadable in each for each in replicas[0].changes))
        written = await replicas[2].bus.update_overrides(lambda known: [*(known or ())])

        assert all(names(replica) == {"drain"} for replica in replicas)
        assert replaced == written


async def test_a_replica_of_the_next_version_leads_beside_older_ones(tmp_path: Path) -> None:
    """They hold no lease meanwhile, keep their plan, say why, and lead once it is gone."""
    async with joined(tmp_path, size=1) as (_, replicas):
        await until(lambda: leaders(replicas) == ["r0"])
        assert await replicas[0].bus.offer(plan(1, 2))
        await until(lambda: all(_same(r.bus.plan, plan(1, 2)) for r in replicas))
        await replicas[0].bus.resign()
        bucket, connection = replicas[1].bus._bucket, replicas[1].bus._nats
        renewals = 0

        async def lead() -> None:
            nonlocal renewals
            while True:
                await bucket.put("lease", b'{"format": 2, "holder": "next", "since": "later"}')
                await connection.publish(REPORTS, b'{"format": 2, "from": "next", "rows": []}')
                renewals += 1
                await asyncio.sleep(0.2)

        leading = asyncio.create_task(lead())
        await bucket.put("plan", b'{"format": 2, "version": "next", "chunks": 1}\n')
        await until(lambda: renewals > 20)
        assert [] == leaders(replicas)
        assert all(_same(r.bus.plan, plan(1, 2)) for r in replicas)
        assert all(any("of a newer version" in each for each in r.changes) for r in replicas)
        leading.cancel()
        await until(lambda: len(leaders(replicas)) == 1)
