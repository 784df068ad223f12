"""Rules of discovery in a file: what is read, what is refused, what the rest of the file may say."""

from __future__ import annotations

# ruff: noqa: E501 -- a fault is one line, and so it stands here
import re
from pathlib import Path

import pytest

from controlplane.config import DiscoveryKind, check_config
from controlplane.errors import ConfigError

BASE = """\
version: 1
sites: [{name: north, kind: edge, region: eu}]
models: [{name: m}]
services:
  - {name: chat, match: [{path: /chat}], models: [{name: m}], residency: {allow: [eu]}}
discovery:
  api: {server: "https://10.0.0.1:6443", ca: /ca, token_file: /token}
  namespace: models
  rules:
    - RULE
overrides: [{instance: comes-later, max_share: 20%}]
"""
RULE = "{name: r, kind: pods, site: north, model: m}"


def faults_in(text: str) -> list[str]:
    """Return the faults as ``path: message``, and warnings if there are none."""
    try:
        checked = check_config(text, file="f")
    except ConfigError as error:
        return [f"{fault.path}: {fault.message}" for fault in error.faults]
    return [f"warning {fault.path}: {fault.message}" for fault in checked.warnings]


def test_a_rule_is_read_with_its_defaults() -> None:
    """And what only it can provide is neither missed nor warned about."""
    checked = check_config(BASE.replace("RULE", RULE), file="f")
    discovery = checked.config.discovery

    assert () == checked.warnings
    assert discovery is not None
    (rule,) = discovery.rules
    assert ("models", DiscoveryKind.PODS, "", "{name}") == (
        discovery.namespace, rule.kind, rule.selector, rule.instance_name,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(
            "{name: r, kind: pods, model: m}",
            "discovery.rules[0]: does not say which site its instances are of; give one of site, site_label, node_label, site_template",
            id="no site",
        ),
        pytest.param(
            "{name: r, kind: pods, site: north, node_label: zone, model: m}",
            "discovery.rules[0].node_label: says it twice; keep one of site, node_label",
            id="two sites",
        ),
        pytest.param(
            "{name: r, kind: pods, site: north}",
            "discovery.rules[0]: does not say which model its instances are of; give one of model, model_label",
            id="no model",
        ),
        pytest.param(
            "{name: r, kind: pods, site: nroth, model: m}",
            "discovery.rules[0].site: no site is named 'nroth'; did you mean 'north'?",
            id="an unknown site",
        ),
        pytest.param(
            "{name: r, kind: pod, site: north, model: m}",
            "discovery.rules[0].kind: 'pod' is not one of endpoint_slices, pods, inference_pools, inference_pool_imports; did you mean 'pods'?",
            id="an unknown kind",
        ),
        pytest.param(
            "{name: r, kind: pods, site: north, model: m, service: vllm}",
            "discovery.rules[0].service: means nothing to pods; remove it",
            id="a key of another kind",
        ),
        pytest.param(
            "{name: r, kind: pods, site: north, model: m, port: 80, port_name: http}",
            "discovery.rules[0].port_name: is not asked where port is given; keep one",
            id="a port twice",
        ),
        pytest.param(
            "{name: r, kind: pods, site: north, model: m, scrape: {ca: /ca}}",
            "discovery.rules[0].scrape.ca: is for https; add https: true, or remove it",
            id="an authority for http",
        ),
        pytest.param(
            "{name: r, kind: pods, site: north, model: m, scrape: {period: 1m, timeout: 1s}}",
            "discovery.rules[0].scrape.period: is not shorter than steering.expiry (30s); the instance would be forgotten between two scrapes",
            id="a scrape that is too rare",
        ),
        pytest.param(
            "{name: r, kind: pods, namespace: Models, site: north, model: m}",
            "discovery.rules[0].namespace: 'Models' is not a name in Kubernetes; use small letters, digits and '-', at most 63",
            id="a namespace that cannot be",
        ),
        pytest.param(
            "{name: r, kind: pods, site_label: no label, model: m}",
            "discovery.rules[0].site_label: 'no label' is not the name of a label; write one such as app.kubernetes.io/name",
            id="a label that cannot be",
        ),
        pytest.param(
            "{name: r, kind: pods, site: north, model: m, instance_name: 'x-{pod}'}",
            "discovery.rules[0].instance_name: needs the place {name}, and knows {namespace}, {rule}, {cluster} and {port} beside it",
            id="a name that all would share",
        ),
    ],
)
def test_a_wrong_rule_is_reported_at_its_place(rule: str, expected: str) -> None:
    """With what would be right."""
    assert [expected] == faults_in(BASE.replace("RULE", rule))


