"""`GET /api/v1/room` in its documented shape."""

from __future__ import annotations

import pytest

from controlplane.admin_api.room import encode_room
from controlplane.steering.plan import Plan, StartWish
from controlplane.steering.scaling_group import ScalingGroup


def group(site: str, room: float, wanted: int | None = 3) -> ScalingGroup:
    """Return a group with *room* requests a second."""
    return ScalingGroup(
        site=site,
        model="m",
        replicas=2,
        work=4.0,
        utilisation=0.5,
        gain_least=0.1,
        gain_most=0.4,
        wanted=wanted,
        patient=5,
        bound_by="" if wanted else "chat",
        room_work=room * 2,
        room_rate=room,
    )


def test_the_group_with_most_room_comes_first() -> None:
    """With what fits in all, so that a batch system reads one number or a list."""
    found = group("far", 5.0), group("near", 1.0, wanted=None)
    plan = Plan("v1", 10.0, {}, find_scaling=lambda: found)
    document = encode_room(plan, epoch=1_000.0)

    assert {"at": 1_010.0, "price": 2.0, "requests_per_second": 6.0}.items() <= document.items()
    assert ["far", "near"] == [each["site"] for each in document["groups"]]
    assert {
        "site": "near",
        "model": "m",
        "utilisation": 0.5,
        "room": {"requests_per_second": 1.0, "concurrent": 2.0},
        "replicas": {"now": 2, "wanted": None, "patient": 5, "bound_by": "chat", "asleep": 0},
        "gain": {"least": 0.1, "most": 0.4},
    } == document["groups"][1]


@pytest.mark.parametrize(
    ("asked", "sites"),
    [
        ({"site": "near"}, ["near"]),
        ({"model": "m"}, ["far", "near"]),
        ({"site": "near", "model": "m"}, ["near"]),
        ({"model": "other"}, []),
    ],
)
def test_room_may_be_asked_of_one_site_or_model(asked: dict[str, str], sites: list[str]) -> None:
    """The sum and what may be started are of what is asked for."""
    found = group("far", 5.0), group("near", 1.0)
    start = StartWish("z", "near", "m", 60.0, 600.0, 0.5, 2.0, 270.0, 600.0)
    plan = Plan("v1", 10.0, {}, cold_starts={"z": start}, find_scaling=lambda: found)
    document = encode_room(plan, epoch=0.0, **asked)

    assert sites == [each["site"] for each in document["groups"]]
    assert sum({"far": 5.0, "near": 1.0}[site] for site in sites) == document["requests_per_second"]
    assert len(document["cold_starts"]) == ("near" in sites)


def test_what_a_start_would_save_stands_beside_what_it_costs() -> None:
    """In numbers for programs, and in words for people."""
    start = StartWish(
        "z", "near", "m", start_up=60.0, use=600.0, gain_least=0.5, gain_most=2.0, saves=270.0,
        price=600.0,
    )  # fmt: skip
    (found,) = encode_room(Plan("v1", 0.0, {}, cold_starts={"z": start}), epoch=0.0)["cold_starts"]

    assert {"instance": "z", "site": "near", "model": "m", "saves": 270.0, "price": 600.0,
            "start_up": 60.0, "use": 600.0, "unserved": [], "pending": False, "wanted": False,
            "gain": {"least": 0.5, "most": 2.0}}.items() <= found.items()  # fmt: skip
    assert "270 s in all" in found["reason"]
