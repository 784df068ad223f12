"""Clients of other authors connect, in clear text and over mutual TLS: Envoys, and grpc-js.

grpcio's client is in `test_server`.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from controlplane.config import Transport
from controlplane.grpc_transport.calls import Conversation, conversing
from controlplane.grpc_transport.grpcio import PemFiles
from controlplane.grpc_transport.server import GrpcServer
from controlplane.grpc_transport.status import CallError, StatusCode
from controlplane.resources.bootstrap import build_bootstrap
from controlplane.resources.file_secrets import ClientTls
from controlplane.resources.generations import GENERATIONS
from controlplane.xds.snapshot import Snapshot, TypeSnapshot, view_key
from controlplane.xds.types import CLUSTER, LISTENER
from testbed.fakes.certificates import Authority
from testbed.fakes.fleets import make_config
from testbed.fakes.xds import serve_xds
from testbed.processes.envoys import EnvoyProcess

SECURE = pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])


async def doubled(call: Conversation) -> None:
    """Answer each message with itself, twice."""
    while (message := await call.read()) is not None:
        await call.write(message * 2)


async def refusing(_: Conversation) -> None:
    """End with a status."""
    raise CallError(StatusCode.PERMISSION_DENIED, "not you: 100%")


async def run(*command: str, folder: Path) -> str:
    """Run a command; return its standard output."""
    child = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await child.communicate()
    assert 0 == child.returncode, errors.decode()
    return output.decode()


async def test_grpc_js_calls_in_clear_text_and_over_tls(grpc_js: Path, tmp_path: Path) -> None:
    """Messages of every size come back, and a refusal arrives with its code and words."""
    authority = Authority(tmp_path)
    own, client = authority.issue("localhost"), authority.issue("spiffe://fleet/envoy/js")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    context.load_cert_chain(own.cert, own.key)
    context.verify_mode = ssl.CERT_REQUIRED
    files = (str(authority.ca), str(client.key), str(client.cert))
    server = GrpcServer()
    server.add_method("/t.S/Doubled", conversing(doubled))
    server.add_method("/t.S/Refusing", conversing(refusing))
    answers = []
    try:
        for tls, shown in ((None, ()), (context, files)):
            port = await server.listen("127.0.0.1", 0, tls=tls)
            command = ("node", "peer.js", f"127.0.0.1:{port}", *shown)
            answers.append(json.loads(await run(*command, folder=grpc_js)))
    finally:
        await server.stop()

    expected = {
        "answers": [0, 2, 140_000, 2_000_000],
        "code": 0,
        "refusal": 7,
        "text": "not you: 100%",
    }
    assert [expected, expected] == answers


@pytest.mark.envoy
@SECURE
@pytest.mark.parametrize(
    ("version", "transport"),
    [
        *((version, Transport.H2) for version in ("1.37", "1.38", "1.39", "")),
        ("", Transport.GRPCIO),
    ],
)
async def test_an_envoy_connects_and_acknowledges(
    tmp_path: Path, version: str, transport: Transport, secure: bool
) -> None:
    """Each release that is supported, on each transport, with our own bootstrap."""
    files = client = None
    if secure:
        authority = Authority(tmp_path)
        own = authority.issue("localhost", "127.0.0.1")
        pair = authority.issue("spiffe://fleet/site/north/envoy/e-1")
        files = PemFiles(str(own.cert), str(own.key), str(authority.ca))
        client = ClientTls(str(authority.ca), str(pair.cert), str(pair.key))
    snapshot = Snapshot({CLUSTER: TypeSnapshot.of([]), LISTENER: TypeSnapshot.of([])})
    async with serve_xds(sites=("north",), transport=transport, tls=files) as server:
        server.views.publish({view_key("north", each.role): snapshot for each in GENERATIONS})
        host, port = server.address.split(":")
        bootstrap = build_bootstrap(
            make_config(),
            site="north",
            envoy_id="e-1",
            xds=(host, int(port)),
            admin_port=0,
            tls=client,
        )
        async with await EnvoyProcess.start(bootstrap, version=version):
            async with asyncio.timeout(60):
                while not all(  # noqa: ASYNC110 -- it happens in another process
                    kind.acked for each in server.registry.envoys for kind in each.types.values()
                ) or not list(server.registry.envoys):
                    await asyncio.sleep(0.05)
            (record,) = server.registry.envoys

    assert {CLUSTER, LISTENER} <= record.types.keys()
