"""Each key of ``fleet.yaml`` changes something: ``every_key.yaml`` says what, and it is so.

A key of the schema without a row fails, as does a row whose key changes nothing where it says.
"""

from __future__ import annotations

# ruff: noqa: E501 -- an instance and a report are one line each
import ast
import copy
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.admin_api.documents import encode_fleet, encode_overrides
from controlplane.admin_api.overview import encode_overview
from controlplane.admin_api.plan_documents import encode_explanation, encode_plan
from controlplane.auth.agent_rights import AgentGate
from controlplane.auth.identity import IdentityCheck
from controlplane.config import Config, Role, check_config, config_schema, parse_config
from controlplane.controller.config_changes import ConfigStatus
from controlplane.errors import ConfigError, IdentityError
from controlplane.fleet import FleetState
from controlplane.resources import bootstrap, file_secrets
from controlplane.resources.build import SnapshotBuilder
from controlplane.sources.kubernetes.gateway_api import parse_gateway, parse_inference_pool
from controlplane.sources.kubernetes.mapping import Mapper
from controlplane.sources.kubernetes.objects import (
    KubernetesObject,
    parse_endpoint_slice,
    parse_node,
    parse_pod,
)
from controlplane.sources.kubernetes.watches import watches
from controlplane.steering import Steering
from controlplane.steering.plan import Plan
from controlplane.telemetry import parse_metrics
from controlplane.telemetry.engines.custom import build_dialects
from controlplane.telemetry.report_file import parse_reports
from testbed.fakes.kubernetes_objects import (
    make_gateway,
    make_node,
    make_pod,
    make_pool,
    make_slice,
)

ROOT = Path(__file__).parents[2]
Row = str | list[Any]
ROWS: Mapping[str, Mapping[str, Row]] = yaml.safe_load(
    Path(__file__).with_name("every_key.yaml").read_text()
)
BASE: dict[str, Any] = yaml.safe_load("""
version: 1
sites:
  - {name: cloud, kind: cloud, region: eu, power: {price: 0.3, carbon: 300}}
  - {name: edge, kind: edge, region: eu}
  - {name: phones, kind: device}
models: [{name: large}, {name: small, base: large}, {name: painter}]
services:
  - {name: chat, match: [{path: /chat}], models: [{name: large}, {name: small, penalty: 300ms}]}
  - {name: batch, match: [{path: /batch}], models: [{name: large}, {name: painter}], delay: tolerant}
instances:
  - {name: c1, site: cloud, address: "10.0.0.1:80", model: large}
  - {name: e1, site: edge, address: "10.0.0.2:80", model: small}
  - {name: e2, site: edge, address: "10.0.0.3:80", model: small}
  - {name: e3, site: edge, address: "10.0.0.4:80", model: small}
  - {name: w1, site: cloud, address: "10.0.0.5:80", model: painter}
telemetry: {dialects: {own: {running: own_running}}}
discovery:
  rules: [{name: r, kind: endpoint_slices, site: edge, model: small, port_name: http}]
server:
  tls: {cert: /cert.pem, key: /key.pem, client_ca: /clients.pem}
  agents: [{name: agent, sites: [edge]}]
""")
REPORTS = """
version: 1
reports:
  - {from: edge, service: chat, rate: 4}
  - {from: phones, service: chat, rate: 2}
  - {from: cloud, service: batch, rate: 1}
  - {site: phones, battery: 50%}
  - {instance: c1, signals: {running: 3, waiting: 0, completed: 0, latency_sum: 0, latency_count: 0}}
  - {instance: e1, signals: {running: 1, waiting: 0, completed: 0, latency_sum: 0, latency_count: 0}}
  - {instance: c1, at: 1s, signals: {running: 3, waiting: 0, completed: 4, latency_sum: 4, latency_count: 4}}
  - {instance: e1, at: 1s, signals: {running: 1, waiting: 0, completed: 4, latency_sum: 2, latency_count: 4}}
  - {instance: e2, at: 4s, signals: {running: 0, waiting: 0}}
"""
PAGE = """
own_running{part="a"} 3
own_running{part="b"} 2
own_waiting 4
own_share 0.5
own_watts 200
own_total 17
own_seconds_sum 12
own_seconds_count 6
own_ready 0
vllm:num_requests_waiting 9
"""
END = 5.0
"""Seconds after the first report, when what is decided is looked at."""
LABELS = {"tier": "cloud", "where": "edge", "runs": "large"}


