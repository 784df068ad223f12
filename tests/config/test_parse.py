"""A whole file to a configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config import Mode, PolicyName, SiteKind, check_config, parse_config
from controlplane.errors import ConfigError, Fault

FLEET = (Path(__file__).parent / "fleet.yaml").read_text()


def faults_in(text: str) -> tuple[Fault, ...]:
    """Return the faults of *text*; None if it is valid."""
    try:
        parse_config(text, file="f")
    except ConfigError as error:
        return error.faults
    return ()


def test_the_example_of_the_reference_is_read_in_si_units() -> None:
    """Every key of the example has the value an operator means."""
    config = parse_config(FLEET, file="fleet.yaml")
    cloud, edge, phones = config.sites
    chat, paint = config.services
    north, gpu, device = config.instances

    assert (SiteKind.CLOUD, "eu-west", "eu-west-1a") == (cloud.kind, cloud.region, cloud.zone)
    assert (0.12, 8000.0) == (cloud.power.price, cloud.power.budget)
    assert (SiteKind.EDGE, SiteKind.DEVICE) == (edge.kind, phones.kind)
    assert (0.5, 4.0) == (chat.slo.ttft, chat.slo.latency)
    assert ("/v1/chat/completions", "retail") == (chat.match[0].path, chat.match[0].model)
    assert {"x-service": "chat"} == chat.match[1].header
    assert [0.0, 0.08, 0.6] == [model.penalty for model in chat.models]
    assert chat.residency is not None
    assert ("eu-west", "eu-north") == chat.residency.allow
    assert chat.affinity is not None
    assert ("x-session-id", 600.0) == (chat.affinity.header, chat.affinity.timeout)
    assert (1.0, 0.1) == (chat.cost_of_delay, paint.cost_of_delay)
    assert ("10.1.0.10", 8000, 32) == (north.host, north.port, north.slots)
    assert north.scrape is not None
    assert ("http://10.1.0.10:8000/metrics", 1.0) == (north.scrape.url, north.scrape.period)
    assert (None, "phones") == (gpu.scrape, device.site)
    assert 0.04 == config.network.default_rtt
    (path,) = config.network.paths
    assert ("phones", "edge-north", 0.005) == (path.source, path.target, path.rtt)
    assert 12.5e6 == path.bandwidth
    assert (PolicyName.OPTIMAL, Mode.STEER) == (config.steering.policy, config.steering.mode)
    assert (1.0, 30.0, 0.01) == (
        config.steering.period,
        config.steering.expiry,
        config.steering.probe_share,
    )
    assert [True, False, False] == [override.drain for override in config.overrides]
    assert (0.3, 120) == (config.overrides[1].max_share, config.overrides[2].weight)
    assert config.server.tls is not None
    assert ("server.pem", "local") == (config.server.tls.cert, config.server.bus)


def test_what_the_example_takes_for_granted_must_be_there() -> None:
    """Without the painter and its instance the same file has exactly two dangling names."""
    left_out = ("  - {name: painter", "  - {name: gpu-7")
    text = "\n".join(line for line in FLEET.splitlines() if not line.startswith(left_out))

    with pytest.raises(ConfigError) as caught:
        parse_config(text, file="fleet.yaml")

    assert [
        (
            "fleet.yaml:29:21: services[1].models[0].name: no model is named 'painter'"
            "; known: assistant-70b, assistant-8b-retail, assistant-1b"
        ),
        (
            "fleet.yaml:51:32: overrides[2].instance: no instance is named 'gpu-7'"
            "; known: north-a, on-device"
        ),
    ] == [str(fault) for fault in caught.value.faults]


MINIMAL = """\
version: 1
sites: [{name: s, kind: edge}]
models: [{name: m}, {name: n}]
services: [{name: x, match: [{path: /}], models: [{name: m}]}]
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            MINIMAL,
            [("4:50: services[0].models: no instance runs any of these; requests get 503 until"
             " one is added")],
            id="a service that nothing serves",
        ),
        pytest.param(
            MINIMAL + "instances: [{name: i, site: s, address: '10.0.0.1:1', model: m}]\n"
            "overrides: [{instance: i, weight: 5}]",
            [("6:35: overrides[0].weight: has no effect until the policy is static or the override"
             " also has pin: true")],
            id="a weight under another policy",
        ),
        pytest.param(
            MINIMAL + "instances: [{name: i, site: s, address: '10.0.0.1:1', model: m}]\n"
            "steering: {policy: static}\noverrides: [{instance: i, weight: 5}]",
            [],
            id="a weight under the policy static",
        ),
        pytest.param(
            MINIMAL.replace("/}], ", "/}], residency: {allow: [eu]}, ").replace(
                "{name: s, kind: edge}", "{name: s, kind: edge}, {name: t, kind: edge, region: eu}"
            )
            + "instances: [{name: i, site: s, address: '10.0.0.1:1', model: m}]",
            [("4:53: services[0].residency: no instance of its models is in these regions;"
             " requests get 503 until one is added")],
            id="residency that nothing satisfies",
        ),
        pytest.param(
            MINIMAL.replace("/}], ", "/}], timeout: 1s, slo: {latency: 2s}, ")
            + "instances: [{name: i, site: s, address: '10.0.0.1:1', model: m}]",
            ["4:51: services[0].timeout: cuts answers that slo.latency still allows"],
            id="a timeout within the objective",
        ),
        pytest.param(
            MINIMAL.replace(
                "{name: s, kind: edge}",
                "{name: s, kind: edge, region: r, zone: z},"
                " {name: t, kind: edge, region: r, zone: z}",
            )
            + "instances: [{name: i, site: s, address: '10.0.0.1:1', model: m}]",
            [("2:91: sites[1].zone: site 's' has the same region and zone; Envoys that do not name"
             " their site in node.metadata.site belong to neither")],
            id="two sites of one locality",
        ),
        pytest.param(
            MINIMAL.replace("/}], ", "/}], canary: {client_site: s, policy: nearest}, ")
            + "instances: [{name: i, site: s, address: '10.0.0.1:1', model: m}]\n"
            "steering: {mode: observe, canary: {client_site: s, policy: spray}}",
            [
                ("4:50: services[0].canary: is only proposed in observe mode; to push it at that"
                " site alone, use mode: steer and policy: static"),
                ("6:35: steering.canary: has no effect: every service has a policy or a canary of"
                " its own"),
                ("6:35: steering.canary: is only proposed in observe mode; to push it at that site"
                " alone, use mode: steer and policy: static"),
            ],
            id="canaries that push nothing",
        ),
        pytest.param(
            MINIMAL
            + "instances: [{name: i, site: s, address: '10.0.0.1:1', model: m, tls: false}]\n",
            [("5:70: instances[0].tls: has no effect: no instance is spoken to in TLS until"
             " envoy.instance_tls is set")],
            id="clear text where there is nothing else",
        ),
    ],
)  # fmt: skip
def test_what_is_hardly_meant_is_a_warning(text: str, expected: list[str]) -> None:
    """A warning has a place like a fault, and the file is accepted."""
    warnings = check_config(text, file="f").warnings

    assert expected == [str(warning).removeprefix("f:") for warning in warnings]


