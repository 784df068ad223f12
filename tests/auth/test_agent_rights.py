"""Who may report what: registered agents, their tokens, and the bounds of each."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import grpc
import pytest
from structlog.testing import capture_logs

from controlplane.auth import agent_rights
from controlplane.auth.agent_rights import AgentGate
from controlplane.config import Config
from controlplane.errors import IdentityError, ReportError
from controlplane.grpc_services.agents import SERVICE, AgentService
from controlplane.grpc_transport.server import GrpcServer
from controlplane.model import InstanceReport, PathReport, Report, SiteReport, Source
from controlplane.wire.cats.telemetry.v1 import telemetry_pb2 as pb
from testbed.fakes.views import make_config, make_instance

TOKEN = "correct-horse-battery"


def fleet(tmp_path: Path, **rights: object) -> Config:
    """Return a fleet of three sites in which the agent n-1 reports for north and one of south's."""
    (tmp_path / "hash").write_text(hashlib.sha256(TOKEN.encode()).hexdigest() + "  -\n")
    agent = {
        "name": "n-1", "sites": ["north"], "instances": ["s-a"],
        "token_hash_file": str(tmp_path / "hash"), **rights,
    }  # fmt: skip
    return make_config(
        sites=["north", "south", "west"],
        instances=[
            make_instance("n-a", "north"),
            make_instance("s-a", "south", address="10.0.0.2:80"),
            make_instance("s-b", "south", address="10.0.0.3:80"),
        ],
        server={"agents": [agent]},
    )


def said(instance: str) -> InstanceReport:
    """Return a report."""
    return InstanceReport(instance, Source.AGENT, 1.0, {})


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        pytest.param(said("n-a"), "", id="of_its_site"),
        pytest.param(said("s-a"), "", id="named"),
        pytest.param(said("s-b"), "may not report for instance 's-b'", id="anothers"),
        pytest.param(said("no one"), "", id="unknown_is_the_fleets_to_refuse"),
        pytest.param(PathReport("north", "south", Source.AGENT, 1.0, rtt=0.1), "", id="its_path"),
        pytest.param(
            PathReport("south", "north", Source.AGENT, 1.0, rtt=0.1),
            "paths from site 'south'", id="anothers_path",
        ),
        pytest.param(SiteReport("north", Source.AGENT, 1.0, 5.0), "", id="its_power"),
        pytest.param(SiteReport("south", Source.AGENT, 1.0, 5.0), "'south'", id="anothers_power"),
    ],
)  # fmt: skip
def test_an_agent_reports_for_what_is_named_and_for_nothing_else(
    tmp_path: Path, report: Report, reason: str
) -> None:
    """Whatever it says of its site: what the configuration names counts."""
    gate = AgentGate(fleet(tmp_path), enforced=False)
    scope = gate.scope("n-1", "west")
    assert scope is not None

    if not reason:
        gate.require(report, scope)
        return
    with pytest.raises(ReportError, match="may not report") as caught:
        gate.require(report, scope)
    assert reason in str(caught.value)


def test_with_certificates_alone_an_agent_reports_for_the_site_it_may_claim() -> None:
    """Its claim was held to its certificate before."""
    config = make_config(
        sites=["north", "south"],
        instances=[make_instance("a", "north"), make_instance("b", "south", address="10.0.0.2:80")],
    )
    gate = AgentGate(config, enforced=True)
    scope = gate.scope("anyone", "north")
    assert scope is not None

    gate.require(said("a"), scope)
    with pytest.raises(ReportError):
        gate.require(said("b"), scope)
    assert AgentGate(config, enforced=False).scope("anyone", "north") is None


