"""What becomes of one request: classified, streamed, retried, or refused in words."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import pytest

from testbed.processes.envoy_mesh import Answer, running_mesh

pytestmark = pytest.mark.envoy

SERVICES: list[dict[str, Any]] = [
    {
        "name": "chat",
        "match": [{"path": "/v1/chat", "model": "retail"}, {"header": {"x-service": "chat"}}],
        "models": [{"name": "m"}],
    },
    {"name": "images", "match": [{"path": "/v1/images/*"}], "models": [{"name": "m"}]},
    {
        "name": "brief",
        "match": [{"path": "/v1/images/brief"}],
        "models": [{"name": "m"}],
        "timeout": "2s",
    },
]
SPLIT = {"chat": {"a": 1}, "images": {"b": 1}, "brief": {"b": 1}}
PLACES = {"a": "north", "b": "cloud"}
JSON = {"content-type": "application/json"}


def error_of(answer: Answer) -> dict[str, Any]:
    """Return what a refusal says; it must be JSON."""
    assert "application/json" == answer.headers["content-type"]
    found: dict[str, Any] = json.loads(answer.text)["error"]
    return found


@pytest.mark.parametrize(
    ("path", "headers", "body", "instance"),
    [
        pytest.param("/v1/chat", JSON, {"model": "retail"}, "a", id="model"),
        pytest.param("/v1/chat?stream=1", JSON, {"model": "retail"}, "a", id="query"),
        pytest.param(
            "/v1/chat",
            {"content-type": "application/json; charset=utf-8"},
            {"model": "retail"},
            "a",
            id="charset",
        ),
        pytest.param(
            "/v1/chat",
            JSON,
            {"messages": "x" * 3_000_000, "model": "retail"},
            "a",
            id="three megabytes",
        ),
        pytest.param("/v1/else", {"x-service": "chat"}, {}, "a", id="header"),
        pytest.param("/v1/images/generations", JSON, {"model": "retail"}, "b", id="prefix"),
    ],
)
async def test_a_request_reaches_its_service(
    path: str, headers: dict[str, str], body: dict[str, str], instance: str
) -> None:
    """By path, header or the body's model, whole, and the answer says who gave it."""
    own = {"rewrite_models": False}
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT, envoy=own) as mesh:
        text = json.dumps(body)
        answer = await mesh.request(path, data=io.BytesIO(text.encode()), headers=headers)
        assert (200, instance) == (answer.status, answer.text)
        assert instance == answer.headers["x-cats-instance"]
        assert PLACES[instance] == answer.headers["x-cats-site"]
        assert [len(text)] == mesh.origins[instance].bodies


async def test_refusals_are_json_and_say_what_would_help() -> None:
    """A request of no service gets 404, one of a service without instances 503."""
    split: dict[str, dict[str, int]] = {"chat": {"a": 1}, "images": {}}
    async with running_mesh(PLACES, services=SERVICES, split=split) as mesh:
        unknown = await mesh.request("/v2/chat?q=1")
        other = await mesh.request("/v1/chat", json={"model": "other"})
        empty = await mesh.request("/v1/images/x", json={"prompt": "a"})
    for answer, path in ((unknown, "/v2/chat?q=1"), (other, "/v1/chat")):
        assert (404, "no_service") == (answer.status, error_of(answer)["code"])
        message = error_of(answer)["message"]
        assert f"no service matches this request: POST {path}" in message
        assert "/v1/images/*" in message
        assert "'model'" in message
    assert (503, "no_instance") == (empty.status, error_of(empty)["code"])
    assert "no instance of service 'images' can be used now" == error_of(empty)["message"]


async def test_who_finds_all_asleep_is_answered_when_one_may_have_started() -> None:
    """As `Retry-After`, which clients of OpenAI's API follow; other services say nothing of it."""
    services = [
        {"name": name, "match": [{"path": f"/v1/{name}"}], "models": [{"name": model}]}
        for name, model in (("chat", "m"), ("images", "n"))
    ]
    mesh_of = partial(
        running_mesh,
        services=services,
        models=({"name": "m"}, {"name": "n"}),
        fields={"a": {"wake": {"start_up": "19500ms"}}, "b": {"model": "n"}},
        split={"chat": {}, "images": {}},
    )
    async with mesh_of(PLACES) as mesh:
        chat, images = await mesh.request("/v1/chat"), await mesh.request("/v1/images")
    assert (503, "no_instance") == (chat.status, error_of(chat)["code"])
    assert "20" == chat.headers["retry-after"]
    assert (503, "no_instance") == (images.status, error_of(images)["code"])
    assert "retry-after" not in images.headers


