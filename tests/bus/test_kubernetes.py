"""Replicas joined by a Lease of the Kubernetes API, and by asking the leader."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web

from controlplane.bus import kubernetes, leased
from controlplane.bus.kubernetes import KubernetesBus
from controlplane.bus.peer_messages import Answer, PeerError, Question, decode_peer_message
from controlplane.bus.peers import PATH, SIGNATURE, PeerClient, make_peer_application, sign
from controlplane.bus.presence import Presence
from controlplane.bus.relay import Relay
from controlplane.config import KubernetesApi
from controlplane.model import Report, TrafficReport
from controlplane.sources.kubernetes.api_answers import ApiError, Failure
from controlplane.sources.kubernetes.client import ApiClient, new_session
from controlplane.sources.kubernetes.leases import LeaseRecord, LeaseStore
from testbed.background import until
from testbed.fakes.fleets import make_config, make_plan
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.web_servers import serving_routes

KEY = "0123456789abcdef"
WITHIN = 60.0
PLAN = make_plan(make_config(), {("chat", "north"): {"north-a": 1}})

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def _many_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, at a lease that no pause of the machine lets run out."""
    for name, value in {
        "DURATION": 60.0, "MARGIN": 20.0, "LOOK_PERIOD": 0.05, "ASK_PERIOD": 0.02,
    }.items():  # fmt: skip
        monkeypatch.setattr(kubernetes, name, value)
    monkeypatch.setattr(leased, "WARM_UP", 0.0)


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a lease whose end can be waited for."""
    monkeypatch.setattr(kubernetes, "DURATION", 3.0)
    monkeypatch.setattr(kubernetes, "MARGIN", 1.0)


@dataclass
class Replica:
    """A bus with what it heard."""

    bus: KubernetesBus
    task: asyncio.Task[None]
    heard: list[Report] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    async def crash(self) -> None:
        """End without giving anything back."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


@contextlib.asynccontextmanager
async def replica(
    server: KubernetesApiServer, name: str, *, offset: float = 0.0, rate: float = 1.0
) -> AsyncIterator[Replica]:
    """Run a replica, whose clock is off by *offset* and runs at *rate*."""

    def clock() -> float:
        return time.monotonic() * rate + offset

    async with contextlib.AsyncExitStack() as ends:
        api = await ends.enter_async_context(new_session())
        peers = await ends.enter_async_context(aiohttp.ClientSession())
        heard: list[Report] = []
        changes: list[str] = []
        store = LeaseStore(
            ApiClient(KubernetesApi(server=server.url), api), namespace="cats", name="cats",
            duration=kubernetes.DURATION, unix_time=lambda: time.time() + offset,
        )  # fmt: skip
        bus = KubernetesBus(
            store, PeerClient(peers, key=lambda: KEY), me=name, address="",
            on_report=heard.append, on_change=changes.append, clock=clock,
        )  # fmt: skip
        application = make_peer_application(bus.answer, key=lambda: KEY)
        port = await ends.enter_async_context(serving_routes(application=application))
        bus.address = f"127.0.0.1:{port}"
        one = Replica(bus, asyncio.create_task(bus.run()), heard, changes)
        ends.push_async_callback(one.crash)
        yield one


@contextlib.asynccontextmanager
async def leader_and_follower(
    server: KubernetesApiServer, **clock: float
) -> AsyncIterator[tuple[Replica, Replica]]:
    """Run two replicas, the second one with a *clock* of its own, until one leads."""
    async with (
        serving_kubernetes(server),
        replica(server, "a") as a,
        replica(server, "b", **clock) as b,
    ):
        await until(lambda: a.bus.leads or b.bus.leads)
        yield (a, b) if a.bus.leads else (b, a)


def traffic(at: float) -> TrafficReport:
    """Return what an Envoy reports."""
    return TrafficReport("e", "north", "chat", "north-a", at, 1.0, 3.0, 3.0)


