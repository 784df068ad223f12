"""Emulated instances over real HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from testbed.fakes.engine import Curve
from testbed.fakes.instance_settings import InstanceSettings, parse_arguments
from testbed.fakes.instances import EmulatedInstance
from testbed.fakes.kserve import KserveClient, serving_kserve
from testbed.processes.children import Children

FAST = Curve(base=0.01, crowding=0.001, slots=4)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "a b c"}], "max_tokens": 20}


@asynccontextmanager
async def running(
    settings: InstanceSettings | None = None,
) -> AsyncIterator[tuple[EmulatedInstance, aiohttp.ClientSession]]:
    """Run an instance with a client that knows its address."""
    async with (
        EmulatedInstance(settings or InstanceSettings(model="m", curve=FAST)) as instance,
        aiohttp.ClientSession(f"http://{instance.address}") as client,
    ):
        yield instance, client


async def wait_until(condition: Any) -> None:
    """Wait until *condition* holds; the test's own time limit bounds it."""
    while not condition():  # noqa: ASYNC110 -- what it waits for has no event
        await asyncio.sleep(0.001)


async def test_a_chat_is_answered_as_openai_does() -> None:
    """The whole answer has its text, its reason to end and its usage."""
    async with running() as (_, client), client.post("/v1/chat/completions", json=CHAT) as answer:
        got = await answer.json()

    assert "chat.completion" == got["object"]
    assert 20 == len(got["choices"][0]["message"]["content"].split())
    assert "length" == got["choices"][0]["finish_reason"]
    assert {"prompt_tokens": 3, "completion_tokens": 20, "total_tokens": 23} == got["usage"]


async def test_a_streamed_chat_comes_as_server_sent_events() -> None:
    """Pieces add up to the whole answer, the last one ends it, usage and DONE follow."""
    asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    async with running() as (_, client), client.post("/v1/chat/completions", json=asked) as answer:
        kind = answer.headers["content-type"]
        lines = (await answer.text()).split("\n\n")

    assert "text/event-stream" == kind
    assert ["data: [DONE]", ""] == lines[-2:]
    *pieces, usage = (json.loads(line.removeprefix("data: ")) for line in lines[:-2])
    text = "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
    assert 20 == len(text.split())
    reasons = [piece["choices"][0]["finish_reason"] for piece in pieces]
    assert [None] * (len(pieces) - 1) + ["length"] == reasons
    assert 20 == usage["usage"]["completion_tokens"]


@pytest.mark.parametrize(
    ("path", "asked", "key"),
    [
        pytest.param("/v1/completions", {"prompt": "a b", "max_tokens": 5}, "choices", id="text"),
        pytest.param("/v1/embeddings", {"input": ["a", "b c"]}, "data", id="embeddings"),
        pytest.param("/v1/images/generations", {"prompt": "a cat"}, "data", id="images"),
    ],
)
async def test_other_tasks_are_answered(path: str, asked: dict[str, Any], key: str) -> None:
    """Completions, embeddings and images each have their path."""
    async with running() as (instance, client), client.post(path, json=asked) as answer:
        got = await answer.json()

        assert 200 == answer.status
        assert got[key]
        assert 1 == instance.engine.completed


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"{", "not JSON", id="broken"),
        pytest.param(b"[]", "not a JSON object", id="list"),
        pytest.param(b'{"messages": []}', "messages", id="nothing said"),
        pytest.param(
            b'{"messages": [{"content": "a"}], "max_tokens": 0}', "max_tokens", id="no tokens"
        ),
    ],
)
async def test_a_bad_request_is_refused_with_its_reason(body: bytes, message: str) -> None:
    """The answer is 400 with OpenAI's form of an error."""
    async with running() as (_, client), client.post("/v1/chat/completions", data=body) as answer:
        got = await answer.json()

    assert 400 == answer.status
    assert message in got["error"]["message"]


async def test_metrics_count_what_was_answered() -> None:
    """The metrics page grows with the requests."""
    async with running() as (_, client):
        for _ in range(3):
            async with client.post("/v1/chat/completions", json=CHAT) as answer:
                await answer.read()
        async with client.get("/metrics") as answer:
            page = await answer.text()

    assert 'vllm:e2e_request_latency_seconds_count{engine="0",model_name="m"} 3.0' in page
    assert 'vllm:generation_tokens_total{engine="0",model_name="m"} 60.0' in page


