"""The file's instances and those that are discovered, as one configuration."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import (
    Config,
    Conflict,
    DiscoveredInstance,
    DiscoveredMatch,
    Instance,
    Match,
    Site,
    parse_config,
    unserved,
)
from controlplane.config import merge as merge_module
from controlplane.config.merge import merge

FILE: dict[str, Any] = {
    "version": 1,
    "sites": [
        {"name": "cloud", "kind": "cloud", "region": "eu-west"},
        {"name": "edge", "kind": "edge", "region": "eu-north"},
        {"name": "phones", "kind": "device"},
    ],
    "models": [{"name": "big"}, {"name": "small"}],
    "services": [
        {"name": "chat", "match": [{"path": "/chat"}], "models": [{"name": "big"}]},
        {
            "name": "sum",
            "match": [{"path": "/sum"}],
            "models": [{"name": "small"}, {"name": "big", "penalty": "never"}],
            "residency": {"allow": ["eu-north"]},
        },
    ],
    "instances": [{"name": "own", "site": "cloud", "address": "10.0.0.1:8000", "model": "big"}],
    "overrides": [
        {"instance": "a", "site": "edge", "drain": True},
        {"instance": "b", "service": "sum", "max_share": "50%"},
        {"instance": "own", "max_share": "90%"},
    ],
    "discovery": {
        "rules": [
            {"name": "first", "kind": "pods", "site": "edge", "model": "big"},
            {"name": "second", "kind": "pods", "site": "edge", "model": "big"},
        ]
    },
}


def config(**changes: Any) -> Config:
    """Return the file's configuration."""
    return parse_config(json.dumps(FILE | changes), file="f")


def found(name: str, address: str, *, rule: str = "first", **fields: Any) -> DiscoveredInstance:
    """Return a found instance."""
    values = {"site": "edge", "model": "big"} | fields
    return DiscoveredInstance(rule, Instance(name=name, address=address, **values))


def names(merged: Config) -> list[str]:
    """Return the names of a configuration's instances."""
    return [instance.name for instance in merged.instances]


def test_what_is_found_follows_what_the_file_lists() -> None:
    """In the order of the rules and then of names, whatever order it was found in."""
    merged = merge(
        config(),
        [
            found("z", "10.0.0.2:1", rule="second"),
            found("y", "10.0.0.3:1"),
            found("x", "10.0.0.4:1"),
        ],
    )

    assert ["own", "x", "y", "z"] == names(merged.config)
    assert () == merged.refused


@pytest.mark.parametrize(
    ("one", "conflict", "message"),
    [
        pytest.param(
            found("own", "10.0.0.2:1"),
            Conflict.NAME,
            "the file has an instance of this name; give instance_name a prefix",
            id="a name of the file",
        ),
        pytest.param(
            found("x", "10.0.0.1:8000"),
            Conflict.ADDRESS,
            "10.0.0.1:8000 is already the address of 'own'; remove one of the two",
            id="an address of the file",
        ),
        pytest.param(
            found("x", "10.0.0.2:1", site="egde"),
            Conflict.SITE,
            "no site is named 'egde'; did you mean 'edge'?",
            id="an unknown site",
        ),
        pytest.param(
            found("x", "10.0.0.2:1", model="hug3"),
            Conflict.MODEL,
            "no model is named 'hug3'; known: big, small",
            id="an unknown model",
        ),
        pytest.param(
            found("x", "127.0.0.1:10000"),
            Conflict.CIRCLE,
            "Envoys of 'edge' listen at 127.0.0.1:10000; take another port",
            id="the Envoys' own address",
        ),
        pytest.param(
            found("a", "10.0.0.2:1", site="cloud"),
            Conflict.OVERRIDE,
            "is at 'cloud', and an override says 'edge'; fix the override",
            id="another site than the file's override says",
        ),
    ],
)
def test_the_file_wins_over_what_is_found(
    one: DiscoveredInstance, conflict: Conflict, message: str
) -> None:
    """The one that clashes is refused with its reason; the others take part."""
    merged = merge(config(), [one, found("good", "10.0.0.9:1")])

    assert ["own", "good"] == names(merged.config)
    assert [("first", one.instance.name, conflict, message)] == [
        (each.rule, each.name, each.conflict, each.message) for each in merged.refused
    ]


def test_of_two_that_are_found_the_earlier_rule_has_the_name() -> None:
    """So that every replica refuses the same one."""
    one, two = found("x", "10.0.0.2:1", rule="second"), found("x", "10.0.0.3:1")
    merged = merge(config(), [one, two])

    assert (two,) == merged.taken
    assert ["rule 'first' has an instance of this name; give instance_name a prefix"] == [
        each.message for each in merged.refused
    ]


