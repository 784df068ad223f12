"""gRPC, HTTP/2, WebSockets and the list of models, through a real Envoy."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import grpc
import pytest
from aiohttp import web

from testbed.fakes.web_servers import serving_routes
from testbed.processes.envoy_mesh import Mesh, running_mesh

pytestmark = pytest.mark.envoy

PLACES = {"a": "north", "b": "north"}
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


@asynccontextmanager
async def grpc_instance(port: int) -> AsyncIterator[None]:
    """Serve the methods of Triton's and KServe's protocol (v2): bytes in, the same bytes out."""

    async def infer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        if request == b"bad":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input")
        return request

    async def stream(
        requests: AsyncIterator[bytes], _: grpc.aio.ServicerContext[bytes, bytes]
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                INFER.split("/")[1],
                {
                    "ModelInfer": grpc.unary_unary_rpc_method_handler(infer),
                    "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(stream),
                },
            ),
        )
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)


async def ask(mesh: Mesh, request: bytes) -> tuple[bytes, dict[str, str]]:
    """Call an instance through Envoy; return the answer and its metadata."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.config.envoy.port}") as channel:
        call = channel.unary_unary(INFER)(request, timeout=60)
        answer = await call
        metadata = {str(key): str(value) for key, value in await call.initial_metadata()}
        return answer, metadata


async def test_a_grpc_instance_is_served_and_its_refusals_arrive_as_grpc() -> None:
    """Unary calls, streams and errors; when no instance is left, Envoy's own answer is gRPC too."""
    services = [
        {
            "name": "triton",
            "match": [{"path": "/inference.GRPCInferenceService/*"}],
            "models": [{"name": "m"}],
            "protocol": "grpc",
        }
    ]
    split = {"triton": {"a": 1, "b": 1}}
    async with running_mesh(PLACES, services=services, split=split) as mesh:
        for origin in mesh.origins.values():
            await origin.die()
        async with grpc_instance(mesh.origins["a"].port), grpc_instance(mesh.origins["b"].port):
            seen = set()
            for _ in range(8):
                answer, metadata = await ask(mesh, b"tensor")
                assert b"tensor" == answer
                seen.add(metadata["x-cats-instance"])
            with pytest.raises(grpc.aio.AioRpcError, match="no such input"):
                await ask(mesh, b"bad")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{mesh.config.envoy.port}") as channel:
                call = channel.stream_stream(STREAM)(timeout=60)
                for number in range(3):
                    await call.write(b"%d" % number)
                    assert b"%d" % number == await call.read()
                await call.done_writing()
        mesh.publish({"triton": {}})
        await mesh.envoy.wait_for(lambda clusters: not clusters["triton"], "lose its endpoints")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await ask(mesh, b"tensor")
    assert {"a", "b"} == seen
    assert grpc.StatusCode.UNAVAILABLE == refused.value.code()


async def test_a_web_socket_reaches_an_instance_and_outlives_a_push() -> None:
    """As realtime voice needs it, with its query, in which the instance finds its own name."""

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{request.query['model']}: {message.data}")
        return socket

    services = [{"name": "voice", "match": [{"path": "/v1/realtime"}], "models": [{"name": "m"}]}]
    split = {"voice": {"a": 1}}
    models = [{"name": "m", "served_as": "org/m"}]
    async with running_mesh(PLACES, services=services, split=split, models=models) as mesh:
        port = mesh.origins["a"].port
        await mesh.origins["a"].die()
        url = f"ws://127.0.0.1:{mesh.config.envoy.port}/v1/realtime?model=m"
        async with (
            serving_routes(web.get("/v1/realtime", talk), port=port),
            aiohttp.ClientSession() as session,
            session.ws_connect(url) as socket,
        ):
            await socket.send_str("one")
            assert "org/m: one" == await socket.receive_str()
            mesh.publish({"voice": {"b": 1}})
            await mesh.envoy.wait_for(
                lambda clusters: (
                    [mesh.origins["b"].address] == [each.address for each in clusters["voice"]]
                ),
                "move the share",
            )
            await socket.send_str("two")
            assert "org/m: two" == await socket.receive_str()


async def test_the_list_of_models_is_what_can_be_asked_for_here() -> None:
    """By the names that clients use; a service without an instance is left out until it has one."""
    services: list[dict[str, Any]] = [
        {"name": "chat", "match": [{"path": "/v1/chat", "model": "big"}]},
        {"name": "code", "match": [{"path": "/v1/chat", "model": "coder"}]},
        {"name": "rest", "match": [{"path": "/v1/*"}]},
    ]
    services = [{**each, "models": [{"name": "m"}]} for each in services]
    split: dict[str, dict[str, int]] = {"chat": {"a": 1}, "code": {}, "rest": {"b": 1}}

    async def listed(mesh: Mesh) -> list[str]:
        async with mesh.session.get(f"{mesh.url}/v1/models?x=1") as response:
            assert (200, "application/json") == (response.status, response.content_type)
            return [each["id"] for each in json.loads(await response.text())["data"]]

    async with running_mesh(PLACES, services=services, split=split) as mesh:
        before = await listed(mesh)
        await mesh.push({**split, "code": {"a": 1}})
        after = await listed(mesh)
        await mesh.push({"chat": {}, "code": {}, "rest": {}})
        nothing = await listed(mesh)
        async with mesh.session.head(f"{mesh.url}/v1/models") as head:
            assert (200, "application/json") == (head.status, head.content_type)
        await mesh.push(split)
        posted = await mesh.request("/v1/models")
    assert ["big", "m"] == before
    assert ["big", "coder", "m"] == after
    assert [] == nothing
    assert "b" == posted.text
