"""Cycles without sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from controlplane.bus.local import LocalBus
from controlplane.config import Config, Site
from controlplane.controller.control_plane import ControlPlane
from controlplane.controller.cycle import CALM_PERIOD, SETTLED
from controlplane.controller.override_requests import parse_request
from controlplane.controller.scheduler import Scheduler
from controlplane.controller.state_file import StateFile
from controlplane.model import InstanceReport, Signal, Source, TrafficReport
from controlplane.runtime.log import get_logger
from controlplane.steering.plan import Plan
from controlplane.xds.types import ENDPOINT
from testbed.fakes.fleets import make_config, make_plan


async def test_streams_send_before_anything_is_reported() -> None:
    """Counting, logging and events come after the weights have left."""
    control = ControlPlane(make_config(), file=Path("fleet.yaml"))
    loop = asyncio.get_running_loop()
    order: list[str] = []

    def wake() -> None:
        loop.call_soon(order.append, "sent")

    control.views.watch("north", wake)
    control.cycle.completed.subscribe(lambda _: order.append("reported"))
    await control.cycle.run_once()
    control.close()

    assert ["sent", "reported"] == order


async def test_a_cycle_that_outlasts_its_period_rests_and_is_reported() -> None:
    """Others get the processor for a while, the log says so once, and urgent events come first."""
    clock = 0.0
    config = make_config()
    with capture_logs() as logs:
        control = ControlPlane(
            config, file=Path("fleet.yaml"), clock=lambda: clock, settle=0.0, log=get_logger()
        )
        waits: list[float] = []

        async def slow() -> None:
            nonlocal clock
            clock += 4.0 * config.steering.period

        async def wait(*, started_at: float, period: float, now: float) -> None:
            waits.append(started_at + period - now)
            if len(waits) == 3:
                raise asyncio.CancelledError

        control.cycle.run_once = slow  # type: ignore[method-assign]
        control.cycle._scheduler = SimpleNamespace(wait=wait)  # type: ignore[assignment]
        with pytest.raises(asyncio.CancelledError):
            await control.cycle.run()
        control.close()

    assert [1.0 * config.steering.period] * 3 == pytest.approx(waits)
    reported = [line for line in logs if line["event"] == "cycle outlasted its period"]
    assert 1 == len(reported)
    assert reported[0]["remedy"]


async def run_until(
    control: ControlPlane, waits: list[float], *, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run cycles without sockets until the scheduler has been asked to wait *count* times."""

    async def wait(*, started_at: float, period: float, now: float) -> None:
        del started_at, now
        waits.append(period)
        if len(waits) >= count:
            raise asyncio.CancelledError

    monkeypatch.setattr(Scheduler, "wait", lambda _self, **instants: wait(**instants))
    with pytest.raises(asyncio.CancelledError):
        await control.cycle.run()


def traffic(at: float, *, issued: float) -> TrafficReport:
    """Return what an Envoy reports of one interval."""
    return TrafficReport("e", "north", "chat", "north-a", at, 1.0, issued, issued)


def cycling(clock: Callable[[], float]) -> ControlPlane:
    """Return a control plane whose fleet has full weights from its first cycle."""
    return ControlPlane(make_config(), file=Path("fleet.yaml"), clock=clock, settle=0.0)