def test_an_address_on_a_device_is_the_devices_own() -> None:
    """As in the file: two devices may both use loopback."""
    merged = merge(
        config(),
        [found("x", "127.0.0.1:9", site="phones"), found("y", "127.0.0.1:9", site="edge")],
    )

    assert 2 == len(merged.taken)


def test_overrides_wait_for_the_instance_that_they_name() -> None:
    """One of an instance that is unreachable has no effect, and takes effect when it comes."""
    before = merge(config()).config
    after = merge(config(), [found("a", "10.0.0.2:1")]).config

    assert ["own"] == [item.instance for item in before.overrides]
    assert ["a", "own"] == [item.instance for item in after.overrides]


def test_the_last_instances_of_a_service_are_held() -> None:
    """An empty set fails every request; what was there last may still answer."""
    only = config(instances=[])
    small = found("s", "10.0.0.4:1", model="small")
    some = (found("x", "10.0.0.2:1"), found("y", "10.0.0.3:1"), small)
    all_there = merge(only, some)
    none_left = merge(only, [], before=all_there.taken)
    still_none = merge(only, [], before=none_left.taken)
    some_again = merge(only, [found("z", "10.0.0.5:1")], before=still_none.taken)

    assert () == all_there.held
    assert ["s", "x", "y"] == names(none_left.config)
    assert set(some) == set(none_left.held)
    assert none_left == still_none
    # Only the service that still has no one keeps what was there.
    assert ["z", "s"] == names(some_again.config)
    assert ["s"] == [each.instance.name for each in some_again.held]


def test_nothing_is_held_where_the_file_serves() -> None:
    """The file's own instance takes the requests."""
    merged = merge(config(), [], before=[found("x", "10.0.0.2:1")])

    assert ["own"] == names(merged.config)


def test_nothing_is_held_of_a_rule_that_is_gone() -> None:
    """Anyone who removes a rule wants its instances gone."""
    rules = {"rules": FILE["discovery"]["rules"][1:]}
    merged = merge(
        config(instances=[], discovery=rules), [], before=[found("x", "10.0.0.2:1", rule="first")]
    )

    assert [] == names(merged.config)


def test_what_was_there_stays_until_the_rules_are_known() -> None:
    """A file that replaces its instances, or renames a rule, leaves no service without any."""
    only = config(instances=[])
    own = config().instances[0]
    before = [DiscoveredInstance("", own), found("x", "10.0.0.2:1", rule="renamed", model="small")]
    waiting = merge(only, [], before=before, awaited=True)
    known = merge(only, [found("y", own.address)], before=waiting.taken)

    assert {"own", "x"} == set(names(waiting.config))
    assert ["y"] == names(known.config)
    assert () == known.refused


def test_a_file_without_discovery_stays_as_it_is() -> None:
    """Whatever was found before."""
    plain = parse_config(
        json.dumps({k: v for k, v in FILE.items() if k not in ("discovery", "overrides")}), file="f"
    )

    assert plain is merge(plain, [found("x", "10.0.0.2:1")]).config


def test_a_service_is_served_where_it_may_be() -> None:
    """An instance outside of the service's regions is none for it."""
    here = found("s", "10.0.0.4:1", model="small")
    elsewhere = found("s", "10.0.0.4:1", model="small", site="cloud")

    assert ["sum"] == [service.name for service in unserved(merge(config(), [elsewhere]).config)]
    assert () == unserved(merge(config(), [here]).config)


