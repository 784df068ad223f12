"""Requests follow the pushed weights, in both variants of the protocol, and nothing disturbs it."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from controlplane.grpc_services.envoys import TypeRecord
from controlplane.resources.build import SnapshotBuilder
from controlplane.xds.snapshot import Snapshot, TypeSnapshot
from controlplane.xds.types import ENDPOINT
from testbed.fakes.fleets import make_plan
from testbed.fakes.xds import make_assignment, serve_xds
from testbed.processes.envoy_mesh import Mesh, running_mesh

pytestmark = pytest.mark.envoy

MODES = [pytest.param(True, id="delta"), pytest.param(False, id="sotw")]
WEIGHTS = {"a": 1, "b": 2, "c": 3, "d": 4, "e": 10}
PLACES = {"a": "north", "b": "north", "c": "cloud", "d": "cloud", "e": "north"}
CHI_SQUARE_5_PERCENT = 9.49
"""Of four degrees of freedom."""


def chi_square(counts: dict[str, int], weights: dict[str, int]) -> float:
    """Return the distance of *counts* from what *weights* promise."""
    total, whole = sum(counts.values()), sum(weights.values())
    return sum(
        (counts.get(name, 0) - total * weight / whole) ** 2 / (total * weight / whole)
        for name, weight in weights.items()
    )


@pytest.mark.parametrize("delta", MODES)
async def test_two_thousand_requests_follow_the_weights(delta: bool) -> None:
    """Over two sites and under concurrency; and again after the weights are turned round."""
    async with running_mesh(PLACES, delta=delta, split={"chat": WEIGHTS}) as mesh:
        counts = await mesh.answers(2000)
        assert set(WEIGHTS) == set(counts)
        assert chi_square(counts, WEIGHTS) < CHI_SQUARE_5_PERCENT
        turned = dict(zip(WEIGHTS, reversed(WEIGHTS.values()), strict=True))
        await mesh.push({"chat": turned})
        assert chi_square(await mesh.answers(1000), turned) < CHI_SQUARE_5_PERCENT


async def test_a_part_is_refused_at_once() -> None:
    """Envoy answers about that part 503 itself, and the rest follows the weights."""
    split = {"a": 1, "b": 3}
    places = {"a": "north", "b": "north"}
    async with running_mesh(places, split={"chat": split}) as mesh:
        plan = make_plan(mesh.config, {("chat", "north"): split})
        refusing = {key: replace(each, drop=0.3) for key, each in plan.assignments.items()}
        views = SnapshotBuilder(mesh.config).build(replace(plan, assignments=refusing))
        mesh.server.views.publish(views)

        async def begun() -> None:
            while (await mesh.request("/v1/chat")).status == 200:
                pass

        await asyncio.wait_for(begun(), 60)
        answers = [await mesh.request("/v1/chat") for _ in range(600)]

    dropped = [each for each in answers if each.status == 503]
    assert {"true"} == {each.headers["x-envoy-drop-overload"] for each in dropped}
    # Six standard deviations of a binomial count; Envoy picks a host before it drops.
    assert pytest.approx(180, abs=6 * (600 * 0.3 * 0.7) ** 0.5) == len(dropped)
    served = Counter(each.headers["x-cats-instance"] for each in answers if each.status == 200)
    assert 600 == len(dropped) + served.total()
    assert pytest.approx(0.75, abs=0.13) == served["b"] / served.total()


@pytest.mark.parametrize("delta", MODES)
async def test_a_changed_cluster_does_not_stall(delta: bool) -> None:
    """Its endpoints follow it, so that it need not wait 15 s for endpoints it has."""
    async with running_mesh({"a": "north"}, delta=delta, split={"chat": {"a": 5}}) as mesh:
        envoy = mesh.config.envoy.model_copy(update={"connect_timeout": 0.25})
        changed = mesh.config.model_copy(update={"envoy": envoy})
        plan = make_plan(changed, {("chat", "north"): {"a": 5}})
        mesh.server.views.publish(SnapshotBuilder(changed).build(plan))

        async def applied() -> None:
            while "0.250s" not in str(
                await mesh.envoy.config_dump(resource="dynamic_active_clusters")
            ):
                assert {"a": 1} == await mesh.answers(1)

        await asyncio.wait_for(applied(), 60)


@pytest.mark.parametrize("delta", MODES)
async def test_a_refused_resource_is_recorded_and_not_sent_again(delta: bool) -> None:
    """What slipped through our own checks changes nothing, and Envoy's words are kept."""
    async with running_mesh({"a": "north"}, delta=delta, split={"chat": {"a": 5}}) as mesh:
        good = mesh.server.views.views["north"]
        bad = TypeSnapshot.of([make_assignment("chat", [0])])
        mesh.server.views.publish({"north": Snapshot({**good.types, ENDPOINT: bad})})
        record = await wait_for_refusal(mesh)
        assert "value must be greater than or equal to 1" in record.refusal
        pushes = record.pushes
        assert {"a": 20} == await mesh.answers(20)
        await mesh.push({"chat": {"a": 6}})
        assert pushes + 1 == record.pushes
        assert "" == record.refused


async def wait_for_refusal(mesh: Mesh) -> TypeRecord:
    """Wait until the Envoy refused endpoints; give what is known of that type."""
    async with asyncio.timeout(60):
        while True:
            for envoy in mesh.server.registry.envoys:
                record = envoy.types.get(ENDPOINT)
                if record is not None and record.nacks:
                    return record
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("delta", MODES)
async def test_a_control_plane_that_dies_and_returns_changes_nothing(delta: bool) -> None:
    """Requests go on while it is unreachable; what it then serves is what Envoy has."""
    split = {"a": 1, "b": 3}
    places = {"a": "north", "b": "north"}
    async with running_mesh(places, delta=delta, split={"chat": split}) as mesh:
        before = await mesh.envoy.config_dump(resource="dynamic_active_clusters")
        await mesh.server.stop()
        await mesh.envoy.wait_for_stat("control_plane.connected_state", lambda value: value == 0)
        assert {"a": 50, "b": 150} == await mesh.answers(200)
        port = int(mesh.server.address.rsplit(":", 1)[1])
        async with serve_xds(sites=("north",), port=port) as successor:
            plan = make_plan(mesh.config, {("chat", "north"): split})
            successor.views.publish(SnapshotBuilder(mesh.config).build(plan))
            await mesh.envoy.wait_for_stat(
                "control_plane.connected_state", lambda value: value == 1
            )
            assert {"a": 50, "b": 150} == await mesh.answers(200)
            (record,) = successor.registry.envoys
            assert delta == (not record.types)
        after = await mesh.envoy.config_dump(resource="dynamic_active_clusters")
        assert before == after


async def test_a_drained_instance_gets_nothing_though_it_is_healthy() -> None:
    """Envoy would keep an endpoint that is gone for as long as its health checks succeed."""
    check = {"interval": "100ms", "timeout": "1s"}
    places = {"a": "north", "b": "north"}
    async with running_mesh(
        places, split={"chat": {"a": 1, "b": 1}}, envoy={"health_check": check}
    ) as mesh:
        assert {"a": 10, "b": 10} == await mesh.answers(20)
        await mesh.push({"chat": {"a": 1}})
        assert {"a": 20} == await mesh.answers(20)