@pytest.mark.parametrize(
    ("reported", "is_calm"),
    [
        pytest.param(None, True, id="no report at all"),
        pytest.param(0.0, True, id="an Envoy without requests"),
        pytest.param(1.0, False, id="an Envoy with requests"),
    ],
)
async def test_a_fleet_that_no_one_uses_costs_few_cycles(
    reported: float | None, *, is_calm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but time can change the plan, so the next cycle waits; the first report ends that."""
    now = 100.0
    control = cycling(lambda: now)
    waits: list[float] = []
    await run_until(control, waits, count=2, monkeypatch=monkeypatch)
    now += SETTLED + 1.0
    if reported is not None:
        control.receive(traffic(now, issued=reported))
    await run_until(control, waits, count=3, monkeypatch=monkeypatch)
    control.close()

    assert [control.config.steering.period] * 2 == waits[:2]
    assert is_calm == (CALM_PERIOD == waits[2])


@pytest.mark.parametrize("period", [0.25, 7.0])
async def test_cycles_begin_a_period_apart(period: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The configured one."""
    config = make_config()
    steering = config.steering.model_copy(update={"period": period})
    control = ControlPlane(
        config.model_copy(update={"steering": steering}),
        file=Path("fleet.yaml"),
        clock=lambda: 100.0,
        settle=0.0,
    )
    waits: list[float] = []
    await run_until(control, waits, count=2, monkeypatch=monkeypatch)
    control.close()

    assert [period] * 2 == waits


async def test_the_first_report_ends_a_calm() -> None:
    """It asks for a cycle at once; so does a client, and silence does not."""
    now = 100.0
    control = cycling(lambda: now)
    await control.cycle.run_once()
    now += SETTLED + 1.0
    running = asyncio.create_task(control.cycle.run())
    cycles: list[str] = []
    control.cycle.completed.subscribe(lambda result: cycles.append(result.reason))
    while control.cycle._calm_since is None:  # noqa: ASYNC110 -- inside of the task
        await asyncio.sleep(0.01)
    control.receive(traffic(now, issued=0.0))
    is_still_calm = control.cycle._calm_since is not None
    control.receive(traffic(now, issued=3.0))
    while len(cycles) < 2:  # noqa: ASYNC110 -- inside of the task
        await asyncio.sleep(0.01)
    running.cancel()
    control.close()

    assert is_still_calm
    assert ["period", "first report after a calm"] == cycles[:2]


async def test_the_last_plan_is_saved_however_soon_the_end_comes(tmp_path: Path) -> None:
    """One that is published and never saved would be unknown to the next start."""
    control = ControlPlane(make_config(), file=Path("fleet.yaml"), settle=0.0, state_dir=tmp_path)
    running = asyncio.create_task(control.cycle.run())

    def end(_: object) -> None:
        running.cancel()

    control.cycle.completed.subscribe(end)
    await asyncio.gather(running, return_exceptions=True)
    served = control.plan
    control.close()

    saved = StateFile(tmp_path).load(now=0.0)
    assert served is not None
    assert saved is not None
    assert served.version == saved.plan.version


async def test_what_went_is_out_of_the_weights_before_a_slow_decision() -> None:
    """Envoys get the served plan without it while configuring and deciding take their time."""
    control = cycling(lambda: 100.0)
    await control.cycle.run_once()
    control.cycle._decided_in = 10.0
    seen: list[bool] = []
    decide, reconfigure = control.decider.decide, control.decider.reconfigure

    def look() -> None:
        snapshot = control.views.snapshot("cloud")
        assert snapshot is not None
        body = snapshot.of_type(ENDPOINT).resources["chat"].body
        seen.append(b"north-b" in body)

    async def decide_slowly(*args: Any, **options: Any) -> Any:
        look()
        return await decide(*args, **options)

    async def reconfigure_slowly(config: Config) -> None:
        look()
        await reconfigure(config)

    control.decider.decide = decide_slowly  # type: ignore[method-assign]
    control.decider.reconfigure = reconfigure_slowly  # type: ignore[method-assign]
    config = control.configuration.file_config
    left = tuple(each for each in config.instances if each.name != "north-b")
    control.configuration.receive_file(config.model_copy(update={"instances": left}))
    await control.cycle.run_once()
    plan = control.plan
    control.close()

    assert [False, False] == seen
    assert plan is not None
    assert {"north-a", "cloud-a"} == {
        each.instance for each in plan.assignments["chat", "cloud"].allocations
    }


@pytest.mark.parametrize(("instance", "fits"), [("north-a", True), ("a-stranger", False)])
async def test_a_plan_of_the_bus_is_served_where_it_fits_the_configuration(
    instance: str, *, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that starts has nothing else to serve, and serves no address but those it read."""
    config = make_config()
    pairs = [(service.name, site.name) for service in config.services for site in config.sites]
    control = ControlPlane(config, file=Path("fleet.yaml"))
    shared = make_plan(config, {key: {instance: 1} for key in pairs})
    monkeypatch.setattr(control.bus, "plan", shared)
    await control.cycle.restore()
    control.close()

    assert fits == control.views.ready


class LastLeader(LocalBus):
    """The bus of a replica that leads since a moment ago: the others have another leader's plan."""

    replicated = True

    def __init__(self, plan: Plan | None) -> None:
        self.plan: Plan | None = plan  # type: ignore[assignment]
        self.offered: list[str] = []

    async def offer(self, plan: Plan) -> bool:
        """Let it hold for all."""
        self.plan = plan
        self.offered.append(plan.version)
        return True


@pytest.mark.parametrize("instance", ["a-stranger", None], ids=["does not fit", "is none"])
async def test_a_new_leader_shares_the_plan_that_it_served_already(instance: str | None) -> None:
    """Though it decides nothing else: the others have the last leader's, or none."""
    config = make_config()
    pairs = [(service.name, site.name) for service in config.services for site in config.sites]
    last = None if instance is None else make_plan(config, {key: {instance: 1} for key in pairs})
    control = cycling(lambda: 100.0)
    await control.cycle.run_once()
    served = control.plan
    control.bus = bus = LastLeader(last)
    for _ in range(2):
        await control.cycle.run_once()
    control.close()

    assert served is not None
    assert control.plan is not None
    assert served.version == control.plan.version
    assert [served.version] == bus.offered


def endpoints(control: ControlPlane, view: str = "cloud") -> bytes:
    """Return the endpoints that a site's Envoys get."""
    snapshot = control.views.snapshot(view)
    assert snapshot is not None
    return snapshot.of_type(ENDPOINT).resources["chat"].body


def lose(control: ControlPlane) -> None:
    """Take an instance out of the file, or of what is discovered: the same way."""
    config = control.configuration.file_config
    left = tuple(each for each in config.instances if each.name != "north-b")
    control.configuration.receive_file(config.model_copy(update={"instances": left}))


def drain(control: ControlPlane) -> None:
    """Add an operator's override."""
    body = {"instance": "north-b", "drain": True, "for": "10m", "reason": "driver", "by": "ann"}
    request = parse_request(json.dumps(body).encode(), control.config)
    control.configuration.add_override(request)


def say_not_ready(control: ControlPlane) -> None:
    """Let the instance report that it must get nothing."""
    now = control.clock()
    control.receive(InstanceReport("north-b", Source.AGENT, now, {}, ready=False))


@pytest.mark.parametrize("withdraw", [lose, drain, say_not_ready])
async def test_what_goes_overtakes_a_decision_under_way(
    withdraw: Callable[[ControlPlane], None],
) -> None:
    """It is out of the weights before that decision ends, and stays out of what it comes to."""
    now = 100.0
    control = cycling(lambda: now)
    await control.cycle.run_once()
    assert b"north-b" in endpoints(control)
    began, may_end = asyncio.Event(), asyncio.Event()
    decide = control.decider.decide

    async def decide_slowly(*args: Any, **options: Any) -> Any:
        decision = await decide(*args, **options)
        began.set()
        await may_end.wait()
        return decision

    control.decider.decide = decide_slowly  # type: ignore[method-assign]
    withdrawing = asyncio.create_task(control.cycle.run_withdrawals())
    deciding = asyncio.create_task(control.cycle.run_once())
    await began.wait()
    now += 10.0
    withdraw(control)
    async with asyncio.timeout(60):
        while b"north-b" in endpoints(control):  # noqa: ASYNC110 -- in the task
            await asyncio.sleep(0.005)
        is_deciding = not deciding.done()
        may_end.set()
        await deciding
    decided_before = control.plan
    served = endpoints(control)
    await control.cycle.run_once()
    decided_after = control.plan
    withdrawing.cancel()
    control.close()

    assert is_deciding
    assert decided_before is not None
    assert decided_after is not None
    assert "north-b" in {
        each.instance for each in decided_before.assignments["chat", "cloud"].allocations
    }
    assert b"north-b" not in served
    assert b"north-a" in served
    assert b"north-b" not in endpoints(control)
    assert "north-b" not in {
        each.instance for each in decided_after.assignments["chat", "cloud"].allocations
    }


async def test_what_a_view_finds_lost_is_withdrawn_before_a_slow_decision() -> None:
    """Silence is noticed when the fleet is looked at, and need not wait for the shares."""
    now = 100.0
    control = cycling(lambda: now)
    for name in ("north-a", "north-b", "cloud-a"):
        control.receive(InstanceReport(name, Source.AGENT, now, {Signal.RUNNING: 0.0}))
    await control.cycle.run_once()
    now += control.config.steering.expiry + 1.0
    for name in ("north-a", "cloud-a"):
        control.receive(InstanceReport(name, Source.AGENT, now, {Signal.RUNNING: 0.0}))
    control.cycle._decided_in = 10.0
    seen: list[bool] = []
    decide = control.decider.decide

    async def decide_slowly(*args: Any, **options: Any) -> Any:
        seen.append(b"north-b" in endpoints(control))
        return await decide(*args, **options)

    control.decider.decide = decide_slowly  # type: ignore[method-assign]
    was_served = b"north-b" in endpoints(control)
    await control.cycle.run_once()
    control.close()

    assert was_served
    assert [False] == seen


async def test_a_new_site_waits_for_its_first_decision_while_another_instance_goes() -> None:
    """What is withdrawn meanwhile is built for the sites that are served, so no view is empty."""
    control = cycling(lambda: 100.0)
    await control.cycle.run_once()
    config = control.configuration.file_config
    grown = config.model_copy(update={"sites": (*config.sites, Site(name="new", kind="edge"))})
    decide = control.decider.decide
    views: list[set[str]] = []

    async def decide_slowly(*args: Any, **options: Any) -> Any:
        lose(control)
        control.cycle._decided_in = 10.0
        await control.cycle._withdraw()
        views.append(set(control.views.views))
        assert b"north-b" not in endpoints(control)
        return await decide(*args, **options)

    control.decider.decide = decide_slowly  # type: ignore[method-assign]
    control.configuration.receive_file(grown)
    await control.cycle.run_once()
    control.close()

    assert ["new" in each for each in views] == [False]
    assert "new" in control.views.views
    assert b"north-a" in endpoints(control, "new")
    assert b"north-b" not in endpoints(control, "new")


async def test_estimates_without_a_place_are_not_gathered() -> None:
    """One control plane without a state directory has no place for them."""
    control = cycling(lambda: 100.0)

    assert not control.persistence.estimates_due(shared=control.bus.shares_memory)
    control.close()
