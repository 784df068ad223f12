"""Instances that fail, and what their clients see of it through a real Envoy: nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest

from testbed.processes.envoy_mesh import running_mesh

pytestmark = pytest.mark.envoy

PLACES = {"a": "north", "b": "north"}
EVEN = {"chat": {"a": 1, "b": 1}}
PATIENT: dict[str, Any] = {"outlier_detection": {"consecutive_errors": 1000}}


def chat(**fields: Any) -> list[dict[str, Any]]:
    """Return the service ``chat`` with *fields*."""
    return [{"name": "chat", "match": [{"path": "/v1/chat"}], "models": [{"name": "m"}], **fields}]


STATED, UNSTATED = {"first_byte": "1s"}, {"slo": {"latency": "50ms"}}
"""A service that states a wait, and one without, of which two instances are asked at once."""


@pytest.mark.parametrize(
    ("version", "fields"),
    [(version, STATED) for version in ("1.37", "1.38", "1.39", "")]
    + [(version, UNSTATED) for version in ("1.37", "")],
)
async def test_a_hung_instance_costs_no_answer(version: str, fields: dict[str, Any]) -> None:
    """All of twelve requests are answered by the other one, and soon none is sent to it."""
    services = chat(**fields)
    async with running_mesh(PLACES, services=services, split=EVEN, version=version) as mesh:
        mesh.origins["a"].hangs = True
        counts = Counter([(await mesh.request()).text for _ in range(12)])
        asked = mesh.origins["a"].requests
    assert Counter({"b": 12}) == counts
    assert asked == 3


async def test_an_answer_that_takes_longer_than_another_is_waited_for_arrives() -> None:
    """Each instance takes four times the wait after which the other one is asked as well."""
    async with running_mesh(
        PLACES, services=chat(slo={"latency": "50ms"}), split=EVEN, envoy=PATIENT
    ) as mesh:
        for origin in mesh.origins.values():
            origin.delay = 2.0
        statuses = await asyncio.gather(*(mesh.request() for _ in range(4)))
    assert [200] * 4 == [each.status for each in statuses]


async def test_a_stream_is_not_cut_by_the_limit_of_its_first_byte() -> None:
    """It lasts six times as long."""
    async with running_mesh(PLACES, services=chat(first_byte="200ms"), split=EVEN) as mesh:
        answer = await mesh.request("/v1/chat?events=6&gap=0.2")
    assert 6 == answer.text.count("data:")


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 502, 503, 504, 529])
async def test_an_answer_that_one_instance_alone_gives_is_not_the_clients(status: int) -> None:
    """Each request gets its answer from the other one, whatever the first says."""
    async with running_mesh(PLACES, split=EVEN, envoy=PATIENT) as mesh:
        mesh.origins["a"].status = status
        assert {"b": 20} == await mesh.answers(20)
        assert mesh.origins["a"].requests


async def test_a_failure_of_the_clients_own_is_passed_on_and_ejects_nobody() -> None:
    """A client asks for what no instance has; the others lose nothing, and no share moves."""
    services = [
        *chat(),
        {"name": "images", "match": [{"path": "/v1/images"}], "models": [{"name": "m"}]},
    ]
    split = {"chat": EVEN["chat"], "images": EVEN["chat"]}
    async with running_mesh(PLACES, services=services, split=split) as mesh:
        for origin in mesh.origins.values():
            origin.serves = "big"
        statuses = [(await mesh.request(json={"model": "no one's"})).status for _ in range(20)]
        well = Counter(
            [(await mesh.request(json={"model": "big"})).headers["x-cats-instance"]
             for _ in range(20)]
        )  # fmt: skip
        clusters = await mesh.envoy.clusters()
    assert [404] * 20 == statuses
    assert {"a": 10, "b": 10} == well
    assert not [each for each in clusters["chat"] if each.failed_outlier_check]


@pytest.mark.parametrize(
    ("status", "retry_after", "least"), [(429, "1", 0.9), (503, "1", 0.9), (429, "30", 0.0)]
)
async def test_retry_after_is_waited_for_within_a_bound(
    status: int, retry_after: str, least: float
) -> None:
    """A second is; half a minute is not, since another instance can be asked."""
    async with running_mesh({"a": "north"}, split={"chat": {"a": 1}}, envoy=PATIENT) as mesh:
        origin = mesh.origins["a"]
        origin.answers = [(status, {"retry-after": retry_after})]
        began = time.monotonic()
        answer = await mesh.request(timeout=aiohttp.ClientTimeout(total=60))
        waited = time.monotonic() - began
    assert (200, "a", 2) == (answer.status, answer.text, origin.requests)
    assert waited >= least


async def test_half_of_a_service_is_ejected_at_most() -> None:
    """Whatever all of its instances answer."""
    places = {"a": "north", "b": "north", "c": "north", "d": "north"}
    async with running_mesh(places, split={"chat": dict.fromkeys(places, 1)}) as mesh:
        for origin in mesh.origins.values():
            origin.status = 500
        for _ in range(40):
            await mesh.request()
        ejected = [
            each for each in (await mesh.envoy.clusters())["chat"] if each.failed_outlier_check
        ]
    assert 2 == len(ejected)


@pytest.mark.parametrize("version", ["1.37", ""])
async def test_a_device_loses_nothing_when_its_link_goes(version: str) -> None:
    """Three others fail at once, more than a request has attempts; its own model shares a tenth."""
    places = {"a": "north", "b": "cloud", "c": "cloud", "own": "phones"}
    split = {"chat": {"a": 300, "b": 300, "c": 300, "own": 100}}
    async with running_mesh(
        places, site="phones", split=split, envoy=PATIENT, version=version
    ) as mesh:
        before = await mesh.answers(40)
        for name in "abc":
            mesh.origins[name].status = 503
        after = await mesh.answers(40)
    assert {"a", "b", "c", "own"} == set(before)
    assert {"own": 40} == after


@pytest.mark.parametrize("version", ["1.37", ""])
async def test_a_device_without_a_link_needs_no_instance_beside_its_own(version: str) -> None:
    """All of its requests go to one site, and what is used when that is lost is away as well."""
    places = {"a": "north", "b": "cloud", "c": "cloud", "own": "phones"}
    split: dict[str, dict[str, int | tuple[int, int]]] = {
        "chat": {"a": 300, "own": (100, 1), "b": (300, 2), "c": (300, 2)}
    }
    async with running_mesh(
        places, site="phones", split=split, envoy=PATIENT, version=version
    ) as mesh:
        before = await mesh.answers(20)
        for name in "abc":
            mesh.origins[name].status = 503
        after = await mesh.answers(40)
    assert {"a": 20} == before
    assert {"own": 40} == after