@pytest.mark.parametrize(
    ("agent", "header", "reason"),
    [
        pytest.param("n-1", f"Bearer {TOKEN}", "", id="right"),
        pytest.param("n-1", f"bearer {TOKEN}", "", id="scheme_in_any_case"),
        pytest.param("n-1", "Bearer wrong", "not that of", id="wrong"),
        pytest.param("n-1", "", "must show", id="none"),
        pytest.param("n-1", f"Basic {TOKEN}", "must show", id="another_scheme"),
        pytest.param("n-2", f"Bearer {TOKEN}", "no agent 'n-2'", id="unregistered"),
    ],
)
def test_an_agent_is_admitted_by_its_token(
    tmp_path: Path, agent: str, header: str, reason: str
) -> None:
    """Refusals are counted, and say nothing of the token."""
    refused = []
    gate = AgentGate(fleet(tmp_path), enforced=False, on_refused=lambda: refused.append(1))

    if not reason:
        gate.admit(agent, {"authorization": header})
        assert [] == refused
        return
    with pytest.raises(IdentityError, match=reason) as caught:
        gate.admit(agent, {"authorization": header})
    assert [1] == refused
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("content", ["", "not a hash", "0" * 63], ids=["empty", "text", "short"])
def test_a_file_without_a_hash_admits_nobody(tmp_path: Path, content: str) -> None:
    """An empty secret must not be a secret that everyone knows."""
    gate = AgentGate(fleet(tmp_path), enforced=False)
    (tmp_path / "hash").write_text(content)
    with pytest.raises(IdentityError):
        gate.admit("n-1", {"authorization": f"Bearer {TOKEN}"})
    (tmp_path / "hash").unlink()
    with pytest.raises(IdentityError, match="cannot be checked"):
        gate.admit("n-1", {"authorization": f"Bearer {TOKEN}"})


async def test_over_the_wire_an_agent_is_held_to_its_rights(tmp_path: Path) -> None:
    """Admitted by its token, refused report by report, bounded in size, cut off when revoked."""
    taken: list[Report] = []
    gate = AgentGate(fleet(tmp_path, max_batch=3), enforced=False)
    service = AgentService(taken.append, gate=gate)
    server = GrpcServer()
    service.serve_on(server)
    port = await server.listen("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            method = channel.stream_stream(f"/{SERVICE}/Report")
            with capture_logs() as lines:
                stranger = method(metadata=(("authorization", "Bearer guess"),))
                await stranger.write(make_batch("n-1", 1, "n-a"))
                refused, _ = await end_of(stranger)

            call = method(metadata=(("authorization", f"Bearer {TOKEN}"),))
            await call.write(make_batch("n-1", 1, "n-a", "s-b"))
            first = pb.ReportStatus.FromString(await call.read())
            # A later batch cannot become someone else's.
            await call.write(make_batch("n-9", 2, "s-a"))
            second = pb.ReportStatus.FromString(await call.read())
            ids = [record.id for record in service.agents]
            gate.reconfigure(fleet(tmp_path, name="other"))
            await call.write(make_batch("n-1", 3, "n-a"))
            revoked, _ = await end_of(call)

            gate.reconfigure(fleet(tmp_path, max_batch=3))
            large = method(metadata=(("authorization", f"Bearer {TOKEN}"),))
            await large.write(make_batch("n-1", 1, "n-a", "n-a", "n-a", "n-a"))
            _, too_large = await end_of(large)
    finally:
        await server.stop(None)

    assert grpc.StatusCode.PERMISSION_DENIED is refused is revoked
    assert (
        1,
        ["s-b: the agent may not report for instance 's-b'; " + agent_rights._RIGHTS],
    ) == (
        first.accepted,
        list(first.refused),
    )
    assert (1, ["n-1"]) == (second.accepted, ids)
    assert "at most 3" in str(too_large)
    assert ["n-a", "s-a"] == [one.instance for one in taken if isinstance(one, InstanceReport)]
    assert "guess" not in str(lines)
    assert "agent rejected" in {line["event"] for line in lines}


def make_batch(agent: str, sequence: int, *instances: str) -> bytes:
    """Return a batch in which every instance runs two requests."""
    batch = pb.ReportBatch(agent=pb.Agent(id=agent, site="north"), sequence=sequence)
    batch.sent_at.GetCurrentTime()
    for name in instances:
        batch.instances.add(instance=name, signals={"running": 2.0})
    return batch.SerializeToString()


async def end_of(call: Any) -> tuple[grpc.StatusCode, str]:
    """Return code and details with which *call* is ended."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    return caught.value.code(), str(caught.value.details())
