"""Sessions in real Envoys: kept by a hash, moved as little as the weights ask for, and bounded."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from testbed.background import until
from testbed.processes.envoy_mesh import Mesh, running_mesh

pytestmark = pytest.mark.envoy

WEIGHTS = {"a": 1000, "b": 2000, "c": 3000, "d": 2000, "e": 2000}


def service(**affinity: Any) -> list[dict[str, Any]]:
    """Return the one service of these tests."""
    return [
        {
            "name": "chat",
            "match": [{"path": "/v1/chat"}],
            "models": [{"name": "m"}],
            "affinity": {"header": "X-Session-Id", **affinity},
        }
    ]


async def instance_of(mesh: Mesh, session: str) -> str:
    """Return who answers a request of *session*."""
    answer = await mesh.request(headers={"x-session-id": session})
    assert 200 == answer.status
    return answer.headers["x-cats-instance"]


async def reached(mesh: Mesh, count: int) -> None:
    """Wait until the instances have got *count* requests."""
    await until(lambda: sum(each.requests for each in mesh.origins.values()) >= count)


async def test_sessions_stay_through_pushes_and_a_death() -> None:
    """Nine of ten turns find their warm instance.

    Each push changes every weight by a thirtieth or so; after half of them one instance is gone.
    """
    chance = random.Random(5)
    places = dict.fromkeys(WEIGHTS, "north")
    last: dict[str, str] = {}
    warm = turns = 0
    async with running_mesh(places, services=service(), split={"chat": WEIGHTS}) as mesh:
        for push in range(30):
            weights = {
                name: max(1, round(weight * chance.lognormvariate(0, 0.03)))
                for name, weight in WEIGHTS.items()
                if push < 15 or name != "a"
            }
            await mesh.push({"chat": weights})
            for session in chance.sample(range(150), 20):
                name = await instance_of(mesh, f"s{session}")
                turns += f"s{session}" in last
                warm += last.get(f"s{session}") == name
                last[f"s{session}"] = name
    assert warm >= 0.9 * turns, f"{warm} of {turns}"


async def test_many_sessions_follow_the_weights() -> None:
    """Each stays where it is, and together they split as the weights say."""
    split = {"chat": {"a": 1, "b": 3}}
    places = {"a": "north", "b": "north"}
    async with running_mesh(places, services=service(), split=split) as mesh:
        names = [await instance_of(mesh, f"s{number}") for number in range(400)]
        again = [await instance_of(mesh, f"s{number}") for number in range(20)]
    assert names[:20] == again
    assert 60 < names.count("a") < 140


async def test_a_hot_session_overflows_to_other_instances() -> None:
    """What one instance would hold alone is bounded; requests one by one never leave it."""
    places = {"a": "north", "b": "north", "c": "north"}
    split = {"chat": {"a": 1, "b": 1, "c": 1}}
    async with running_mesh(places, services=service(balance_factor=1.5), split=split) as mesh:
        assert 1 == len({await instance_of(mesh, "hot") for _ in range(10)})
        before = {name: origin.requests for name, origin in mesh.origins.items()}
        for origin in mesh.origins.values():
            origin.hangs = True
        waiting: list[asyncio.Task[str]] = []
        while len(waiting) < 24:
            waiting.append(asyncio.create_task(instance_of(mesh, "hot")))
            # One after the other: Envoy counts what has reached an instance.
            await reached(mesh, 10 + len(waiting))
        held = {name: origin.requests - before[name] for name, origin in mesh.origins.items()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    # Half above the third that is each one's share.
    assert 13 >= max(held.values()), held


async def test_a_cookie_names_the_session_of_clients_that_keep_it() -> None:
    """Envoy sets it in the first answer, for as long as was configured."""
    services = service()
    services[0]["affinity"] = {"cookie": "session", "timeout": "5m"}
    places = {"a": "north", "b": "north", "c": "north"}
    split = {"chat": {"a": 1, "b": 1, "c": 1}}
    async with running_mesh(places, services=services, split=split) as mesh:
        first = await mesh.request()
        cookie = first.headers["set-cookie"]
        assert cookie.startswith("session=")
        assert "Max-Age=300" in cookie
        sent = {"cookie": cookie.split(";")[0]}
        answers = [await mesh.request(headers=sent) for _ in range(10)]
    names = {answer.headers["x-cats-instance"] for answer in [first, *answers]}
    assert 1 == len(names)
