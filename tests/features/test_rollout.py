"""A rollout: replicas whose files differ for a while, each serving what it can."""

from __future__ import annotations

from pathlib import Path

from testbed.processes.control_planes import ControlPlaneProcess
from testbed.processes.nats_servers import running_nats
from testbed.processes.replicas import Replicas
from tests.features.test_override import FLEET

PAINT = "  - {name: paint, match: [{path: /v1/images}], models: [{name: m}]}\n"


async def test_a_replica_with_a_newer_file_serves_what_it_can(tmp_path: Path) -> None:
    """It is ready beside a leader that lacks its service, says what it waits for, and then follows.

    The leader's part of its plan is the leader's, and follows the leader's changes.
    """
    async with running_nats(tmp_path, size=1) as cluster:
        old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
        text = f'{FLEET}server: {{bus: "{cluster.url}"}}\n'
        newer = text.replace("instances:\n", f"{PAINT}instances:\n")
        old.write_text(text, encoding="utf-8")
        new.write_text(newer, encoding="utf-8")
        replicas = Replicas(old, 1)
        try:
            leader = await replicas.start(0)
            await replicas.leader()
            async with ControlPlaneProcess(new) as late:
                await late.wait_ready(within=90.0)
                plan = await late.wait_for(
                    "/api/v1/plan", lambda found: "paint" in found["services"], "serve"
                )
                line = await late.wait_for_event("leader's plan not served")
                _, metrics = await late.get("/metrics")
                old.write_text(
                    f"{text}overrides: [{{instance: far, drain: true}}]\n", encoding="utf-8"
                )
                await late.wait_for("/api/v1/plan", lambda found: not uses(found, "far"), "follow")
                old.write_text(newer, encoding="utf-8")
                whole = await leader.wait_for(
                    "/api/v1/plan", lambda found: "paint" in found["services"], "serve it too"
                )
                await late.wait_for(
                    "/api/v1/plan", lambda found: found["version"] == whole["version"], "follow"
                )
        finally:
            await replicas.close()

    assert {"chat", "paint"} == plan["services"].keys()
    assert "paint from north" in line["unknown"]
    assert "cats_leader_plan_served 0.0" in metrics


def uses(
    plan: dict[str, dict[str, dict[str, dict[str, list[dict[str, object]]]]]], name: str
) -> bool:
    """Return whether chat is sent to an instance first, from anywhere."""
    return any(
        each["instance"] == name and each["priority"] == 0
        for shares in plan["services"]["chat"]["from"].values()
        for each in shares
    )