FOUND = st.builds(
    found,
    st.sampled_from(["a", "b", "own", "x", "y"]),
    st.sampled_from(["10.0.0.1:8000", "10.0.0.2:1", "10.0.0.3:1", "127.0.0.1:10000", "[::1]:7"]),
    rule=st.sampled_from(["first", "second", "gone"]),
    site=st.sampled_from(["cloud", "edge", "phones", "nowhere"]),
    model=st.sampled_from(["big", "small", "none"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(FOUND, max_size=8), st.lists(FOUND, max_size=8), st.permutations(range(8)))
def test_whatever_is_found_the_merged_configuration_is_one_that_the_check_takes(
    now: list[DiscoveredInstance], before: list[DiscoveredInstance], order: list[int]
) -> None:
    """Written out as a file it has no fault; and the order of what was found means nothing."""
    merged = merge(config(), now, before=before)
    shuffled = [now[number] for number in order if number < len(now)]
    written = FILE | {
        "instances": [
            {"name": each.name, "site": each.site, "address": each.address, "model": each.model}
            for each in merged.config.instances
        ],
        "overrides": [
            item.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
            for item in merged.config.overrides
        ],
    }
    del written["discovery"]
    again = parse_config(json.dumps(written), file="merged")

    assert merged.config.instances == again.instances
    assert merged.config == merge(config(), shuffled, before=before).config
    reported = {(each.rule, each.name) for each in merged.refused}
    assert [] == [
        each
        for each in now
        if each.rule != "gone"
        and each not in merged.taken
        and (each.rule, each.instance.name) not in reported
    ]


def zoned(name: str, site: Site) -> DiscoveredInstance:
    """Return a found instance whose site a label made."""
    return DiscoveredInstance(
        "first",
        Instance(name=name, address=f"10.1.0.{ord(name)}:1", site=site.name, model="big"),
        site,
    )


def test_a_site_made_of_a_label_is_there_while_an_instance_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the order of names; the file's site of that name goes before, and there is a bound."""
    monkeypatch.setattr(merge_module, "MAX_SITES_MADE", 2)
    places = [
        Site(name=name, kind="edge", region="eu-south") for name in ("z2", "z1", "cloud", "z3")
    ]
    merged = merge(config(), [zoned(name, site) for name, site in zip("pqrs", places, strict=True)])

    assert ["cloud", "edge", "phones", "z1", "z2"] == [site.name for site in merged.config.sites]
    assert "eu-west" == merged.config.sites[0].region
    assert ["own", "p", "q", "r"] == names(merged.config)
    assert ["labels would make more than 2 sites; use one of larger areas"] == [
        each.message for each in merged.refused
    ]
    assert ["cloud", "edge", "phones"] == [site.name for site in merge(config(), []).config.sites]


def test_a_match_of_two_services_is_the_first_ones() -> None:
    """The file's goes before, then the earlier service; the route of the other one is refused."""
    services = [
        {**service, "http_routes": [{"pool": service["name"]}]} for service in FILE["services"]
    ]
    routed = config(services=services)
    found = [
        DiscoveredMatch("http_routes/sum", "sum", Match(path="/chat"), "ns/taken"),
        DiscoveredMatch("http_routes/sum", "sum", Match(path="/both"), "ns/both"),
        DiscoveredMatch("http_routes/chat", "chat", Match(path="/both"), "ns/both"),
        DiscoveredMatch("http_routes/chat", "chat", Match(path="/both"), "ns/again"),
        DiscoveredMatch("http_routes/sum", "sum", Match(path="/own"), "ns/own"),
        DiscoveredMatch("http_routes/gone", "gone", Match(path="/gone"), "ns/gone"),
    ]
    merged = merge(routed, matches=found)
    paths = {each.name: [match.path for match in each.match] for each in merged.config.services}

    assert {"chat": ["/chat", "/both"], "sum": ["/sum", "/own"]} == paths
    assert ["ns/both", "ns/taken"] == [each.name for each in merged.refused]
    assert {Conflict.MATCH} == {each.conflict for each in merged.refused}
    assert routed.services == merge(routed).config.services


def test_more_matches_than_envoys_should_have_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones serve."""
    monkeypatch.setattr(merge_module, "MAX_MATCHES", 2)
    service = {**FILE["services"][0], "http_routes": [{"pool": "p"}]}
    found = [
        DiscoveredMatch("http_routes/chat", "chat", Match(path=f"/{i}"), f"ns/{i}")
        for i in range(3)
    ]
    merged = merge(config(services=[service, FILE["services"][1]]), matches=found)

    assert found[:2] == list(merged.matches)
    assert [Conflict.LIMIT] == [each.conflict for each in merged.refused]


def test_pools_behind_one_gateway_have_room_there_if_it_can_distinguish_them() -> None:
    """Envoys know the instances of one service by address alone, so one service has one of them."""
    behind = {name: {"host": f"{name}.example"} for name in ("x", "y", "z")}

    def at_gateway(name: str, model: str, **gateway: str) -> DiscoveredInstance:
        fields = {"name": name, "site": "edge", "address": "10.0.0.9:80", "model": model}
        return DiscoveredInstance(
            "first", Instance.model_validate({**fields, "gateway": gateway or behind[name]})
        )

    merged = merge(
        config(),
        [at_gateway("x", "big"), at_gateway("y", "small"), at_gateway("z", "big")],
    )
    again = merge(config(), [at_gateway("x", "big"), at_gateway("y", "small", host="x.example")])

    assert ["x"] == [each.instance.name for each in merged.taken]
    said = {each.name: each.message for each in merged.refused}
    assert "the service sum has both" in said["y"]
    assert "the service chat, sum has both" in said["z"]
    assert "remove one of the two" in again.refused[0].message
