"""Instances that know models by names of their own and refuse all others, behind a real Envoy."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest

from testbed.processes.envoy_mesh import Mesh, Split, running_mesh

pytestmark = pytest.mark.envoy

PLACES = {"edge": "north", "cloud": "cloud"}
MODELS = [{"name": "small"}, {"name": "large", "served_as": "org/large-70b"}]
FIELDS = {"edge": {"model": "small"}, "cloud": {"model": "large"}}
SERVES = {"edge": "small", "cloud": "org/large-70b"}
SERVICES: list[dict[str, Any]] = [
    {
        "name": "chat",
        "match": [{"path": "/v1/chat", "model": "assistant"}, {"path": "/v1/audio"}],
        "models": [{"name": "large"}, {"name": "small", "penalty": "100ms"}],
    }
]
EVEN = {"chat": {"edge": 1, "cloud": 1}}
PATIENT: dict[str, Any] = {"outlier_detection": {"consecutive_errors": 1000}}


def strict(mesh: Mesh) -> Mesh:
    """Have every origin of *mesh* refuse foreign names."""
    for name, origin in mesh.origins.items():
        origin.serves = SERVES[name]
    return mesh


BODIES = {
    "plain": b'{"model": "assistant", "messages": []}',
    "last and spaced": b'{"messages": ["a"],\n "model" :\t"assistant" }',
    "other models inside": b'{"metadata": {"model": "x"}, "tools": [{"model": "y"}],'
    b' "input": "\\"model\\": \\"z\\"", "model": "assistant"}',
    "strings that end in backslashes": b'{"a": "\\\\", "b": "\\\\\\"model", "model": "assistant"}',
    "the word as a value": b'{"type": "model", "list": ["model", "assistant"],"model":"assistant"}',
    "a schema": b'{"properties": {"model": {"type": "string"}}, "model": "assistant"}',
    "an escaped key": b'{"\\u006d\\u006Fdel": "assistant", "\\\\u006dodel": "y"}',
    "20 MB": b'{"image": "' + b"QUJD" * 5_000_000 + b'", "model": "assistant"}',
}


FORM = (
    b'--b\r\nContent-Type: text/plain; name="model"\r\nContent-Disposition: form-data; name=x;'
    b' filename="; name=model"\r\n\r\nfile\r\n'
    b"--b\r\ncontent-disposition:form-data;name=model\r\n\r\nwhatever\r\n--b--\r\n"
)
"""Names without quotes, and in headers where they name no field."""


async def test_each_attempt_names_what_its_instance_knows() -> None:
    """Whatever else the body holds; nothing but the name changes, and the answer says the model."""
    async with running_mesh(
        PLACES, services=SERVICES, split=EVEN, models=MODELS, fields=FIELDS, envoy=PATIENT
    ) as mesh:
        strict(mesh)
        for kind, body in BODIES.items():
            seen = Counter[str]()
            for _ in range(2):
                headers = {"content-type": "application/json"}
                answer = await mesh.request("/v1/chat", data=io.BytesIO(body), headers=headers)
                assert 200 == answer.status, kind
                instance = answer.text
                seen[answer.headers["x-cats-model"]] += 1
                arrived = mesh.origins[instance].content
                want = json.loads(body) | {"model": SERVES[instance]}
                assert want == json.loads(arrived), kind
            assert {"small": 1, "large": 1} == seen
        names = {name.lower() for name in mesh.origins["edge"].headers}
    assert not [name for name in names if name.startswith("x-cats-")]


@pytest.mark.parametrize("version", ["1.37", "1.38", "1.39", ""])
async def test_forms_streams_and_compressed_bodies_carry_the_name_too(version: str) -> None:
    """A path that no model is reported by is served as well; other bodies pass as they are."""
    async with running_mesh(
        PLACES,
        services=SERVICES,
        split=EVEN,
        models=MODELS,
        fields=FIELDS,
        envoy=PATIENT,
        version=version,
    ) as mesh:
        strict(mesh)
        for _ in range(4):
            form = aiohttp.FormData()
            form.add_field("file", b"\0\r\n" * 1000, filename="a.wav")
            form.add_field("model", "whatever")
            assert 200 == (await mesh.request("/v1/audio", data=form)).status
            headers = {"content-type": "multipart/form-data; boundary=b"}
            assert 200 == (await mesh.request("/v1/audio", data=FORM, headers=headers)).status
            assert b"whatever" not in b"".join(each.content for each in mesh.origins.values())
            body = gzip.compress(b'{"model": "assistant", "stream": true}')
            headers = {"content-type": "application/json", "content-encoding": "gzip"}
            stream = await mesh.request("/v1/chat?events=3&gap=0.05", data=body, headers=headers)
            assert (200, 3) == (stream.status, stream.text.count("data:"))
            again = await mesh.request("/v1/audio", data=body, headers=headers)
            assert 200 == again.status
        for origin in mesh.origins.values():
            origin.serves = None
        assert 200 == (await mesh.request("/v1/audio", data=b"raw")).status
        assert 200 == (await mesh.request("/v1/audio", json=["model", "x"])).status
        assert 200 == (await mesh.request("/v1/audio")).status


async def test_the_query_carries_the_name_too() -> None:
    """As of a realtime connection, which has no body; at every attempt, and nothing else of it."""
    fields = {**FIELDS, "cloud": {"model": "large", "served_as": "a+b/c"}}
    split: dict[str, Split] = {"chat": {"cloud": 1, "edge": (1, 1)}}
    asked = "/v1/audio?amodel=x&model=assistant&b=model=y&model="
    async with running_mesh(
        PLACES, services=SERVICES, split=split, models=MODELS, fields=fields, envoy=PATIENT
    ) as mesh:
        mesh.origins["cloud"].answers = [(503, {})] * 2
        paths = []
        for path in (asked, "/v1/audio"):
            for _ in range(2):
                assert 200 == (await mesh.request(path)).status
            paths.append([mesh.origins[name].path for name in ("cloud", "edge")])
    assert [
        [
            "/v1/audio?amodel=x&model=a%2Bb/c&b=model=y&model=a%2Bb/c",
            "/v1/audio?amodel=x&model=small&b=model=y&model=small",
        ],
        "/v1/audio",
    ] == [paths[0], paths[1][0]]


async def test_two_thousand_requests_with_retries_and_fallbacks_meet_no_foreign_name() -> None:
    """One instance fails every third request and the preferred one dies half-way."""
    places = {"edge": "north", "cloud": "cloud", "near": "north"}
    fields = {**FIELDS, "near": {"model": "large", "served_as": "large-lora"}}
    split: dict[str, Split] = {"chat": {"near": 3, "edge": 2, "cloud": (1, 1)}}
    async with running_mesh(
        places, services=SERVICES, split=split, models=MODELS, fields=fields, envoy=PATIENT
    ) as mesh:
        for name, origin in mesh.origins.items():
            origin.serves = {**SERVES, "near": "large-lora"}[name]
        mesh.origins["edge"].answers = [(503 if n % 3 == 0 else 200, {}) for n in range(1500)]
        slots = asyncio.Semaphore(16)
        statuses = Counter[int]()

        async def ask() -> None:
            async with slots:
                statuses[(await mesh.request(json={"model": "assistant"})).status] += 1

        await asyncio.gather(*(ask() for _ in range(1000)))
        await mesh.origins["near"].die()
        await asyncio.gather(*(ask() for _ in range(1000)))
        foreign = [
            model
            for origin in mesh.origins.values()
            for model in origin.models
            if model != origin.serves
        ]
    assert [] == foreign
    assert {200: 2000} == statuses


async def test_an_instance_of_several_models_is_asked_for_the_services_own() -> None:
    """Two services share one address, each by its adapter; names that fit pay nothing."""
    models = [{"name": "base"}, {"name": "law"}, {"name": "code", "served_as": "code-lora"}]
    services = [
        {"name": name, "match": [{"model": name}], "models": [{"name": name}]}
        for name in ("law", "code")
    ]
    fields = {
        name: {"models": ["base", {"name": "law"}, {"name": "code"}]} for name in ("edge", "cloud")
    }
    split = {"law": {"edge": 1, "cloud": 1}, "code": {"edge": 1}}
    async with running_mesh(
        PLACES, services=services, split=split, models=models, fields=fields
    ) as mesh:
        law = await mesh.request("/any", json={"model": "law"})
        code = await mesh.request("/any", json={"model": "code"})
        named = json.loads(mesh.origins["edge"].content)["model"]
        clusters = {
            each["cluster"]["name"]: each["cluster"]
            for each in await mesh.envoy.config_dump(resource="dynamic_active_clusters")
        }
    assert ("law", "code") == (law.headers["x-cats-model"], code.headers["x-cats-model"])
    assert "code-lora" == named
    assert ["code"] == [name for name in clusters if "http_filters" in json.dumps(clusters[name])]