async def test_what_a_client_sends_cannot_change_how_it_is_served() -> None:
    """Forged headers are removed, and time-outs and retries are not the client's to set."""
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT) as mesh:
        answer = await mesh.request(
            "/v1/images/x?events=3&gap=0.1",
            headers={
                "x-cats-instance": "forged",
                "x-cats-site": "forged",
                "x-envoy-upstream-rq-timeout-ms": "50",
                "x-forwarded-for": "127.0.0.1",
            },
        )
        seen = {name.lower() for name in mesh.origins["b"].headers}
        plain = await mesh.request("/v1/images/x")
    assert "data: 0\n\ndata: 1\n\ndata: 2\n\n" == answer.text
    assert not {"x-cats-instance", "x-cats-site"} & seen
    assert "b" == plain.headers["x-cats-instance"]


async def test_a_stream_lasts_as_long_as_it_likes() -> None:
    """The same stream is cut where the service sets a limit, and only there."""
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT) as mesh:
        (dump,) = await mesh.envoy.config_dump(resource="dynamic_route_configs")
        (host,) = dump["route_config"]["virtual_hosts"]
        limits = {
            route["name"]: route["route"].get("timeout")
            for route in host["routes"]
            if route["name"] != "no service"
        }
        assert {"brief": "2s", "images": "0s", "chat": "0s"} == limits
        whole, cut = await asyncio.gather(
            mesh.request("/v1/images/x?events=4&gap=0.8"),
            mesh.request("/v1/images/brief?events=4&gap=0.8"),
            return_exceptions=True,
        )
    assert isinstance(whole, Answer)
    assert 4 == whole.text.count("data:")
    assert isinstance(cut, aiohttp.ClientPayloadError)


async def test_events_of_a_stream_arrive_one_by_one() -> None:
    """Nothing on the way gathers them, the reader of bodies included."""
    async with (
        running_mesh(PLACES, services=SERVICES, split=SPLIT) as mesh,
        mesh.session.post(
            mesh.url + "/v1/chat?events=3&gap=1.5", json={"model": "retail"}
        ) as response,
    ):
        assert b"data: 0\n\n" == await response.content.readany()
        assert b"data: 1\n\n" == await response.content.readany()


@pytest.mark.parametrize("dominant", [9, 199])
async def test_a_refused_request_is_retried_elsewhere(dominant: int) -> None:
    """A busy instance answers 503: its clients get their answers from the other one.

    However large its share: the retry looks until it finds an instance not tried yet.
    """
    places = {"a": "north", "b": "north"}
    outliers = {"consecutive_errors": 1000}
    async with running_mesh(
        places, split={"chat": {"a": dominant, "b": 1}}, envoy={"outlier_detection": outliers}
    ) as mesh:
        mesh.origins["a"].status = 503
        assert {"b": 40} == await mesh.answers(40)
        assert 0 < mesh.origins["a"].requests <= 40


async def test_a_dead_instance_gets_no_request_after_its_detection() -> None:
    """No client notices its death, and once Envoy knows, nothing is sent there."""
    # A closed port fails at once; one that answers late on a busy machine must not look dead too.
    check = {"interval": "200ms", "timeout": "60s", "unhealthy_after": 1}
    places = {"a": "north", "b": "north"}
    async with running_mesh(
        places, split={"chat": {"a": 1, "b": 1}}, envoy={"health_check": check}
    ) as mesh:
        address = mesh.origins["a"].address
        await mesh.origins["a"].die()
        assert {"b": 30} == await mesh.answers(30)

        def detected(clusters: Any) -> bool:
            return [address] == [each.address for each in clusters["chat"] if not each.healthy]

        await mesh.envoy.wait_for(detected, "notice that an instance is dead", timeout=60)
        before = {each.address: each for each in (await mesh.envoy.clusters())["chat"]}[address]
        assert {"b": 100} == await mesh.answers(100)
        after = {each.address: each for each in (await mesh.envoy.clusters())["chat"]}[address]
        assert before.stats["rq_total"] == after.stats["rq_total"]
        assert before.stats["cx_connect_fail"] == after.stats["cx_connect_fail"]


async def test_shares_that_move_to_new_instances_lose_no_request() -> None:
    """All requests go to an instance that Envoy has not checked yet, and none is refused."""
    check = {"interval": "60s", "timeout": "200ms"}
    places = {"a": "north", "b": "cloud"}
    async with running_mesh(
        places, split={"chat": {"a": 1}}, envoy={"health_check": check}
    ) as mesh:
        assert {"a": 20} == await mesh.answers(20)
        mesh.publish({"chat": {"b": 1}})
        counts = Counter[str]()
        while not counts["b"]:
            counts += await mesh.answers(20)
        assert {"b": 40} == await mesh.answers(40)