async def test_a_client_that_hangs_up_frees_its_slot() -> None:
    """What runs is given up as soon as no one listens."""
    slow = InstanceSettings(curve=Curve(base=3600.0, crowding=0.0, slots=4))
    async with running(slow) as (instance, client):
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        await wait_until(lambda: instance.engine.running == 1)
        asking.cancel()
        await wait_until(lambda: instance.engine.running == 0)

    assert 0 == instance.engine.completed


async def test_training_is_switched_over_http() -> None:
    """The control path starts and ends a job, and says how things are."""
    async with running() as (instance, client):
        async with client.post("/emulation", json={"training": 0.6}) as answer:
            reported = await answer.json()
        async with client.post("/emulation", json={"training": 1.5}) as answer:
            refused = answer.status

        assert 0.6 == reported["training"] == instance.engine.training
        assert 400 == refused


async def test_a_failing_instance_says_so_everywhere() -> None:
    """Requests and health get 500; switched back, all is well."""
    async with running() as (_, client):
        seen = []
        for failing in (True, False):
            async with client.post("/emulation", json={"failing": failing}):
                pass
            async with client.get("/health") as health:
                seen.append(health.status)
            async with client.post("/v1/chat/completions", json=CHAT) as answer:
                seen.append(answer.status)

    assert [500, 500, 200, 200] == seen


async def test_a_hung_instance_answers_when_it_recovers() -> None:
    """A request taken while hung is neither refused nor lost."""
    async with running() as (instance, client):
        instance.hang(True)
        asking = asyncio.create_task(client.post("/v1/chat/completions", json=CHAT))
        done, _ = await asyncio.wait({asking}, timeout=0.1)
        assert not done

        instance.hang(False)
        async with await asking as answer:
            assert 200 == answer.status


async def test_an_unknown_switch_is_refused() -> None:
    """A misspelt switch does not pass for success."""
    async with running() as (_, client), client.post("/emulation", json={"trainig": 1}) as answer:
        assert 400 == answer.status


async def test_a_distance_delays_requests_from_there_only() -> None:
    """A request from afar is on its way before the engine sees it; its neighbour is served."""
    settings = InstanceSettings(curve=FAST, rtt={"far": 3600.0})
    async with running(settings) as (instance, client):
        afar = asyncio.create_task(
            client.post("/v1/chat/completions", json=CHAT, headers={"x-emulated-from": "far"})
        )
        async with client.post("/v1/chat/completions", json=CHAT) as answer:
            await answer.read()
        afar.cancel()

    assert 1 == instance.engine.completed


def test_the_command_line_is_read_with_units() -> None:
    """Durations carry units and distances name their site."""
    settings = parse_arguments(
        ["--port", "9001", "--base", "150ms", "--slots", "3", "--rtt", "cloud-1=40ms"]
    )

    assert (
        InstanceSettings(port=9001, curve=Curve(0.15, 0.01, 3), rtt={"cloud-1": 0.04}) == settings
    )


async def test_an_instance_of_its_own_process_ends_with_its_context(tmp_path: Path) -> None:
    """Leaving the context ends the child in good order, and its output stays."""
    command = [sys.executable, "-m", "testbed.fakes.instances", "--port", "0", "--model", "m"]
    async with Children(tmp_path) as children:
        child = await children.start("m", command)
        await wait_until(lambda: "m at http://" in child.last_lines())

    assert not child.running


async def test_kserves_protocol_is_spoken_beside_http() -> None:
    """A known model is answered after its work; foreign names and failures arrive as gRPC's."""
    settings = InstanceSettings(model="detector", serves=("detector",))
    async with EmulatedInstance(settings) as instance, serving_kserve(instance, 0) as port:
        client = KserveClient()
        address = f"127.0.0.1:{port}"
        answers = [
            (await client.infer(address, model, metadata={}, patience=60.0))[:2]
            for model in ("detector", "other")
        ]
        instance.failing = True
        failed = await client.infer(address, "detector", metadata={}, patience=60.0)
        await client.close()
        worked = instance.engine.completed
    assert [
        (200, ""),
        (404, "NOT_FOUND Request for unknown model: 'other' is not found"),
    ] == answers
    assert 500 == failed[0]
    assert 1 == worked
