"""``cats serve`` as an operator runs it: its own process, its ports, its signals."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from controlplane.steering.stability import SETTLED
from controlplane.xds.types import CLUSTER, ENDPOINT
from testbed.background import until
from testbed.fakes import large_fleets
from testbed.fakes.metrics_pages import Load, serving_pages
from testbed.fakes.xds import XdsClient
from testbed.processes.control_planes import ControlPlaneProcess
from testbed.tools.plan_shares import largest_move, settled_shares, shares

FLEET = """
version: 1
sites:
  - {name: north, kind: edge}
  - {name: cloud, kind: cloud}
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}
instances:
  - {name: a, site: north, address: "127.0.0.1:9001", model: m}
  - {name: b, site: cloud, address: "127.0.0.1:9002", model: m}
steering: {period: 200ms}
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Return a small valid configuration."""
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET, encoding="utf-8")
    return file


def write(file: Path, text: str) -> None:
    """Replace a file's text, as an editor would."""
    file.write_text(text, encoding="utf-8")


def read(file: Path) -> str:
    """Return a file's text."""
    return file.read_text(encoding="utf-8")


async def versions(port: int, *, held: dict[str, str] | None = None) -> dict[str, str]:
    """Subscribe with delta; give name -> version of the endpoints that are sent."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        client = XdsClient(channel, delta=True)
        await client.request(ENDPOINT, ["chat", "gone"], initial=held or {})
        response = await client.response()
        client.cancel()
        return {resource.name: resource.version for resource in response.resources}


@pytest.mark.parametrize("transport", ["h2", "grpcio"])
async def test_sigterm_ends_it_in_good_order(fleet: Path, transport: str) -> None:
    """Open streams are ended, the status is 0, and no traceback is left behind.

    Only one of the transports has loaded gRPC's library.
    """
    write(fleet, f"{FLEET}server: {{transport: {transport}}}\n")
    async with ControlPlaneProcess(fleet) as control:
        await control.wait_ready()
        loaded = read(Path(f"/proc/{control.pid}/maps"))
        assert ("/cygrpc." in loaded) == (transport == "grpcio")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{control.xds_port}") as channel:
            client = XdsClient(channel, delta=True)
            await client.request(CLUSTER)
            await client.response()
            control.signal(signal.SIGTERM)
            status = await control.ended()
            code, _ = await client.status()

        assert 0 == status
        assert grpc.StatusCode.OK != code
        assert "draining" in [line["event"] for line in control.events()]
        assert "Traceback" not in control.log()


async def test_a_restart_with_its_state_sends_nobody_anything(fleet: Path, tmp_path: Path) -> None:
    """The versions are those from before, so a client that comes back is sent nothing."""
    state = ("--state-dir", str(tmp_path / "state"))
    async with ControlPlaneProcess(fleet, *state) as control:
        await control.wait_ready()
        first = await control.get_json("/api/v1/plan")
        held = await versions(control.xds_port)
        control.signal(signal.SIGTERM)
        await control.ended()

    # Nothing is decided for a minute: what is served can only come from the disk.
    async with ControlPlaneProcess(fleet, *state, "--settle", "60") as control:
        await control.wait_ready()
        second = await control.get_json("/api/v1/plan")
        resent = await versions(control.xds_port, held=held)

    assert first["version"] == second["version"]
    assert first["services"] == second["services"]
    assert {"chat"} == held.keys()
    assert {} == resent


def _waits(explained: dict[str, Any]) -> bool:
    return "2 of its instances are not heard yet" in explained["note"]


async def test_a_restart_waits_for_reports_of_what_is_not_scraped_and_not_for_ever(
    fleet: Path, tmp_path: Path
) -> None:
    """Agents and Envoys dial again, and report after a period; here none of them ever does."""
    write(fleet, f"{FLEET}envoy: {{load_period: 4s}}\n")
    row = "/api/v1/explain?service=chat&from=north"
    state = ("--state-dir", str(tmp_path / "state"))
    async with ControlPlaneProcess(fleet, *state) as control:
        await control.wait_ready()
        assert not _waits(await control.get_json(row))
        control.signal(signal.SIGTERM)
        await control.ended()

    async with ControlPlaneProcess(fleet, *state) as control:
        await control.wait_ready()
        await control.wait_for(row, _waits, "wait for reports")
        await control.wait_for(row, lambda explained: not _waits(explained), "go on without")


def scraped_fleet(loads: dict[str, Load], port: int, *, steering: str = "") -> str:
    """Write a fleet whose instances are scraped on *port*."""
    lines = [
        f"  - {{name: {name}, site: {'cloud' if name == 'c' else 'north'}, engine: vllm,"
        f' address: "127.0.0.1:{9001 + number}", model: m, slots: 16,'
        f' scrape: {{url: "http://127.0.0.1:{port}/{name}/metrics", period: 200ms,'
        f" timeout: 200ms}}}}"
        for number, name in enumerate(loads)
    ]
    head, _, tail = FLEET.partition("instances:")
    settings = f"200ms, slow_start: 0s{steering}"
    rest = tail[tail.index("steering") :].replace("200ms", settings)
    return f"{head}instances:\n" + "\n".join(lines) + f"\n{rest}"


async def test_a_process_that_was_suspended_moves_no_weight(tmp_path: Path) -> None:
    """All reports are older than the expiry when it goes on; nothing listened meanwhile."""
    loads = {"a": Load(6.0, 0.5), "b": Load(3.0, 0.9, waiting=1.0), "c": Load(9.0, 1.4)}
    async with serving_pages(loads) as port:
        fleet = tmp_path / "fleet.yaml"
        # A gain that is pushed at any time is not what is looked for here.
        write(fleet, scraped_fleet(loads, port, steering=", expiry: 6s, min_gain: 10%"))
        async with ControlPlaneProcess(fleet) as control:
            await control.wait_ready()
            before = await settled_shares(
                lambda: control.get_json("/api/v1/plan"), quiet=SETTLED + 3.0, within=240.0
            )
            control.signal(signal.SIGSTOP)
            await asyncio.sleep(8.0)
            control.signal(signal.SIGCONT)
            moved, end = 0.0, time.monotonic() + 4.0
            phases = set()
            while time.monotonic() < end:
                after = shares(await control.get_json("/api/v1/plan"))
                moved = max(moved, largest_move(before, after))
                instances = (await control.get_json("/api/v1/fleet"))["instances"]
                phases |= {each["phase"] for each in instances}
                await asyncio.sleep(0.02)

    assert {"live"} == phases
    assert moved <= 0.02


def _saved_since(file: Path, since: float) -> bool:
    return file.exists() and file.stat().st_mtime >= since


async def test_a_warm_restart_moves_no_weight_by_a_hundredth(tmp_path: Path) -> None:
    """What was learned of three unequal instances is there again, with the plan made of it."""
    loads = {"a": Load(6.0, 0.5), "b": Load(3.0, 0.9, waiting=1.0), "c": Load(9.0, 1.4)}
    async with serving_pages(loads) as port:
        fleet = tmp_path / "fleet.yaml"
        # A gain that is pushed at any time is not what is looked for here.
        write(fleet, scraped_fleet(loads, port, steering=", min_gain: 10%"))
        state = ("--state-dir", str(tmp_path / "state"))
        async with ControlPlaneProcess(fleet, *state) as control:
            await control.wait_ready()
            # What three unequal instances differ by is learned first.
            await settled_shares(
                lambda: control.get_json("/api/v1/plan"), quiet=SETTLED + 3.0, within=240.0
            )
            since = time.time()
            await until(lambda: _saved_since(tmp_path / "state" / "learned.json", since))
            before = shares(await control.get_json("/api/v1/plan"))
            control.signal(signal.SIGKILL)
            await control.ended()
        async with ControlPlaneProcess(fleet, *state) as control:
            await control.wait_ready()
            await control.wait_for_event("estimates restored")
            moved, end = 0.0, time.monotonic() + 6.0
            while time.monotonic() < end:
                after = shares(await control.get_json("/api/v1/plan"))
                moved = max(moved, largest_move(before, after))
                await asyncio.sleep(0.1)

    assert len(before) > 3
    assert moved < 0.011, "by more than a probe, which is a hundredth"


async def test_broken_state_is_set_aside_and_a_plan_is_made(fleet: Path, tmp_path: Path) -> None:
    """A disk that lies costs one line in the log."""
    write(tmp_path / "plan.json", "{")
    write(tmp_path / "learned.json", '{"format": 1, "learned": {"capacity": 7}}')
    async with ControlPlaneProcess(fleet, "--state-dir", str(tmp_path)) as control:
        await control.wait_ready()
        line = await control.wait_for_event("saved plan unreadable; starting without it")

    assert "set aside as plan.unreadable" in line["reason"]
    assert "{" == read(tmp_path / "plan.unreadable")
    assert "7" in read(tmp_path / "learned.unreadable")


async def test_hangup_reads_the_file_again_and_ctrl_c_ends_it(fleet: Path) -> None:
    """SIGHUP takes a changed file, as the watcher does; SIGINT is as good as SIGTERM."""
    async with ControlPlaneProcess(fleet) as control:
        await control.wait_ready()
        write(fleet, FLEET.replace("{name: chat,", "{name: talk,"))
        control.signal(signal.SIGHUP)
        plan = await control.wait_for(
            "/api/v1/plan", lambda plan: "talk" in plan["services"], "serve the new service"
        )
        control.signal(signal.SIGINT)
        status = await control.ended()

    assert ["talk"] == list(plan["services"])
    assert 0 == status


async def test_a_wrong_configuration_is_reported_fault_by_fault(fleet: Path) -> None:
    """Status 2, a line for each fault, no traceback."""
    write(fleet, FLEET.replace("site: north", "site: nroth"))
    async with ControlPlaneProcess(fleet) as control:
        status = await control.ended()
        log = control.log()

    assert 2 == status
    assert [f"{fleet}:10:"] == [line[: len(f"{fleet}:10:")] for line in log.splitlines()]
    assert "north" in log


async def test_a_taken_port_is_reported_in_one_line(fleet: Path) -> None:
    """Status 1, and the line names the option to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with ControlPlaneProcess(fleet, ports=(0, port)) as control:
            status = await control.ended()
            (line,) = control.log().splitlines()

    assert 1 == status
    assert f"Error: --admin 127.0.0.1:{port}: cannot listen there" in line


@pytest.mark.skipif("CATS_FAULTS" not in os.environ, reason="nine seconds; make faults runs it")
@pytest.mark.timeout(300)
async def test_a_fleet_that_grows_to_5000_instances_takes_400_mb_at_most(tmp_path: Path) -> None:
    """Memory grows with what is used, not with the square of the instances."""
    size = {"sites": 5, "services": 2}
    file = tmp_path / "fleet.yaml"
    slow = {"period": "20s"}
    write(file, large_fleets.make_crowd(**size, instances=3, steering=slow))
    async with ControlPlaneProcess(file) as control:
        await control.wait_ready()
        before = (await control.get_json("/api/v1/plan"))["version"]
        write(file, large_fleets.make_crowd(**size, instances=5000, steering=slow))
        await control.wait_for(
            "/api/v1/plan", lambda plan: plan["version"] != before, "decide", within=240.0
        )
        fleet = await control.get_json("/api/v1/fleet")
        status = await asyncio.to_thread(Path(f"/proc/{control.pid}/status").read_text)
    most = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024

    assert 5000 == len(fleet["instances"])
    assert most <= 400, f"{most:.0f} MB at most"