async def test_a_devices_own_model_answers_only_when_nothing_else_does() -> None:
    """One better instance left alive gets all requests; with none the device helps itself."""
    places = {"a": "north", "b": "north", "c": "cloud", "local": "phones"}
    # As above: a closed port fails at once, and late is not dead.
    check = {"interval": "200ms", "timeout": "60s", "unhealthy_after": 1}
    async with running_mesh(
        places,
        site="phones",
        split={"chat": {"a": 5, "b": 4, "c": 1, "local": (1, 1)}},
        envoy={"health_check": check},
    ) as mesh:
        assert "local" not in await mesh.answers(40)

        async def left(count: int) -> None:
            await mesh.envoy.wait_for(
                lambda clusters: count == sum(each.healthy for each in clusters["chat"]),
                f"see {count} healthy endpoints",
            )

        await mesh.origins["a"].die()
        await mesh.origins["b"].die()
        await left(2)
        assert {"c": 40} == await mesh.answers(40)
        await mesh.origins["c"].die()
        assert {"local": 1} == await mesh.answers(1)
        await left(1)
        assert {"local": 40} == await mesh.answers(40)


async def test_long_bodies_are_a_service_of_their_own() -> None:
    """By what the request says of its length; those that say nothing are in no class."""
    services: list[dict[str, Any]] = [
        {
            "name": name,
            "match": [{"path": "/v1/chat", **match}],
            "models": [{"name": "m"}],
        }
        for name, match in (
            ("short", {}),
            ("long", {"body_size": {"least": "8kB", "below": "1MB"}}),
            ("longest", {"body_size": {"least": "1MB"}}),
        )
    ]
    places = {"a": "north", "b": "north", "c": "north"}
    split = {"short": {"a": 1}, "long": {"b": 1}, "longest": {"c": 1}}

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 10_000

    async with running_mesh(places, services=services, split=split) as mesh:
        found = [
            (await mesh.request(data=body)).text
            for body in (b"x" * 7_999, b"x" * 8_000, b"x" * 999_999, b"x" * 1_000_000, chunks())
        ]
    assert ["a", "b", "b", "c", "a"] == found


ODD_PATHS = [
    (b"/v1/%63hat", "/v1/chat"),
    (b"/x/%2e%2E/v1//chat?stream=1", "/v1/chat"),
    (b"/~me", "/~me"),
    (b"/%7Eme", "/~me"),
    (b"/a{b}|c", "/a%7Bb%7D%7Cc"),
    (b"/%C3%A7", "/%C3%A7"),
    (b"/a;b=c,d@e:f", "/a;b=c,d@e:f"),
    (b"/a/%2F/b", "/a/%2F/b"),
    (b"/dots/..c", "/dots/..*"),
]
ODD_HEADERS = {"x-empty": "", "te": "trailers", "x-envoy-peer-metadata-id": "a"}


@pytest.mark.parametrize("path", ["/v1/chat", "/v1/chat?events=3&gap=0.1"])
async def test_a_proxy_that_speaks_http_1_0_is_served(path: str) -> None:
    """With or without a host; a stream lasts until the connection is closed."""
    body = b'{"model": "retail"}'
    head = f"POST {path} HTTP/1.0\r\ncontent-type: application/json\r\n"
    async with running_mesh(PLACES, services=SERVICES, split=SPLIT) as mesh:
        host, port = mesh.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()

    status, *_ = answer.splitlines()
    assert "200 OK" in status
    assert "x-cats-instance: a" in answer
    assert answer.count("data:") == (3 if "events" in path else 0)


async def test_a_path_matches_as_the_checks_of_fleet_yaml_say() -> None:
    """What they suggest is what Envoy compares; conditions that they pass can be met."""
    matches = [{"path": path} for path in dict.fromkeys(path for _, path in ODD_PATHS)]
    headers = [{"path": "/h", "header": {name: value}} for name, value in ODD_HEADERS.items()]
    services = [
        {"name": f"s{number}", "match": [match], "models": [{"name": "m"}]}
        for number, match in enumerate([*matches, *headers])
    ]
    places = {f"i{number}": "north" for number in range(len(services))}
    split = {f"s{number}": {f"i{number}": 1} for number in range(len(services))}
    asked = [
        *((path, "", f"i{matches.index({'path': expected})}") for path, expected in ODD_PATHS),
        *(
            (b"/h", f"{name}: {value}\r\n", f"i{len(matches) + number}")
            for number, (name, value) in enumerate(ODD_HEADERS.items())
        ),
    ]
    async with running_mesh(places, services=services, split=split) as mesh:
        host, port = mesh.url.removeprefix("http://").split(":")
        for path, header, instance in asked:
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f" HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{header}\r\n"
            writer.write(b"GET " + path + head.encode())
            answer = (await reader.read()).decode()
            writer.close()
            await writer.wait_closed()
            assert f"x-cats-instance: {instance}" in answer, (path, header, answer)