def test_the_rules_of_the_how_to_are_valid() -> None:
    """Anyone who copies them starts from something that works."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "discover-in-kubernetes.md"
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    fleet = """\
version: 1
sites: [{name: cloud-1, kind: cloud}]
models: [{name: assistant-70b}]
"""
    head = (
        f"{fleet}services:\n"
        "  - {name: chat, match: [{path: /chat}], models: [{name: assistant-70b}]}\n"
    )

    assert 5 == len(blocks)
    assert [] == faults_in(head + blocks[0])
    assert [] == faults_in(head + blocks[3])
    assert [] == faults_in(fleet + blocks[1] + blocks[0])
    assert [] == faults_in(
        head
        + blocks[2]
        + f"  rules: [{RULE.replace('north', 'cloud-1').replace(' m}', ' assistant-70b}')}]\n"
    )


CLUSTERS = "  clusters: [{name: cloud, kubeconfig: /k}, {name: edge, api: {}}]\n  namespace:"


@pytest.mark.parametrize(
    ("clusters", "rule", "expected"),
    [
        pytest.param(
            CLUSTERS,
            "cluster: egde",
            "discovery.rules[0].cluster: no cluster is named 'egde'; did you mean 'edge'?",
            id="another name",
        ),
        pytest.param(
            "  namespace:",
            "cluster: edge",
            "discovery.rules[0].cluster: names one, and discovery.clusters is empty",
            id="none listed",
        ),
        pytest.param(
            CLUSTERS.replace("api: {}", "api: {}, kubeconfig: /k"),
            "cluster: edge",
            "discovery.clusters[1].kubeconfig: says it twice; keep one of api, kubeconfig",
            id="two places",
        ),
        pytest.param(
            CLUSTERS.replace(", api: {}", ""),
            "cluster: edge",
            "discovery.clusters[1]: does not say where its API is; give api, kubeconfig",
            id="no place",
        ),
        pytest.param(
            CLUSTERS.replace("edge", "cloud"),
            "cluster: cloud",
            "discovery.clusters[1].name: 'cloud' already names the cluster on line 8; choose another",
            id="twice the name",
        ),
        pytest.param(
            CLUSTERS,
            "namespaces: ['*', a]",
            'discovery.rules[0].namespaces: names others beside "*", which is all; keep one',
            id="all and one",
        ),
        pytest.param(
            CLUSTERS,
            "namespace: a, namespaces: [b]",
            "discovery.rules[0].namespaces: is given beside namespace; keep one",
            id="one and several",
        ),
    ],
)
def test_a_wrong_cluster_is_reported_at_its_place(clusters: str, rule: str, expected: str) -> None:
    """With what would be right."""
    text = BASE.replace("  namespace:", clusters).replace("RULE", RULE.replace("}", f", {rule}}}"))

    assert [expected] == faults_in(text)


def test_two_rules_cannot_share_a_name() -> None:
    """Metrics and events distinguish them by it."""
    text = BASE.replace("RULE", f"{RULE}\n    - {RULE}")

    assert [
        "discovery.rules[1].name: 'r' already names the rule on line 10; choose another"
    ] == faults_in(text)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{}", "http_routes[0]: does not say where they lead; give pool, service"),
        ("{pool: p, service: s}", "http_routes[0].service: says it twice; keep one of pool, serv"),
        ("{pool: p, cluster: c}", "http_routes[0].cluster: names one, and discovery.clusters is"),
        (
            "{pool: p, route_namespaces: [a, '*']}",
            "http_routes[0].route_namespaces: names others beside",
        ),
        ("{pool: 'P!'}", "http_routes[0].pool: "),
    ],
)
def test_a_source_of_matches_says_where_its_routes_lead(source: str, expected: str) -> None:
    """To one pool or Service, in a cluster that there is."""
    text = BASE.replace("RULE", RULE)
    assert "match: [{path: /chat}]" in text
    (fault,) = faults_in(text.replace("match: [{path: /chat}]", f"http_routes: [{source}]"))

    assert fault.startswith(f"services[0].{expected}")


def test_a_token_is_not_sent_in_the_clear() -> None:
    """But to loopback, where kubectl proxy listens."""
    plain = BASE.replace("RULE", RULE).replace("https://10.0.0.1", "http://10.0.0.1")

    (fault,) = faults_in(plain)
    assert "sends the token in the clear; write https, or http to loopback only" in fault
    assert [] == faults_in(plain.replace("10.0.0.1", "127.0.0.1"))


def bare(discovery: str, source: str) -> str:
    """Return a fleet of one instance whose service takes its matches from *source*."""
    return f"""version: 1
sites: [{{name: north, kind: edge}}]
models: [{{name: m}}]
services: [{{name: chat, {source}, models: [{{name: m}}]}}]
instances: [{{name: i, site: north, address: "10.0.0.1:8000", models: [m]}}]
discovery: {discovery}
"""


@pytest.mark.parametrize("discovery", ["{rules: []}", "{namespace: models}"])
def test_discovery_that_looks_for_nothing_is_a_fault_and_routes_are_something(
    discovery: str,
) -> None:
    """Services may take their matches from HTTPRoutes where the file lists all instances."""
    assert [] == faults_in(bare(discovery, "http_routes: [{service: chat}]"))
    (fault,) = faults_in(bare(discovery, "match: [{path: /chat}]"))
    assert "looks for nothing; give at least 1 rule, or http_routes to a service" in fault


def test_without_rules_a_missing_instance_is_still_a_fault() -> None:
    """Only what can still come is waited for."""
    head, _, tail = BASE.partition("discovery:")
    text = head + tail[tail.index("overrides") :]

    assert [
        "overrides[0].instance: no instance is named 'comes-later'; instances is empty"
    ] == faults_in(text)
