"""The load client against the real server: what it says it measured, it got."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.figures import Row, Target, quantile, table
from benchmarks.streams import LoadStream, Received, connect, read_response
from controlplane.grpc_services.messages import Encoder, nonce_part
from controlplane.xds.snapshot import Snapshot, TypeSnapshot
from controlplane.xds.types import ENDPOINT, Push, Response
from testbed.background import until
from testbed.fakes.xds import PATIENCE, make_assignment, serve_xds


@pytest.mark.parametrize("delta", [False, True])
def test_a_response_is_read_without_its_resources(delta: bool) -> None:
    """Version, type and nonce are found where they stand."""
    push = Push("v1", (make_assignment("a", range(1, 300)),))
    body = Encoder("bench").shared_part(Response(ENDPOINT, "n", push), delta=delta)
    expected = Received(ENDPOINT, "v1", b"n", len(body) + 3)

    assert expected == read_response(nonce_part("n") + body)
    assert expected == read_response(body + nonce_part("n"))


@pytest.mark.parametrize("delta", [False, True])
async def test_a_stream_gets_and_acknowledges_every_version(delta: bool) -> None:
    """Large responses, of many frames, included; a refusal is reported as one."""
    got: asyncio.Queue[str] = asyncio.Queue()
    async with serve_xds() as server:

        def publish(weight: int) -> str:
            snapshot = Snapshot(
                {ENDPOINT: TypeSnapshot.of([make_assignment("a", [weight] * 2_000)])}
            )
            server.views.publish({"north": snapshot})
            return snapshot.of_type(ENDPOINT).version

        expected = [publish(1)]
        host, port = server.address.split(":")
        stream = LoadStream(
            "n",
            {ENDPOINT: ("a",)},
            site="north",
            delta=delta,
            on_response=lambda _stream, received: got.put_nowait(received.version),
        )
        await connect((host, int(port)), stream)
        received = [await asyncio.wait_for(got.get(), PATIENCE)]
        (envoy,) = server.registry.envoys
        for weight in (2, 3):
            await until(lambda: envoy.types[ENDPOINT].acked == expected[-1])
            stream.refuse_next = weight == 3
            expected.append(publish(weight))
            received.append(await asyncio.wait_for(got.get(), PATIENCE))
        await until(lambda: envoy.types[ENDPOINT].refusal)
        stream.close()

    assert expected == received
    assert "refused at random" == envoy.types[ENDPOINT].refusal
    assert expected[1] == stream.versions[ENDPOINT]


def test_a_missed_target_is_marked() -> None:
    """A figure stands with its bound, and says when it is beyond it."""
    row = Row("a", {"ms": 3.0, "%": 99.0}, (Target("ms", 5.0), Target("%", 100.0, at_least=True)))

    assert "3 (<= 5)" in table("t", [row])
    assert "99 (>= 100, SHORT)" in table("t", [row])
    assert [True, False] == [each["met"] for each in row.document()["targets"]]


def test_quantiles_are_values_that_occurred() -> None:
    """The smallest that the share does not exceed."""
    assert [1.0, 2.0, 4.0] == [quantile([4.0, 2.0, 1.0, 3.0], s) for s in (0.0, 0.5, 1.0)]
