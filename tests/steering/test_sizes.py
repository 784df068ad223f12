"""Learning how long one service's requests take beside another's, from what Envoys saw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from controlplane.fleet.traffic_view import Served
from controlplane.steering.layout import build_layout
from controlplane.steering.sizes import SizeLearner
from testbed.fakes.views import make_config, make_instance, make_service

SERVICES = (("chat", 1.0), ("image", 1.0))
PACES = {"a": 0.5, "b": 1.0, "c": 3.0}


def served(
    seconds: int, true: Mapping[str, float], *, wait: float = 0.0
) -> dict[tuple[str, str], Served]:
    """Return what Envoys have seen after *seconds* of two requests a second of each service."""
    found = {}
    for service, size in true.items():
        for instance, pace in PACES.items():
            inside = 2.0 * seconds * (size * pace + wait)
            found[service, instance] = Served(2.0 * seconds, inside, inside)
    return found


def learn(
    true: Mapping[str, float], *, seconds: int = 30, wait: float = 0.0, **more: Any
) -> dict[str, float]:
    """Return the sizes that are believed after *seconds*."""
    learner = SizeLearner()
    waits = dict.fromkeys(PACES, more.pop("known_wait", wait))
    for second in range(seconds + 1):
        learner.observe(SERVICES, served(second, true, wait=wait), waits=waits, now=float(second))
    return learner.size


@pytest.mark.parametrize("ratio", [0.05, 0.5, 1.0, 4.0, 20.0])
def test_the_ratio_of_services_is_learned_across_instances_of_any_pace(ratio: float) -> None:
    """However different they are."""
    size = learn({"chat": 0.2, "image": 0.2 * ratio})

    assert size["image"] / size["chat"] == pytest.approx(ratio, rel=0.1)


def test_a_wait_that_all_share_is_no_size() -> None:
    """It is subtracted, where instances report it."""
    true = {"chat": 0.1, "image": 0.5}

    known, unknown = learn(true, wait=0.2), learn(true, wait=0.2, known_wait=0.0)

    assert known["image"] / known["chat"] == pytest.approx(5.0, rel=0.25)
    assert unknown["image"] / unknown["chat"] < 3.5


def test_requests_under_way_count_before_they_end() -> None:
    """After ten seconds only the short ones of a long service have ended."""
    learner = SizeLearner()
    for second in range(11):
        learner.observe(
            SERVICES,
            {
                ("chat", "a"): Served(10.0 * second, 5.0 * second, 5.0 * second),
                ("image", "a"): Served(1.0 * second, 2.0 * second, 8.0 * second),
            },
            waits={},
            now=float(second),
        )

    assert learner.size["image"] / learner.size["chat"] > 7.0


def test_what_is_learned_keeps_the_order_of_what_is_seen() -> None:
    """Sums of another order differ in the last digits, and so would the plans of two replicas."""
    seen = {("chat", f"instance-{number}"): Served(9.0, 9.0, 9.0) for number in range(40)}
    learner = SizeLearner()
    learner.observe(SERVICES, seen, waits={}, now=0.0)

    assert [*seen] == [(service, name) for service, name, *_ in learner.memory()["sums"]]


def test_services_that_share_no_instance_keep_their_configured_sizes() -> None:
    """What cannot be compared is believed as it is written."""
    learner = SizeLearner()
    for second in range(30):
        learner.observe(
            (("chat", 1.0), ("image", 3.0)),
            {
                ("chat", "a"): Served(5.0 * second, 1.0 * second, 1.0 * second),
                ("image", "b"): Served(5.0 * second, 9.0 * second, 9.0 * second),
            },
            waits={},
            now=float(second),
        )

    assert learner.size == pytest.approx({"chat": 1.0, "image": 3.0})


def test_growth_is_that_of_an_instances_own_mix() -> None:
    """What an instance completed before is counted by the sizes that are believed now."""
    learner = SizeLearner()
    product = dict.fromkeys(PACES, 1.0)
    for second in range(20):
        now = served(second, {"chat": 0.2, "image": 2.0})
        del now["image", "c"]
        _, grown = learner.observe(SERVICES, now, waits={}, now=float(second))
        for name, factor in grown.items():
            product[name] *= factor

    assert product["c"] == pytest.approx(learner.size["chat"], rel=0.05)


def test_what_was_learned_goes_on_in_another_process() -> None:
    """The document passes through JSON, as on disk."""
    true = {"chat": 0.2, "image": 2.0}
    first, second = SizeLearner(), SizeLearner()
    for at in range(20):
        first.observe(SERVICES, served(at, true), waits={}, now=float(at))
    second.remember(json.loads(json.dumps(first.memory(), allow_nan=False)))

    # Totals of a fleet that has been listening for long are of unknown age.
    sizes, _ = second.observe(SERVICES, served(900, {"chat": 1.0, "image": 1.0}), waits={}, now=5.0)

    assert dict(zip(true, sizes.tolist(), strict=True)) == pytest.approx(first.size, rel=0.05)


@pytest.mark.parametrize(
    "memory",
    [
        {},
        {"size": {"chat": "long"}, "sums": []},
        {"size": {"chat": 0.0}, "sums": []},
        {"size": {"chat": float("nan")}, "sums": []},
        {"size": {"chat": 1.0}, "sums": [["chat", "a", 1.0]]},
        {"size": {"chat": 1.0}, "sums": [["chat", "a", 1.0, -1.0, 0.0]]},
    ],
)
def test_what_is_no_memory_is_refused(memory: dict[str, Any]) -> None:
    """Nothing of it is taken."""
    learner = SizeLearner()
    with pytest.raises((ValueError, KeyError, TypeError)):
        learner.remember(memory)

    assert learner.size == {}


def test_a_service_time_is_the_prior_of_services_on_the_same_models_only() -> None:
    """An image that takes eight seconds says nothing of embeddings."""
    config = make_config(
        models=[{"name": "diffusion"}, {"name": "bert"}],
        services=[
            make_service("image", models=[{"name": "diffusion"}], service_time="8s"),
            make_service("upscale", models=[{"name": "diffusion"}]),
            make_service("embed", models=[{"name": "bert"}]),
        ],
        instances=[
            make_instance("a", "near", model="diffusion"),
            make_instance("b", "near", model="bert"),
        ],
    )
    layout = build_layout(config, config.instances)
    first = {s.service.name: s.size * float(layout.pace[0]) for s in layout.services}

    assert first == pytest.approx({"image": 8.0, "upscale": 8.0, "embed": 1.0})