async def test_one_of_two_leads_and_each_hears_what_the_other_hears() -> None:
    """Reports, clients and the plan reach both; the Lease says for people who leads."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server), replica(server, "a") as a:
        await until(lambda: a.bus.leads)
        async with replica(server, "b", offset=1e6) as b:
            assert await a.bus.offer(PLAN)
            await until(lambda: b.bus.plan is not None)
            a.bus.clients({"north": 2})
            b.bus.clients({"north": 1, "cloud": 4})
            b.bus.publish(traffic(time.monotonic() + 1e6))
            await until(lambda: bool(a.heard))
            a.bus.publish(traffic(time.monotonic()))
            await until(lambda: bool(b.heard))
            await until(lambda: {"north": 3, "cloud": 4} == a.bus.clients({"north": 2}))
            await until(lambda: {"north": 3, "cloud": 4} == b.bus.clients({"north": 1, "cloud": 4}))
            lease = server._objects["leases", "cats", "cats"]

            assert (True, False) == (a.bus.leads, b.bus.leads)
            assert b.bus.plan is not None
            assert PLAN.version == b.bus.plan.version
            assert 1 == a.bus.replicas == b.bus.replicas
            assert "a" == lease["spec"]["holderIdentity"]
            assert not b.bus.answer(Question("b", "x", 1, "", -1, "{}"))


async def test_one_that_joins_gets_what_the_leader_learned() -> None:
    """Once, with the first answer; one of an earlier version that says nothing of it is heard."""
    server, learned = KubernetesApiServer(), {"capacity": {"north-a": {"slots": 3.5}}}
    async with serving_kubernetes(server), replica(server, "a") as a:
        await until(lambda: a.bus.leads)
        assert a.bus.shares_memory
        assert await a.bus.offer(PLAN)
        await a.bus.share_memory(learned)
        async with replica(server, "b") as b:
            await until(lambda: b.bus.memory is not None)
            message = json.dumps({"from": "c", "clients": {}, "reports": []})
            again = a.bus.answer(Question("a", "c", 1, PLAN.version, -1, message))

            assert not b.bus.shares_memory
            assert learned == b.bus.memory
            assert again is not None
            assert "" == again.memory
    earlier = {"version": "v", "plan": "", "until": 1, "message": "{}"}
    assert Answer("v", "", 1, "{}") == decode_peer_message(Answer, json.dumps(earlier).encode())


@pytest.mark.parametrize("content", ["no base 64", "bm9uZQ=="])
async def test_estimates_that_cannot_be_read_are_an_answer_that_cannot(content: str) -> None:
    """The question is asked again; what was known stays."""
    relay = Relay("b", Presence(clock=time.monotonic), clock=time.monotonic)
    message = json.dumps({"from": "a", "clients": {}, "reports": []})
    relay.ask("a")

    with pytest.raises(PeerError, match="cannot be read"):
        await relay.receive("a", Answer("", "", 1, message, content))
    assert relay.memory is None


@pytest.mark.parametrize(
    ("offset", "rate"),
    [
        pytest.param(0.0, 1.0, id="equal clocks"),
        pytest.param(86_400.0, 1.0, id="a day ahead"),
        pytest.param(-86_400.0, 1.0, id="a day behind"),
        pytest.param(0.0, 1.2, id="a clock that runs a fifth too fast"),
    ],
)
@pytest.mark.usefixtures("short_lease")
async def test_a_leader_that_crashed_is_followed_once_its_lease_is_over(
    offset: float, rate: float
) -> None:
    """Whatever the clocks say, and never while the first one still holds it."""
    server = KubernetesApiServer()
    async with leader_and_follower(server, offset=offset, rate=rate) as (first, second):
        await first.bus.offer(PLAN)
        await until(lambda: second.bus.plan is not None)
        await first.crash()
        both = False
        async with asyncio.timeout(WITHIN):
            while not second.bus.leads:
                await asyncio.sleep(0.01)
                both = both or (first.bus.leads and second.bus.leads)

        assert not both
        assert not first.bus.leads
        assert second.bus.plan is not None  # it goes on from the plan that all had


@pytest.mark.usefixtures("short_lease")
async def test_a_leader_without_the_api_gives_up_before_another_begins() -> None:
    """And the follower that still has the API leads; the plan stays at both."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server), replica(server, "a") as a:
        await until(lambda: a.bus.leads)
        await a.bus.offer(PLAN)
        server.busy = True
        await until(lambda: "this replica follows" in a.changes)

        assert a.bus.plan is PLAN
        assert not a.bus.connected
        assert not await a.bus.offer(PLAN)
        assert ["this replica leads", "the bus is unreachable", "this replica follows"] == [
            each for each in a.changes if each != "the bus is reached"
        ]
        server.busy = False
        await until(lambda: a.bus.leads)


