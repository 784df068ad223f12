"""Instances that have DNS names, once these are resolved."""

from __future__ import annotations

from controlplane.config.resolution import names_of, shared_addresses, with_addresses
from testbed.fakes.fleets import make_config


def test_names_are_replaced_by_addresses() -> None:
    """What is not resolved takes no part, nor does what is another's address."""
    config = make_config(
        instances={
            "ip": ("north", "10.0.0.1:80"),
            "four": ("north", "four.example:80"),
            "six": ("cloud", "six.example:80"),
            "away": ("cloud", "away.example:80"),
            "twin": ("cloud", "twin.example:80"),
            "local": ("phones", "localhost:80"),
        }
    )
    addresses = {
        "four.example": "10.0.0.2",
        "six.example": "2001:db8::1",
        "twin.example": "10.0.0.1",
        "localhost": "127.0.0.1",
    }
    assert {"four.example", "six.example", "away.example", "twin.example", "localhost"} == names_of(
        config
    )
    resolved = with_addresses(config, addresses)
    assert {
        "ip": "10.0.0.1:80",
        "four": "10.0.0.2:80",
        "six": "[2001:db8::1]:80",
        "local": "127.0.0.1:80",
    } == {each.name: each.address for each in resolved.instances}
    assert not names_of(resolved)
    assert {"twin": "ip"} == shared_addresses(config, addresses)


def test_a_written_address_holds_before_a_name_and_the_first_name_before_the_next() -> None:
    """In any order of the list; each that is left out has its holder."""
    config = make_config(
        instances={
            "first": ("north", "one.example:80"),
            "second": ("cloud", "two.example:80"),
            "other-port": ("cloud", "two.example:81"),
            "named": ("cloud", "three.example:80"),
            "written": ("cloud", "10.0.0.3:80"),
        }
    )
    addresses = {
        "one.example": "10.0.0.1",
        "two.example": "10.0.0.1",
        "three.example": "10.0.0.3",
    }
    assert {"second": "first", "named": "written"} == shared_addresses(config, addresses)
    kept = [each.name for each in with_addresses(config, addresses).instances]
    assert ["first", "other-port", "written"] == kept
    assert {} == shared_addresses(config, {})


def test_a_fleet_of_addresses_stays_as_it_is() -> None:
    """The very object, so that nothing is taken for a change."""
    config = make_config()
    assert config is with_addresses(config, {})


def test_an_https_instance_keeps_its_name_when_its_address_is_resolved() -> None:
    """It is what Envoys ask for and what the certificate must carry, unless another is written."""
    config = make_config(
        instances={"a": ("cloud", "API.Example.net:443"), "b": ("cloud", "lb.example.net:443")},
        fields={"a": {"https": {}}, "b": {"https": {"name": "api.other.net.", "path": "/openai/"}}},
    )
    resolved = with_addresses(config, {"api.example.net": "10.0.0.1", "lb.example.net": "10.0.0.2"})
    assert [("10.0.0.1", "api.example.net", ""), ("10.0.0.2", "api.other.net", "/openai")] == [
        (each.host, each.https.name, each.https.path) for each in resolved.instances if each.https
    ]
