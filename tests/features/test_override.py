"""An operator takes the overrides of a running control plane from the command line."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.replicas import running_replicas
from tests.features.test_replay import cats

FLEET = """
version: 1
sites: [{name: north, kind: edge}, {name: cloud, kind: cloud}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /v1/chat/completions}], models: [{name: m}]}
instances:
  - {name: near, site: north, address: "127.0.0.1:9001", model: m}
  - {name: far, site: cloud, address: "127.0.0.1:9002", model: m}
steering: {period: 200ms, expiry: 3h}
"""


def users(plan: dict[str, dict[str, dict[str, dict[str, list[dict[str, str]]]]]]) -> set[str]:
    """Return the instances that chat uses from north."""
    return {item["instance"] for item in plan["services"]["chat"]["from"]["north"]}


async def test_a_drain_is_tried_done_kept_and_taken_back(tmp_path: Path) -> None:
    """The dry run changes nothing; the drain survives a restart; removing it is reported."""
    file = tmp_path / "fleet.yaml"
    file.write_text(FLEET, encoding="utf-8")
    state = ("--state-dir", str(tmp_path / "state"))
    drain = ("--instance", "near", "--drain", "--for", "10m", "--reason", "driver", "--by", "ann")
    async with ControlPlaneProcess(file, *state) as control:
        await control.wait_ready()
        admin = ("--admin", f"http://127.0.0.1:{control.admin_port}")
        tried = await cats("override", "add", *admin, *drain, "--dry-run")
        wrong = await cats("override", "add", *admin, *drain[2:], "--instance", "nera")
        untouched = users(await control.get_json("/api/v1/plan"))
        done = await cats("override", "add", *admin, *drain)
        await control.wait_for("/api/v1/plan", lambda plan: users(plan) == {"far"}, "drain")

    assert (0, True) == (tried[0], "near 100% -> 0%" in tried[1] or "-> 0%" in tried[1]), tried
    assert "dry run" in tried[1]
    assert (2, True) == (wrong[0], "did you mean 'near'?" in wrong[1]), wrong
    assert "near" in untouched
    assert (0, True) == (done[0], "added" in done[1]), done

    async with ControlPlaneProcess(file, *state) as control:
        await control.wait_ready()
        admin = ("--admin", f"http://127.0.0.1:{control.admin_port}")
        plan = await control.wait_for("/api/v1/plan", lambda p: users(p) == {"far"}, "keep it")
        listed = await cats("override", "list", *admin, "--json")
        (standing,) = json.loads(listed[1])["overrides"]
        removed = await cats("override", "remove", *admin, standing["id"], "--by", "bob")
        await control.wait_for("/api/v1/plan", lambda plan: "near" in users(plan), "give it back")
        reported = await control.wait_for_event("override removed")

    assert {"far"} == users(plan)
    assert ("driver", "ann") == (standing["reason"], standing["by"])
    assert 0 == removed[0]
    assert ("ann", "bob") == (reported["by"], reported["removed_by"])


async def test_an_override_added_at_any_replica_reaches_all(tmp_path: Path) -> None:
    """It is listed, decided on and removed anywhere, by a replica that joins later too."""
    drain = ("--instance", "near", "--drain", "--for", "10m", "--reason", "driver")
    text = FLEET + 'server: {bus: "BUS"}\n'
    async with running_replicas(tmp_path, text, count=2, nodes=1) as (replicas, _):
        leader = await replicas.leader()
        admins = [f"http://127.0.0.1:{admin}" for _, admin in replicas.ports]
        added = await cats("override", "add", "--admin", admins[1 - leader], *drain)
        for control in replicas.running.values():
            await control.wait_for("/api/v1/plan", lambda plan: users(plan) == {"far"}, "drain")
        gone = replicas.running.pop(leader)
        gone.signal(signal.SIGKILL)
        await gone.ended()
        again = await replicas.start(leader)  # it knows nothing but what the bus has
        listed = await again.wait_for(
            "/api/v1/overrides", lambda found: len(found["overrides"]) == 1, "hear of it"
        )
        name = listed["overrides"][0]["id"]
        removed = await cats("override", "remove", "--admin", admins[leader], name)
        for control in replicas.running.values():
            await control.wait_for("/api/v1/plan", lambda plan: "near" in users(plan), "give back")

    assert 0 == added[0], added
    assert 0 == removed[0], removed
