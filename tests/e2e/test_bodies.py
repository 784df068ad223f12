"""Bodies on their way through a real Envoy: inflated, read for their model, rejected in words."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import zlib
from typing import Any

import aiohttp
import pytest

from testbed.background import until
from testbed.processes.envoy_mesh import Mesh, running_mesh

pytestmark = pytest.mark.envoy

SERVICES: list[dict[str, Any]] = [
    {"name": "chat", "match": [{"path": "/v1/chat", "model": "big"}], "models": [{"name": "m"}]},
    {"name": "rest", "match": [{"path": "/v1/*"}], "models": [{"name": "m"}]},
    {"name": "deep", "match": [{"path": "/v2/chat", "model": "big"}], "models": [{"name": "m"}]},
]
SPLIT = {"chat": {"a": 1}, "rest": {"b": 1}, "deep": {"a": 1}}
PLACES = {"a": "north", "b": "north"}
JSON = {"content-type": "application/json"}
BODY = json.dumps({"messages": "x y z " * 40, "model": "big"}).encode()


def zstd_frame(content: bytes) -> bytes:
    """Write a frame of one raw block [RFC 8878, section 3.1.1]."""
    size = len(content)
    header = b"\x28\xb5\x2f\xfd\x60" + (size - 256).to_bytes(2, "little")
    return header + (size << 3 | 1).to_bytes(3, "little") + content


def zstd_bomb(size: int) -> bytes:
    """Write a frame of JSON whose blocks are one byte each, repeated [RFC 8878, section 3.1.1]."""
    head, piece = b'{"model": "big", "x": "', 131_072
    blocks = [(len(head) << 3).to_bytes(3, "little") + head]
    blocks += [(piece << 3 | 2).to_bytes(3, "little") + b"0"] * (size // piece)
    return (
        b"\x28\xb5\x2f\xfd\x00\x58" + b"".join(blocks) + (2 << 3 | 1).to_bytes(3, "little") + b'"}'
    )


def brotli_stream(content: bytes) -> bytes:
    """Write a stream of one uncompressed meta-block [RFC 7932, section 9]."""
    bits = (len(content) - 1) << 4 | 1 << 20  # 16-bit window, not last, four nibbles, uncompressed
    return bits.to_bytes(3, "little") + content + b"\x03"


def form(model: str | None) -> aiohttp.FormData:
    """Return a form with a file, whose content looks like a field, and a model behind it."""
    data = aiohttp.FormData()
    data.add_field("file", b'\0\r\n\r\nname="model"\r\n\r\nforged' * 900, filename="a.wav")
    if model is not None:
        data.add_field("model", model)
    return data


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param("gzip", gzip.compress(BODY), id="gzip"),
        pytest.param("zstd", zstd_frame(BODY), id="zstd"),
        pytest.param("br", brotli_stream(BODY), id="brotli"),
        pytest.param("identity", BODY, id="none"),
    ],
)
async def test_compressed_json_is_inflated_and_read(encoding: str, body: bytes) -> None:
    """It reaches the service of its model, as plain JSON."""
    own = {"rewrite_models": False}
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT, envoy=own) as mesh:
        headers = {**JSON, "content-encoding": encoding}
        answer = await mesh.request(data=body, headers=headers)
        origin = mesh.origins["a"]
        assert (200, "a") == (answer.status, answer.text)
        assert [len(BODY)] == origin.bodies
        assert encoding == "identity" or "content-encoding" not in {
            name.lower() for name in origin.headers
        }


BAD = {
    "cut": b'{"model": "big"',
    "no JSON": b"model=big",
    "invalid UTF-8": b'{"model": "\xff"}',
    "lone surrogate": b'{"model": "\\ud800"}',
    "not a number": b'{"model": NaN}',
}


async def rejection(
    mesh: Mesh, path: str, body: bytes, *, encoding: str = "identity"
) -> tuple[int, str, str]:
    """Post *body*; return the status, code and message with which Envoy itself rejects it."""
    headers = {**JSON, "content-encoding": encoding}
    answer = await mesh.request(path, data=body, headers=headers)
    error = json.loads(answer.text)["error"]
    return answer.status, error["code"], error["message"]


async def test_what_cannot_be_read_is_answered_in_a_sentence() -> None:
    """And what can be read and names no model is left to the service of the path, if there is one.

    A compressed body that inflates without bound costs one bounded piece, and is rejected.
    """
    bound = {"max_body": "8MB"}
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT, envoy=bound) as mesh:
        for body in BAD.values():
            for path in ("/v1/chat", "/v2/chat"):
                status, code, message = await rejection(mesh, path, body)
                assert (400, "bad_body") == (status, code), body
                assert "not valid JSON" in message
        for body in (b"{}", b"[]", b'"x"', b'{"model": {}}', b""):
            assert "b" == (await mesh.request(data=body, headers=JSON)).text
        none = await rejection(mesh, "/v2/chat", b"{}")
        deflated = await rejection(mesh, "/v2/chat", zlib.compress(BODY), encoding="deflate")
        headers = {**JSON, "content-encoding": "deflate"}
        answer = await mesh.request("/v2/chat", data=b"x", headers=headers)
        assert "gzip, br, zstd" == answer.headers["accept-encoding"]
        bomb = gzip.compress(b'{"model": "big", "x": "' + b"0" * 300_000_000 + b'"}')
        bombs = {"gzip": bomb, "zstd": zstd_bomb(300_000_000)}
        statuses = {
            (await rejection(mesh, path, bomb, encoding=encoding))[0]
            for encoding, bomb in bombs.items()
            for path in ("/v1/chat", "/v2/chat")
        }
        small = {**JSON, "content-encoding": "zstd"}
        assert "a" == (await mesh.request("/v2/chat", data=zstd_bomb(0), headers=small)).text
        memory = await mesh.envoy.get_json("/memory")
        assert 1 == mesh.origins["a"].requests
    assert (400, "bad_body", True) == (*none[:2], "names no model" in none[2])
    assert (415, "unsupported_encoding", True) == (*deflated[:2], "send gzip, br" in deflated[2])
    assert statuses <= {400, 413}
    assert int(memory["heap_size"]) < 250_000_000


async def test_stalled_uploads_leave_an_envoy_within_its_memory() -> None:
    """Twelve at once, each larger than a body may be: others are served, and 512 MB are enough."""
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT) as mesh:
        head = "POST /v1/chat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        size = 60_000_000

        async def stall() -> asyncio.StreamWriter:
            _, writer = await asyncio.open_connection("127.0.0.1", mesh.config.envoy.port)
            writer.write(f"{head}content-length: {size + 100}\r\n\r\n".encode())
            with contextlib.suppress(ConnectionError):
                for _ in range(size // 1_000_000):
                    writer.write(b" " * 1_000_000)
                    await writer.drain()
            return writer

        writers = await asyncio.gather(*(stall() for _ in range(12)))
        memory = await mesh.envoy.get_json("/memory")
        answer = await mesh.request(json={"model": "big"})
        for writer in writers:
            writer.close()
    assert int(memory["total_physical_bytes"]) < 450_000_000
    assert (200, "a") == (answer.status, answer.text)


async def test_a_forms_model_is_read() -> None:
    """Whatever its other fields hold; a form without a model goes by its path."""
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT) as mesh:
        answers = [
            await mesh.request("/v1/chat", data=form(model)) for model in ("big", "small", None)
        ]
        none = await mesh.request("/v2/chat", data=form(None))
    assert ["a", "b", "b"] == [answer.text for answer in answers]
    assert (400, True) == (none.status, "names no model" in none.text)


async def test_a_preflight_is_answered_where_the_service_is_known_by_what_it_lacks() -> None:
    """A body's model, a header; a request without the header of a preflight is none."""
    third: dict[str, Any] = {"path": "/v3/chat", "header": {"x-service": "big"}, "model": "big"}
    service = {"name": "headed", "match": [third], "models": [{"name": "m"}]}
    split = {**SPLIT, "headed": {"b": 1}}
    async with running_mesh(PLACES, services=[*SERVICES, service], split=split) as mesh:
        ask = {"origin": "https://a.example", "access-control-request-method": "POST"}
        async with mesh.session.options(mesh.url + "/v3/chat", headers=ask) as response:
            assert (200, "b") == (response.status, await response.text())
        async with mesh.session.options(mesh.url + "/v2/chat", headers=ask) as response:
            assert (200, "a") == (response.status, await response.text())
        async with mesh.session.options(mesh.url + "/v2/chat") as response:
            assert 404 == response.status


async def test_a_body_that_no_match_competes_for_is_streamed() -> None:
    """The instance has its beginning before the client has sent its end."""
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT) as mesh:
        arrived = asyncio.Event()

        async def body() -> Any:
            yield b'{"model":'
            await until(lambda: mesh.origins["b"].requests)
            arrived.set()
            yield b'"big"}'

        answer = await mesh.request("/v1/images", data=body(), headers=JSON)
        assert arrived.is_set()
        assert (200, "b") == (answer.status, answer.text)
