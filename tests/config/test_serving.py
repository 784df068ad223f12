"""Which model of an instance serves a service, and whether its name is replaced on the way."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.config import Config, Instance, Service
from controlplane.config.serving import rewrites_model, serving_model
from testbed.fakes.fleets import make_config


def service_of(*models: Any, **fields: Any) -> Service:
    """Return a service that lists *models* as (name, penalty)."""
    listed = [{"name": name, "penalty": penalty} for name, penalty in models]
    return Service.model_validate(
        {"name": "s", "match": [{"path": "/a"}], "models": listed, **fields}
    )


def test_the_model_of_least_penalty_serves() -> None:
    """Of those that the instance has and the service allows."""
    instance = Instance.model_validate(
        {"name": "i", "site": "x", "address": "10.0.0.1:1", "models": ["a", "b", "c"]}
    )
    for models, want in (
        ([("b", "10ms"), ("a", "20ms")], "b"),
        ([("b", "never"), ("a", "20ms")], "a"),
        ([("b", "never")], None),
        ([("z", "0ms")], None),
    ):
        found = serving_model(service_of(*models), instance)
        assert want == (found and found.name)
    assert "a" == instance.model


def fleet(match: dict[str, Any], *instances: dict[str, Any], **envoy: Any) -> Config:
    """Return a fleet of one service, of the models ``big`` and ``small``, and of *instances*."""
    return make_config(
        instances={f"i{n}": ("north", f"10.0.0.1:{n + 1}") for n in range(len(instances))},
        fields={f"i{n}": fields for n, fields in enumerate(instances)},
        services=[{"name": "s", "match": [match], "models": [{"name": "big"}, {"name": "small"}]}],
        models=[{"name": "big"}, {"name": "small"}],
        envoy=envoy,
    )


BIG, SMALL = {"model": "big"}, {"model": "small"}
OWN = {"model": "big", "served_as": "own"}


@pytest.mark.parametrize(
    ("match", "instances", "want"),
    [
        pytest.param({"path": "/", "model": "big"}, [BIG, BIG], False, id="one name for all"),
        pytest.param({"path": "/", "model": "chat"}, [BIG, BIG], True, id="clients say otherwise"),
        pytest.param({"path": "/"}, [BIG, BIG], False, id="the clients' own name"),
        pytest.param({"path": "/"}, [BIG, SMALL], True, id="a fallback of another name"),
        pytest.param({"path": "/"}, [OWN], True, id="the operator says so"),
        pytest.param({"path": "/", "model": "own"}, [OWN], False, id="clients know it"),
        pytest.param({"path": "/", "model": "big"}, [], False, id="no instance"),
    ],
)
def test_names_are_replaced_only_where_they_differ(
    match: dict[str, Any], instances: list[dict[str, Any]], want: bool
) -> None:
    """And nowhere where that is switched off."""
    config = fleet(match, *instances)
    off = fleet(match, *instances, rewrite_models=False)
    assert want is rewrites_model(config.services[0], config)
    assert not rewrites_model(off.services[0], off)