async def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    """At a rollout no one waits for its end."""
    server = KubernetesApiServer()
    async with leader_and_follower(server) as (first, second):
        await first.crash()
        await first.bus.close()
        assert "" == server._objects["leases", "cats", "cats"]["spec"]["holderIdentity"]
        await until(lambda: second.bus.leads)


async def test_of_two_that_write_one_is_refused() -> None:
    """409: the object is another than the one that was read."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server), new_session() as session:
        store = LeaseStore(
            ApiClient(KubernetesApi(server=server.url), session), namespace="cats", name="cats",
            duration=10.0, unix_time=time.time,
        )  # fmt: skip
        nothing = await store.read()
        held = await store.hold(nothing, holder="a", address="10.0.0.1:1")
        with pytest.raises(ApiError) as created:
            await store.hold(nothing, holder="b", address="10.0.0.2:1")
        await store.hold(held, holder="a", address="10.0.0.1:1")
        with pytest.raises(ApiError) as replaced:
            await store.hold(held, holder="b", address="10.0.0.2:1")
        now = await store.read()

    assert LeaseRecord("", 0) == nothing
    assert {Failure.CONFLICT} == {created.value.failure, replaced.value.failure}
    assert ("a", "10.0.0.1:1") == (now.holder, now.address)


async def test_overrides_are_those_of_all_and_disturb_no_leader() -> None:
    """They are kept on the Lease, where a write by a follower costs the leader nothing."""
    server = KubernetesApiServer()
    async with leader_and_follower(server) as (first, second):
        for number in range(5):
            entry = {"id": str(number)}
            assert await second.bus.update_overrides(lambda now, e=entry: [*(now or ()), e])  # type: ignore[misc]
        await until(lambda: 5 == len(first.bus.overrides or ()))

        assert first.bus.leads
        assert "this replica follows" not in first.changes


@pytest.mark.usefixtures("short_lease")
async def test_versions_that_go_back_do_not_leave_the_replicas_without_a_leader() -> None:
    """As after a restore of etcd from a backup."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server), replica(server, "a") as a:
        backup = server.backup()
        await until(lambda: a.bus.leads)
        for _ in range(20):
            server.put("pods", {"metadata": {"name": "p", "namespace": "x"}})
        renewed = server._objects["leases", "cats", "cats"]
        await until(lambda: server._objects["leases", "cats", "cats"] is not renewed)
        server.restore(backup)
        await until(lambda: ("leases", "cats", "cats") in server._objects)
        await until(lambda: a.bus.leads)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({}, b"{}", 401, id="not signed"),
        pytest.param({SIGNATURE: sign("another key of ours", b"{}")}, b"{}", 401, id="other key"),
        pytest.param({SIGNATURE: sign(KEY, b"{}")}, b"{}", 400, id="no question"),
        pytest.param({SIGNATURE: sign(KEY, b"\xff")}, b"\xff", 400, id="no JSON"),
    ],
)
async def test_what_no_replica_said_is_rejected(
    headers: dict[str, str], body: bytes, status: int
) -> None:
    """Without the key no one can report or decide."""
    server = KubernetesApiServer()
    async with (
        serving_kubernetes(server),
        replica(server, "a") as a,
        aiohttp.ClientSession() as http,
        http.post(f"http://{a.bus.address}{PATH}", data=body, headers=headers) as answer,
    ):
        assert status == answer.status


async def test_a_question_counts_once_and_for_one_leader() -> None:
    """One that was recorded is answered again, and its reports are not taken again."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server), replica(server, "a") as a:
        await until(lambda: a.bus.leads)
        message = json.dumps({"from": "b", "clients": {"north": 1}, "reports": []})
        question = Question("a", "b", 7, "", -1, message)
        a.bus.answer(question)
        a.bus._presence._others.clear()
        a.bus.answer(question)

        assert 0 == a.bus.replicas
        assert a.bus.answer(Question("another", "b", 8, "", -1, message)) is None


async def test_an_answer_that_the_key_did_not_sign_is_no_plan() -> None:
    """A Lease that names someone else's address leads to nothing."""

    async def lie(_: web.Request) -> web.Response:
        return web.json_response({"version": "x", "plan": "", "until": 1, "message": "{}"})

    async with serving_routes(web.post(PATH, lie)) as port, aiohttp.ClientSession() as session:
        client = PeerClient(session, key=lambda: KEY)
        with pytest.raises(PeerError, match="signature"):
            await client.ask(f"127.0.0.1:{port}", Question("a", "b", 1, "", -1, "{}"))
