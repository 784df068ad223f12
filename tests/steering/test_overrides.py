"""Overrides move what they forbid and nothing else, and a dry run says what happens."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from controlplane.admin_api.effect import encode_effect
from controlplane.config import Config, Override
from controlplane.steering import Plan, Steering
from testbed.fakes.views import make_config, make_instance, make_service, make_view

MODELS = {"chat": "large", "paint": "painter", "batch": "large"}


class Fleet:
    """A fleet of sites, services and demand that a seed draws, some seconds after its start."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = np.random.default_rng(seed)
        places = [f"site-{n}" for n in range(int(rng.integers(2, 6)))]
        clients = [f"client-{n}" for n in range(int(rng.integers(1, 5)))]
        instances = [
            make_instance(
                f"i-{n}",
                places[n % len(places)],
                model=("large", "painter")[n if n < 2 else int(rng.random() < 0.3)],
                slots=int(rng.choice([4, 8, 32])),
                service_time=f"{int(rng.integers(200, 1500))}ms",
            )
            for n in range(int(rng.integers(3, 13)))
        ]  # fmt: skip
        self.config: Config = make_config(
            sites=[*clients, *places],
            models=[{"name": "large"}, {"name": "painter"}],
            services=[
                make_service(name, models=[{"name": model}]) for name, model in MODELS.items()
            ],
            instances=instances,
        )
        self.rtt = {(c, p): float(rng.uniform(0.002, 0.08)) for c in clients for p in places}
        room = sum(i.slots / (i.service_time or 1.0) for i in self.config.instances)
        self.demand = {
            (c, s): float(rng.uniform(0.01, 0.5)) * room / len(clients) / 3
            for c in clients
            for s in MODELS
        }
        self.steering = Steering(self.config)
        for at in range(5):
            self.decide(self.steering, self.config, at)

    def decide(self, steering: Steering, config: Config, at: float) -> Plan:
        """Return the plan of the second *at*."""
        view = make_view(config, at=float(at), demand=self.demand, rtt=self.rtt)
        return steering.decide(view)

    def draw_override(self) -> Override:
        """Return an override of any kind that the fleet can bear."""
        instance = self.config.instances[int(self.rng.integers(len(self.config.instances)))]
        at = ({"instance": instance.name}, {"site": instance.site})[int(self.rng.integers(2))]
        does: dict[str, Any] = (
            {"drain": True},
            {"pin": True},
            {"max_share": 0.2},
            {"min_share": 0.3},
        )[int(self.rng.integers(4))]
        service = [*MODELS, None][int(self.rng.integers(4))]
        return Override(service=service, **at, **does)

    def with_override(self, override: Override) -> Config:
        """Return the configuration with *override*."""
        return self.config.model_copy(update={"overrides": (override,)})


def moved(before: Plan, after: Plan) -> dict[tuple[str, str], float]:
    """Return the part of each pair's requests that goes elsewhere, above rounding."""
    pairs = encode_effect(before, after)["pairs"]
    return {(pair["service"], pair["from"]): pair["moved"] for pair in pairs}


@pytest.mark.parametrize("seed", range(50))
def test_a_dry_run_says_what_happens(seed: int) -> None:
    """The same to the last digit at that instant; a second later queues have moved on a little."""
    fleet = Fleet(seed)
    config = fleet.with_override(fleet.draw_override())
    before = copy.deepcopy(fleet.steering).explain_all()
    as_is = fleet.decide(copy.deepcopy(fleet.steering), fleet.config, 5)
    tried = copy.deepcopy(fleet.steering)
    tried.reconfigure(config)
    predicted = moved(as_is, fleet.decide(tried, config, 5))

    def happens(at: float) -> dict[tuple[str, str], float]:
        steering = copy.deepcopy(fleet.steering)
        steering.reconfigure(config)
        return moved(replace(as_is, assignments=before), fleet.decide(steering, config, at))

    later = happens(6)
    assert predicted == happens(5)
    for pair in {*predicted, *later}:
        assert later.get(pair, 0.0) == pytest.approx(predicted.get(pair, 0.0), abs=0.03)


@pytest.mark.parametrize("seed", range(10))
def test_an_override_that_changes_nothing_moves_nothing(seed: int) -> None:
    """Bounds that hold anyhow, and the drain of what gets nothing."""
    fleet = Fleet(seed)
    plan = fleet.decide(fleet.steering, fleet.config, 5)
    name = fleet.config.instances[0].name
    config = fleet.with_override(Override(instance=name, max_share=1.0, min_share=0.0))
    fleet.steering.reconfigure(config)
    assert moved(plan, fleet.decide(fleet.steering, config, 6)) == {}


@pytest.mark.parametrize("seed", range(10))
def test_an_override_of_one_service_moves_that_one_alone(seed: int) -> None:
    """Others may gain by what it frees, but not so much that it is worth a push."""
    fleet = Fleet(seed)
    plan = fleet.decide(fleet.steering, fleet.config, 5)
    painter = next(i for i in fleet.config.instances if i.model == "painter")
    config = fleet.with_override(Override(service="paint", instance=painter.name, max_share=0.5))
    fleet.steering.reconfigure(config)
    after = fleet.decide(fleet.steering, config, 6)
    assert {service for service, _ in moved(plan, after)} <= {"paint"}


def test_a_pin_leaves_services_alone_that_nothing_there_may_serve() -> None:
    """The pin of a site with painters only is none of chat's."""
    config = make_config(
        models=[{"name": "large"}, {"name": "painter"}],
        services=[
            make_service("chat", models=[{"name": "large"}]),
            make_service("paint", models=[{"name": "painter"}]),
        ],
        instances=[
            make_instance("l", "near", model="large"),
            make_instance("p", "near", model="painter"),
            make_instance("q", "far", model="painter"),
        ],
        overrides=[{"site": "far", "pin": True}],
    )
    plan = Steering(config).decide(make_view(config, demand={("near", "chat"): 1.0}))
    used = {
        service: {a.instance for a in plan.assignments[service, "near"].allocations}
        for service in ("chat", "paint")
    }
    assert used == {"chat": {"l"}, "paint": {"q"}}