def test_instances_of_a_model_that_no_service_uses_are_fine() -> None:
    """A machine may be added before the service that will use it."""
    text = MINIMAL + (
        "instances:\n"
        "  - {name: i, site: s, address: '10.0.0.1:1', model: m}\n"
        "  - {name: j, site: s, address: '10.0.0.2:1', model: n}\n"
    )

    assert () == check_config(text, file="f").warnings


def test_a_retry_policy_keeps_its_key_on() -> None:
    """``on`` is a key here, not the boolean of YAML 1.1."""
    config = parse_config(MINIMAL + "envoy: {retries: {on: connect-failure}}", file="f")

    assert "connect-failure" == config.envoy.retries.on


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["m", "s", "x", "1s", "30%", "never", "10.0.0.1:80", "::1", "/", "0x", "[]:1"]
    )
)
KEYS = st.sampled_from(
    ["name", "kind", "site", "model", "address", "models", "match", "path", "header", "penalty",
     "residency", "allow", "from", "to", "rtt", "slots", "scrape", "url", "period", "timeout",
     "drain", "pin", "weight", "min_share", "service", "instance", "base", "slo", "power", "x"]
)  # fmt: skip
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4)
)
SECTIONS = st.dictionaries(
    st.sampled_from(
        ["version", "sites", "models", "services", "instances", "network", "steering", "overrides",
         "envoy", "server"]
    ),
    TREES,
)  # fmt: skip


@given(st.text())
def test_any_text_gives_a_configuration_or_its_faults(text: str) -> None:
    """Nothing but `ConfigError` leaves the parser."""
    assert all(fault.line >= 1 for fault in faults_in(text))


@given(SECTIONS)
def test_any_document_gives_a_configuration_or_its_faults(tree: dict[str, object]) -> None:
    """However wrong the shape, every rule either reads it or passes it by."""
    text = json.dumps(tree).replace("NaN", ".nan").replace("Infinity", ".inf")
    assert all(str(fault).isprintable() for fault in faults_in(text))


@given(st.sampled_from(range(len(FLEET.splitlines()))), st.text(max_size=5))
def test_a_damaged_example_gives_a_configuration_or_its_faults(line: int, damage: str) -> None:
    """A slip of the keyboard anywhere in a good file never ends in a traceback."""
    lines = FLEET.splitlines()
    half = len(lines[line]) // 2
    lines[line] = lines[line][:half] + damage + lines[line][half + 1 :]
    assert all(fault.line <= len(lines) + 6 for fault in faults_in("\n".join(lines)))