def write(document: Mapping[str, Any]) -> str:
    """Return a fleet as its file."""
    return json.dumps(document)


@cache
def read(text: str) -> Config:
    """Return the configuration."""
    return parse_config(text, file="fleet.yaml")


@cache
def decided(text: str) -> tuple[FleetState, Plan, Steering]:
    """Return the fleet, what is decided on the reports, and what explains it."""
    config = read(text)
    fleet, steering = FleetState(config, now=0.0), Steering(config)
    known = {each.name for kind in (config.services, config.instances) for each in kind}
    plan = None
    for at in (0.0, 1.0, 4.0, END):
        for report in parse_reports(REPORTS, file="reports.yaml"):
            named = {getattr(report, key, "") for key in ("service", "instance")} - {""}
            if report.at == at and named <= known:
                fleet.apply(report, now=at)
        plan = steering.decide(fleet.view(now=at))
    assert plan is not None
    return fleet, plan, steering


def see_plan(text: str) -> object:
    """Return what ``cats plan`` prints."""
    _, plan, steering = decided(text)
    shown = [encode_explanation(plan, each, epoch=0.0) for each in steering.explain_all().values()]
    return encode_plan(plan, epoch=0.0), shown


def see_resources(text: str) -> object:
    """Return every view's snapshot."""
    return dict(SnapshotBuilder(read(text)).build(decided(text)[1]))


def see_bootstrap(text: str) -> object:
    """Return an Envoy's first configuration and the files beside it."""
    config = read(text)
    tls = config.envoy.instance_tls
    return (
        bootstrap.build_bootstrap(config, site="edge", envoy_id="e", xds=("cats", 18000)),
        tls and file_secrets.build_instance_secrets(tls),
        file_secrets.build_credential_secrets(config),
    )


def see_answers(text: str) -> object:
    """Return documents of the API."""
    fleet, plan, _ = decided(text)
    view, status = fleet.view(now=END), ConfigStatus("fleet.yaml", "v1", 0.0)
    overview = encode_overview(view, plan, epoch=0.0, status=status, envoys=[], versions={})
    return encode_fleet(view, epoch=0.0), overview, encode_overrides(view.config, ())


def see_warnings(text: str) -> object:
    """Return what ``cats check`` warns of."""
    return check_config(text, file="fleet.yaml").warnings


def see_refusal(text: str) -> object:
    """Return the errors of a file that is not taken."""
    try:
        parse_config(text, file="fleet.yaml")
    except ConfigError as error:
        return str(error)
    return None


def see_discovery(text: str) -> object:
    """Return what is followed for the first rule, and what it makes of the objects there."""
    config = read(text)
    assert config.discovery is not None
    rule = config.discovery.rules[0]
    ports = {"http": 8000, "admin": 8001}
    pod = make_pod("p", "10.1.0.1", ports=ports, labels=LABELS)
    slices = make_slice("s", {"p": "10.1.0.1"}, ports=ports, zone="zone-1", labels=LABELS)
    node = make_node("node-1", {"gpu": "l4", "topology.kubernetes.io/zone": "zone-1", **LABELS})
    gate = make_gateway("gateway", {"10.1.0.9": "IPAddress"})
    objects: dict[str, KubernetesObject] = {
        "pods": parse_pod(pod),
        "endpoint_slices": parse_endpoint_slice(slices),
        "inference_pools": parse_inference_pool(make_pool("q", labels=LABELS)),
    }
    looked_up = (parse_node(node), parse_gateway(gate))
    return watches(config, rule), Mapper(config, rule).map([objects[rule.kind]], looked_up)


def see_readings(text: str) -> object:
    """Return what is read from a page of metrics."""
    dialects = build_dialects(read(text).telemetry.dialects)
    return parse_metrics(PAGE, engine="own", instance="e1", at=0.0, dialects=dialects)


