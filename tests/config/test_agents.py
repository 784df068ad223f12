"""The rights of agents in the configuration, and where instances report ORCA."""

from __future__ import annotations

import pytest

from controlplane.config import Config, parse_config
from controlplane.errors import ConfigError

FLEET = """\
version: 1
sites: [{name: north, kind: edge}]
models: [{name: m}]
services: [{name: chat, match: [{path: /}], models: [{name: m}]}]
instances:
  - {name: a, site: north, address: "10.0.0.1:80", model: m, orca: {port: 9001, period: 500ms}}
  - {name: b, site: north, address: "[2001:db8::1]:80", model: m, orca: {port: 9001}}
server:
  agents:
    - {name: north-1, token_hash_file: hash, sites: [north], instances: [a]}
"""


def targets(config: Config) -> list[str]:
    """Return where each instance is asked."""
    return [one.orca.target(one.host) for one in config.instances if one.orca]


def test_rights_and_addresses_are_read() -> None:
    """IPv6 hosts stand in brackets."""
    config = parse_config(FLEET, file="f")

    assert ["10.0.0.1:9001", "[2001:db8::1]:9001"] == targets(config)
    assert ("north-1", ("north",), ("a",)) == (
        config.server.agents[0].name,
        config.server.agents[0].sites,
        config.server.agents[0].instances,
    )


@pytest.mark.parametrize(
    ("old", "new", "place", "words"),
    [
        pytest.param("sites: [north]", "sites: [nord]", "server.agents[0].sites[0]",
                     "did you mean 'north'", id="site"),
        pytest.param("instances: [a]", "instances: [z]", "server.agents[0].instances[0]",
                     "no instance is named 'z'", id="instance"),
        pytest.param(", sites: [north], instances: [a]", "", "server.agents[0]",
                     "may report nothing", id="nothing"),
        pytest.param("token_hash_file: hash, ", "", "server.agents[0]", "could be anybody",
                     id="anybody"),
        pytest.param("{port: 9001, period: 500ms}", "{period: 500ms}", "instances[0].orca",
                     "give port", id="orca"),
    ],
)  # fmt: skip
def test_a_fault_names_its_place(old: str, new: str, place: str, words: str) -> None:
    """With the remedy."""
    with pytest.raises(ConfigError) as caught:
        parse_config(FLEET.replace(old, new), file="f")

    (fault,) = caught.value.faults
    assert place == fault.path
    assert words in fault.message
