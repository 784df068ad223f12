"""Keys that decide nothing where they stand are warnings, which say what to do instead."""

from __future__ import annotations

import pytest

from controlplane.config import check_config

BASE = """
version: 1
sites:
  - {name: cloud, kind: cloud}
  - {name: edge, kind: edge%s}
  - {name: phones, kind: device}
models: [{name: large}, {name: painter}, {name: small}]
services:
  - name: chat
    match: [{path: /chat}]
    models: [{name: large}, {name: small}]
    %s
  - {name: paint, match: [{path: /paint}], models: [{name: painter}]}
instances:
  - {name: l, site: cloud, address: "10.0.0.1:80", model: large%s}
  - {name: p, site: edge, address: "10.0.0.2:80", model: painter}
  - {name: s, site: phones, address: "127.0.0.1:80", model: small}
%s
"""


def warnings(service: str = "", instance: str = "", rest: str = "", edge: str = "") -> list[str]:
    """Return the warnings of a fleet with these lines in it, each with its path."""
    checked = check_config(BASE % (edge, service, instance, rest), file="fleet.yaml")
    return [f"{each.path}: {each.message}" for each in checked.warnings]


def test_the_fleet_itself_has_none() -> None:
    """So what follows comes from the lines added."""
    assert warnings() == []


@pytest.mark.parametrize(
    ("lines", "path", "word"),
    [
        (
            {"service": "affinity: {header: x-session, timeout: 10m}"},
            "services[0].affinity.timeout",
            "leave it out",
        ),
        ({"service": "price: {request: 0.1}"}, "services[0].price", "energy_value"),
        ({"instance": ", price: {request: 0.1}"}, "instances[0].price", "energy_value"),
        ({"rest": "steering: {carbon_price: 0.1}"}, "steering.carbon_price", "energy_value"),
        ({"rest": "steering: {tariffs: {file: x}}"}, "steering.tariffs", "energy_value"),
        (
            {"rest": "overrides: [{site: edge, pin: true}]"},
            "overrides[0].pin",
            "leaves chat alone",
        ),
        ({"edge": ", battery: {floor: 10%}"}, "sites[1].battery", "kind device"),
        (
            {"rest": "overrides: [{site: phones, min_share: 10%}]\nsteering: {policy: capacity}"},
            "overrides[0].min_share",
            "pin them, or use policy optimal",
        ),
        (
            {"rest": "overrides: [{instance: s, weight: 9}]\nsteering: {policy: static}"},
            "overrides[0].weight",
            "the device site phones",
        ),
    ],
)
def test_what_decides_nothing_is_a_warning(lines: dict[str, str], path: str, word: str) -> None:
    """At its place, with the remedy."""
    (found,) = warnings(**lines)
    assert found.startswith(f"{path}: ")
    assert word in found


@pytest.mark.parametrize("bound", ["min_share: 10%", "max_share: 10%"])
def test_shares_of_devices_are_none_where_an_optimum_decides(bound: str) -> None:
    """They hold there, as those of any other instance."""
    assert warnings(rest=f"overrides: [{{site: phones, {bound}}}]") == []


def test_prices_that_are_weighed_are_none() -> None:
    """With the worth of a unit of currency they decide."""
    rest = "steering: {energy_value: 100, carbon_price: 0.1, tariffs: {file: x}}"
    assert warnings("price: {request: 0.1}", ", price: {request: 0.2}", rest) == []


@pytest.mark.parametrize(
    ("changes", "matches"),
    [
        ({}, 0),
        ({"name: chat\n": "name: chat\n    protocol: grpc\n"}, 1),
        ({"{name: large}, {name: painter}": "{name: large, protocol: grpc}, {name: painter}"}, 1),
        (
            {
                "name: chat\n": "name: chat\n    protocol: http2\n",
                "{name: large}, {name: painter}": "{name: large, protocol: grpc}, {name: painter}",
            },
            0,
        ),
    ],
    ids=["plain", "service", "model", "the service's own goes first"],
)
def test_a_model_that_no_grpc_message_shows_is_a_warning(
    changes: dict[str, str], matches: int
) -> None:
    """With what to match instead."""
    text = BASE % ("", "", "", "")
    for old, new in {**changes, "{path: /chat}": "{path: /chat, model: big}"}.items():
        assert old in text
        text = text.replace(old, new, 1)
    found = [each for each in check_config(text, file="fleet.yaml").warnings if "gRPC" in str(each)]
    assert ["services[0].match[0].model"] * matches == [each.path for each in found]
    assert all("match the method's path" in each.message for each in found)