def see_rights(text: str) -> object:
    """Return which agents may report what, and which certificates admit whom."""
    config = read(text)
    return list(_agents(config)), list(_certificates(config))


def _agents(config: Config) -> Iterator[object]:
    gate = AgentGate(config, enforced=True)
    for name in ("agent", "other"):
        try:
            yield gate.scope(name, "edge")
        except IdentityError as error:
            yield str(error)


def _certificates(config: Config) -> Iterator[object]:
    check = IdentityCheck(config.server.identities, enforced=True)
    for san in ("spiffe://fleet/edge", "spiffe://other/edge"):
        for role in Role:
            for site in ("edge", "cloud"):
                try:
                    check.check((san,), role, id="x", site=site)
                except IdentityError:
                    continue
                yield san, role, site


FACETS: Mapping[str, Callable[[str], object]] = {
    "plan": see_plan,
    "resources": see_resources,
    "bootstrap": see_bootstrap,
    "answers": see_answers,
    "warnings": see_warnings,
    "refused": see_refusal,
    "discovery": see_discovery,
    "readings": see_readings,
    "rights": see_rights,
}


@cache
def see(facet: str, text: str) -> object:
    """Return a facet of a fleet: of one that many rows share, once."""
    return FACETS[facet](text)


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Set what is at *path*, through lists by number; None leaves it out."""
    *way, last = path.split(".")
    place: Any = document
    for step in way:
        place = place[int(step)] if step.isdecimal() else place.setdefault(step, {})
    if isinstance(place, list) and value is None:
        del place[int(last)]
    elif isinstance(place, list):
        place[int(last)] = value
    elif value is None:
        place.pop(last, None)
    else:
        place[last] = value


def keys() -> Iterator[tuple[str, str]]:
    """Return each section and key of the schema."""
    schema = config_schema()
    for section, node in (("Config", schema), *schema["$defs"].items()):
        for key in node.get("properties", {}):
            yield section, key


def rows(*, observed: bool) -> list[Any]:
    """Return the rows that are tried here, or those that name another test."""
    return [
        pytest.param(key, row, id=f"{section}.{key}")
        for section, its in ROWS.items()
        for key, row in its.items()
        if isinstance(row, list) is observed
    ]


def test_each_key_has_a_row() -> None:
    """A new key says what it changes, and no row speaks of a key that is gone."""
    assert sorted(keys()) == sorted((section, key) for section in ROWS for key in ROWS[section])


@pytest.mark.parametrize("facet", FACETS)
def test_a_facet_changes_with_the_fleet_alone(facet: str) -> None:
    """Seen twice it is the same, and what decides nothing does not change the plan."""
    idle = copy.deepcopy(BASE)
    put(idle, "sites.0.coordinates", [52.5, 13.4])
    put(idle, "services.0.task", "vision")

    assert FACETS[facet](write(BASE)) == see(facet, write(BASE))
    assert see("plan", write(idle)) == see("plan", write(BASE))


@pytest.mark.parametrize(("key", "row"), rows(observed=True))
def test_a_key_changes_what_its_row_says(key: str, row: list[Any]) -> None:
    """The fleet with it and the fleet without it differ there."""
    facet, path, value, *given = row
    before = copy.deepcopy(BASE)
    for place, what in (given[0] if given else {}).items():
        put(before, place, copy.deepcopy(what))
    after = copy.deepcopy(before)
    put(after, path, value)
    assert key in path.split(".") or key in str(value)

    was, now = see(facet, write(before)), see(facet, write(after))

    assert was != now


TESTS = (ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize(("key", "row"), rows(observed=False))
def test_a_row_names_a_test_of_its_key(key: str, row: str) -> None:
    """It exists, and its file speaks of the key."""
    file, _, name = row.partition("::")
    source = (ROOT / file).read_text()
    tree = ast.parse(source)
    tests = {each.name for each in tree.body if isinstance(each, TESTS)}
    for group in (each for each in tree.body if isinstance(each, ast.ClassDef)):
        tests |= {f"{group.name}::{each.name}" for each in group.body if isinstance(each, TESTS)}

    assert not name or name in tests
    assert key in source
