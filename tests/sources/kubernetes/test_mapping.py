"""From objects of the API to instances: what each kind says, and what is missing where it is not."""

from __future__ import annotations

# ruff: noqa: E501 -- a reason is one line, and so it stands here
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import Config, DiscoveryRule, Instance, parse_config
from controlplane.errors import ReportError
from controlplane.sources.kubernetes.gateway_api import (
    parse_gateway,
    parse_inference_pool,
    parse_inference_pool_import,
)
from controlplane.sources.kubernetes.http_routes import parse_http_route
from controlplane.sources.kubernetes.mapping import (
    Mapped,
    Mapper,
)
from controlplane.sources.kubernetes.objects import (
    ENDPOINT_SLICES,
    GATEWAYS,
    INFERENCE_POOLS,
    NODES,
    PODS,
    KubernetesObject,
    parse_endpoint_slice,
    parse_node,
    parse_pod,
)
from controlplane.sources.kubernetes.watches import ZONE, Watch, watches
from testbed.fakes.kubernetes_objects import (
    make_gateway,
    make_http_route,
    make_node,
    make_pod,
    make_pool,
    make_slice,
)


def configured(rule: Mapping[str, Any]) -> tuple[Config, DiscoveryRule]:
    """Return a configuration with one rule, which lacks only what *rule* does not say."""
    keys = {"name": "r", "kind": "pods", **rule}
    if not keys.keys() & {"site", "site_label", "node_label", "site_template"}:
        keys["site"] = "north"
    if "model_label" not in keys:
        keys["model"] = "m"
    document = {
        "version": 1,
        "sites": [
            {"name": "north", "kind": "edge", "zone": "zone-n"},
            {"name": "cloud-1", "kind": "cloud", "zone": "zone-c"},
            {"name": "cloud-2", "kind": "cloud", "zone": "zone-c", "region": "x"},
        ],
        "models": [{"name": "m"}],
        "services": [{"name": "s", "match": [{"path": "/"}], "models": [{"name": "m"}]}],
        "discovery": {"namespace": "models", "rules": [keys]},
    }
    config = parse_config(json.dumps(document), file="f")
    assert config.discovery is not None
    return config, config.discovery.rules[0]


def found(
    rule: Mapping[str, Any], *objects: KubernetesObject, looked_up: tuple[Any, ...] = ()
) -> Mapped:
    """Apply a rule."""
    return Mapper(*configured(rule)).map(objects, looked_up)


def instances(findings: Mapped) -> list[tuple[str, str, str, str]]:
    """Return (name, site, address, model)."""
    return [
        (each.instance.name, each.instance.site, each.instance.address, each.instance.model)
        for each in findings.found
    ]


def reasons(findings: Mapped) -> list[tuple[str, str]]:
    """Return (name, why not)."""
    return [(each.name, each.message) for each in findings.refused]


HTTP = {"http": 8000}


def test_a_ready_pod_is_an_instance() -> None:
    """At its address, with what the rule says of all."""
    findings = found(
        {
            "engine": "vllm", "slots": 32, "service_time": "2s",
            "scrape": {"period": "500ms", "timeout": "500ms"}, "orca": {"port": 9000},
        },
        parse_pod(make_pod("a", "10.0.0.1", ports=HTTP)),
    )  # fmt: skip
    (one,) = findings.found
    instance = one.instance

    assert [("a", "north", "10.0.0.1:8000", "m")] == instances(findings)
    assert ("vllm", 32, 2.0) == (instance.engine, instance.slots, instance.service_time)
    assert instance.scrape is not None
    assert ("http://10.0.0.1:8000/metrics", 0.5) == (instance.scrape.url, instance.scrape.period)
    assert instance.orca is not None
    assert "10.0.0.1:9000" == instance.orca.target(instance.host)


def test_what_a_rule_does_not_say_is_not_said_of_its_instances() -> None:
    """A default would pass for an operator's word; what is not said is learned."""
    pod = parse_pod(make_pod("a", "10.0.0.1", ports=HTTP))
    (bare,), (reported,) = found({}, pod).found, found({"slots": 8, "tls": False}, pod).found

    assert not {"slots", "tls"} & bare.instance.model_fields_set
    assert {"slots", "tls"} <= reported.instance.model_fields_set
    assert (8, False) == (reported.instance.slots, reported.instance.tls)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"ready": False}, id="not ready"),
        pytest.param({"terminating": True}, id="terminating"),
    ],
)
def test_a_pod_that_cannot_serve_is_none_and_is_not_reported(how: dict[str, Any]) -> None:
    """That is how pods come and go."""
    assert Mapped() == found({}, parse_pod(make_pod("a", "10.0.0.1", ports=HTTP, **how)))


@pytest.mark.parametrize(
    ("rule", "ports", "expected"),
    [
        pytest.param(
            {},
            {"http": 1, "grpc": 2},
            "has the ports http, grpc; give port or port_name in the rule",
            id="several",
        ),
        pytest.param({}, {}, "names no port; give port or port_name in the rule", id="none"),
        pytest.param(
            {"port_name": "api"},
            {"http": 1},
            "has no port named 'api'; it has: http",
            id="another name",
        ),
        pytest.param({"port_name": "grpc"}, {"http": 1, "grpc": 2}, 2, id="by its name"),
        pytest.param({"port": 77}, {"http": 1, "grpc": 2}, 77, id="by the rule"),
        pytest.param({}, {"a": 5, "b": 5}, 5, id="one under two names"),
    ],
)
def test_the_port_is_the_rules_or_the_only_one(
    rule: dict[str, Any], ports: dict[str, int], expected: str | int
) -> None:
    """Never a guess among several."""
    findings = found(rule, parse_pod(make_pod("a", "10.0.0.1", ports=ports)))

    if isinstance(expected, int):
        assert [f"10.0.0.1:{expected}"] == [each.instance.address for each in findings.found]
    else:
        assert [("a", expected)] == reasons(findings)


def test_labels_name_site_and_model() -> None:
    """By the site's name, or by the zone that it alone is in."""
    rule = {"site_label": "cats/site", "model_label": "cats/model"}

    def labelled(name: str, **labels: str) -> KubernetesObject:
        full = {f"cats/{key}": value for key, value in labels.items()}
        return parse_pod(make_pod(name, f"10.0.0.{ord(name)}", labels=full, ports=HTTP))

    findings = found(
        rule,
        labelled("a", site="cloud-1", model="m"),
        labelled("b", site="zone-n", model="other"),
        labelled("c", site="zone-c", model="m"),
        labelled("d", site="nowhere", model="m"),
        labelled("e", model="m"),
        labelled("f", site="north"),
    )

    assert [
        ("a", "cloud-1", "10.0.0.97:8000", "m"),
        ("b", "north", "10.0.0.98:8000", "other"),  # whether there is such a model, others check
    ] == instances(findings)
    assert [
        ("c", "no site is named 'zone-c', and the sites cloud-1, cloud-2 share the zone 'zone-c'"),
        ("d", "no site is named 'nowhere', and no site has the zone 'nowhere'"),
        ("e", "it has no label cats/site, which would name its site"),
        ("f", "it has no label cats/model, which would name its model"),
    ] == reasons(findings)


def test_the_node_of_a_pod_names_its_site() -> None:
    """By the label that the rule asks for."""
    nodes = (parse_node(make_node("node-1", {ZONE: "zone-n"})), parse_node(make_node("node-2", {})))
    findings = found(
        {"node_label": ZONE},
        *(
            parse_pod(make_pod(name, f"10.0.0.{number}", node=f"node-{number}", ports=HTTP))
            for number, name in enumerate("abc", 1)
        ),
        looked_up=nodes,
    )

    assert [("a", "north", "10.0.0.1:8000", "m")] == instances(findings)
    assert [
        ("b", f"its node has no label {ZONE}, which would name its site"),
        ("c", "its node node-3 is not known, which would name its site"),
    ] == reasons(findings)


def test_endpoints_of_slices_are_instances_once() -> None:
    """An endpoint in two slices, or in two families, is one; the zone is the slice's own word."""
    rule = {"kind": "endpoint_slices", "node_label": ZONE}
    ready = {"ready": True, "serving": True, "terminating": False}
    draining = {"ready": False, "serving": True, "terminating": True}
    findings = found(
        rule,
        parse_endpoint_slice(make_slice("six", {"a": "fd00::1"}, family="IPv6", zone="zone-n")),
        parse_endpoint_slice(
            make_slice(
                "four", {"a": "10.0.0.1", "b": "10.0.0.2", "c": "10.0.0.3"},
                zone="zone-n", conditions={"a": ready, "b": draining, "c": {}},
            )
        ),
        parse_endpoint_slice(make_slice("twice", {"a": "10.0.0.1"}, zone="zone-n")),
    )  # fmt: skip

    assert [
        ("a", "north", "10.0.0.1:8000", "m"),
        ("c", "north", "10.0.0.3:8000", "m"),
    ] == instances(findings)
    assert () == findings.refused


def test_a_slice_of_names_makes_instances_at_the_names() -> None:
    """They are resolved before Envoys get them; another type of address is rejected."""
    piece = parse_endpoint_slice(make_slice("names", {"d": "D.Example."}, family="FQDN"))
    unnamed = make_slice("more-names", {"d": "e.example"}, family="FQDN")
    del unnamed["endpoints"][0]["targetRef"]
    wrong = parse_endpoint_slice(make_slice("wrong", {"w": "no name"}, family="FQDN"))
    other = parse_endpoint_slice(make_slice("other", {"o": "10.0.0.1"}, family="X"))
    findings = found(
        {"kind": "endpoint_slices"}, piece, parse_endpoint_slice(unnamed), wrong, other
    )

    assert [
        ("d", "north", "d.example:8000", "m"),
        ("e-example", "north", "e.example:8000", "m"),
    ] == instances(findings)
    assert [
        (
            "o",
            (
                "its slice has addresses of the type X, and only IPv4, IPv6 and FQDN are"
                " discovered; list it under instances"
            ),
        ),
        ("w", "has no address"),
    ] == sorted(reasons(findings))


@pytest.mark.parametrize("kind", ["inference_pools", "inference_pool_imports"])
def test_a_pool_is_reached_by_the_name_of_its_gateway(kind: str) -> None:
    """Load balancers of some clouds have no address of their own; an import has no picker."""
    gateway = parse_gateway(make_gateway("gateway", {"gw.example": "Hostname"}))
    pool = make_pool("p")
    if kind == "inference_pool_imports":
        controllers = [{"name": "c/x", "parents": pool.pop("status")["parents"]}]
        pool = {"metadata": pool["metadata"], "status": {"controllers": controllers}}
        read = parse_inference_pool_import(pool)
    else:
        read = parse_inference_pool(pool)
    findings = found({"kind": kind}, read, looked_up=(gateway,))
    refused = found({"kind": kind}, read)
    (about,) = [each.about for each in refused.refused]

    assert [("p", "north", "gw.example:80", "m")] == instances(findings)
    assert about is not None
    assert kind.removeprefix("inference_").removesuffix("s").replace("_", "") == (
        about.kind.removeprefix("Inference").lower()
    )


def test_an_endpoint_without_zone_is_rejected_for_that() -> None:
    """Its node is not read under this rule, and is not to blame."""
    piece = parse_endpoint_slice(make_slice("s", {"a": "10.0.0.1"}))

    assert [
        (
            "a",
            f"its endpoint has no zone, which would name its site; label its node with {ZONE}",
        )
    ] == reasons(found({"kind": "endpoint_slices", "node_label": ZONE}, piece))


def bare_slice(name: str, ip: str, port: int, *, service: str = "vllm") -> KubernetesObject:
    """Return a slice of one endpoint that is no pod."""
    document = make_slice(name, {"x": ip}, ports={"http": port}, service=service)
    del document["endpoints"][0]["targetRef"]
    return parse_endpoint_slice(document)


def test_two_ports_of_one_address_are_two_instances_or_one_rejection() -> None:
    """Never one in silence; `{port}` names both."""
    both = [bare_slice("s-2", "10.0.0.1", 8001), bare_slice("s-1", "10.0.0.1", 8000)]
    one = found({"kind": "endpoint_slices"}, *both)
    two = found({"kind": "endpoint_slices", "instance_name": "{name}-{port}"}, *both)

    assert [("10-0-0-1", "north", "10.0.0.1:8000", "m")] == instances(one)
    assert [
        (
            "10-0-0-1",
            (
                "10.0.0.1:8001 (m at north) of service vllm has the same name as 10.0.0.1:8000"
                " (m at north) of service vllm, which is used; narrow the selector, or add {port} or"
                " {namespace} to instance_name"
            ),
        )
    ] == reasons(one)
    assert ["10-0-0-1-8000", "10-0-0-1-8001"] == [each.instance.name for each in two.found]
    assert () == two.refused


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(4)))
def test_a_pod_behind_two_services_has_one_address_in_every_replica(order: list[int]) -> None:
    """The order in which slices are heard of decides nothing."""
    pieces = [
        parse_endpoint_slice(
            make_slice(name, {"a": "10.0.0.1"}, service=service, ports={"http": port})
        )
        for name, service, port in [
            ("x1", "b", 9000),
            ("x2", "a", 9001),
            ("x3", "c", 8000),
            ("x4", "a", 9001),
        ]
    ]
    findings = found({"kind": "endpoint_slices"}, *(pieces[index] for index in order))

    assert [("a", "north", "10.0.0.1:9001", "m")] == instances(findings)
    assert ["10.0.0.1:8000", "10.0.0.1:9000"] == sorted(
        message.split()[0] for _, message in reasons(findings)
    )


def test_a_native_sidecars_port_counts_by_name_or_alone() -> None:
    """A proxy in front of the engine is an init container that is restarted always."""
    proxied = make_pod("a", "10.0.0.1", ports={"engine": 8200})
    proxied["spec"]["initContainers"] = [
        {
            "name": "proxy",
            "restartPolicy": "Always",
            "ports": [{"name": "api", "containerPort": 8000}],
        },
        {"name": "fetch", "ports": [{"name": "once", "containerPort": 1}]},
    ]
    alone = {**proxied, "spec": {**proxied["spec"], "containers": [{"name": "engine"}]}}

    def address(rule: Mapping[str, Any], document: dict[str, Any]) -> str:
        return found(rule, parse_pod(document)).found[0].instance.address

    assert "10.0.0.1:8200" == address({}, proxied)
    assert "10.0.0.1:8000" == address({"port_name": "api"}, proxied)
    assert "10.0.0.1:8000" == address({}, alone)
    assert [("a", "has no port named 'once'; it has: engine, api")] == reasons(
        found({"port_name": "once"}, parse_pod(proxied))
    )


def test_objects_that_stayed_are_not_read_again() -> None:
    """Thousands stay while one goes; what is looked up counts as well."""
    config, rule = configured({"node_label": ZONE})
    pods = [
        parse_pod(make_pod(f"p{number}", f"10.0.0.{number}", ports=HTTP)) for number in (1, 2, 3)
    ]
    mapper = Mapper(config, rule)
    node = parse_node(make_node("node-1", {ZONE: "zone-n"}))
    first = mapper.map(pods, [node])
    second = mapper.map(pods[1:], [node])
    moved = mapper.map(pods[1:], [parse_node(make_node("node-1", {}))])

    assert ["p1", "p2", "p3"] == [each.instance.name for each in first.found]
    assert all(one is other for one, other in zip(first.found[1:], second.found, strict=True))
    assert () == moved.found
    assert ["p2", "p3"] == [each.name for each in moved.refused]


def test_an_address_of_the_sixth_version_stands_in_brackets() -> None:
    """As the file has it."""
    findings = found(
        {"kind": "endpoint_slices", "scrape": {}},
        parse_endpoint_slice(make_slice("six", {"a": "FD00:0::1"}, family="IPv6")),
    )
    (one,) = findings.found

    assert "[fd00::1]:8000" == one.instance.address
    assert one.instance.scrape is not None
    assert "http://[fd00::1]:8000/metrics" == one.instance.scrape.url


def test_a_pool_is_one_instance_at_its_gateway() -> None:
    """Its metrics are those of its endpoint picker."""
    rule = {"kind": "inference_pools", "namespace": "pools", "scrape": {"path": "/m"}}
    gateway = parse_gateway(
        make_gateway(
            "gateway", {"gw.example": "Hostname", "10.0.0.9": "IPAddress"}, namespace="pools"
        )
    )
    findings = found(
        rule, parse_inference_pool(make_pool("p", namespace="pools")), looked_up=(gateway,)
    )
    (one,) = findings.found

    assert [("p", "north", "10.0.0.9:80", "m")] == instances(findings)
    assert "epp" == one.instance.engine
    assert one.instance.scrape is not None
    assert "http://p-epp.pools.svc:9090/m" == one.instance.scrape.url


@pytest.mark.parametrize(
    ("pool", "gateway", "reason"),
    [
        pytest.param(
            make_pool("p", accepted=False),
            make_gateway("gateway", {}),
            "no Gateway has accepted the pool; see its status.parents",
            id="refused",
        ),
        pytest.param(
            make_pool("p"),
            make_gateway("other", {}),
            "its Gateway default/gateway is not among those read; set gateway_namespace",
            id="elsewhere",
        ),
        pytest.param(
            make_pool("p"),
            make_gateway("gateway", {"*.example": "Hostname"}),
            "its Gateway has no address in its status yet",
            id="no name either",
        ),
    ],
)
def test_a_pool_that_cannot_be_reached_is_refused(
    pool: dict[str, Any], gateway: dict[str, Any], reason: str
) -> None:
    """With where to look."""
    findings = found(
        {"kind": "inference_pools"}, parse_inference_pool(pool), looked_up=(parse_gateway(gateway),)
    )

    assert [("p", reason)] == reasons(findings)


LEADS = {
    "host": make_http_route("r", ["InferencePool/p"], hostnames=["*.x", "p.example"]),
    "path": make_http_route(
        "r", ["InferencePool/p"], matches=[{"path": {"value": "/p/"}}], replaced_prefix="/"
    ),
    "part": make_http_route(
        "r", ["InferencePool/p"], matches=[{"path": {"value": "/p/v1"}}], replaced_prefix="/v1"
    ),
    "kept": make_http_route("r", ["InferencePool/p"], matches=[{"path": {"value": "/v1"}}]),
    "port": make_http_route("r", ["InferencePool/p"], listener="second"),
}


@pytest.mark.parametrize(
    ("route", "expected"),
    [
        ("host", ("p.example", "", 80)),
        ("path", ("", "/p", 80)),
        ("part", ("", "/p", 80)),
        ("kept", ("", "", 80)),
        ("port", ("", "", 81)),
    ],
)
def test_an_http_route_says_how_a_pool_is_reached_at_its_gateway(
    route: str, expected: tuple[str, str, int]
) -> None:
    """By a host, by what it takes off the path again, or by a listener."""
    ports = {"first": 80, "second": 81} if route == "port" else None
    gateway = parse_gateway(make_gateway("gateway", {"10.0.0.9": "IPAddress"}, ports=ports))
    findings = found(
        {"kind": "inference_pools", "http_routes": True},
        parse_inference_pool(make_pool("p")),
        looked_up=(gateway, parse_http_route(LEADS[route])),
    )
    (one,) = findings.found
    behind = one.instance.gateway

    assert expected == (
        behind.host if behind else "", behind.path if behind else "", one.instance.port
    )  # fmt: skip


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (make_http_route("r", ["InferencePool/other"]), "no HTTPRoute of its Gateway"),
        (make_http_route("r", ["InferencePool/p"], namespace="x"), "no HTTPRoute of its Gateway"),
        (make_http_route("r", ["InferencePool/p"], hostnames=["*.x"]), "only hosts below *.x"),
        (make_http_route("r", ["InferencePool/p"], hostnames=["a b"]), "cannot be followed"),
        (
            make_http_route("r", ["InferencePool/p"], matches=[{"method": "POST"}]),
            "asks for a method",
        ),
        (
            make_http_route("r", ["InferencePool/p"], replaced_prefix="/other"),
            "puts /other in place of /;",
        ),
    ],
)
def test_a_pool_that_no_http_route_leads_to_is_refused(route: dict[str, Any], reason: str) -> None:
    """With what keeps it from being used, rather than sent requests for another pool."""
    gateway = parse_gateway(make_gateway("gateway", {"10.0.0.9": "IPAddress"}))
    findings = found(
        {"kind": "inference_pools", "http_routes": True},
        parse_inference_pool(make_pool("p")),
        looked_up=(gateway, parse_http_route(route)),
    )
    ((_, why),) = reasons(findings)

    assert () == findings.found
    assert reason in why


def test_a_pickers_name_is_no_way_to_another_host() -> None:
    """Anyone who may write pools cannot have a token sent elsewhere."""
    pool = make_pool("p")
    pool["spec"]["endpointPickerRef"]["name"] = "evil.example/x#"
    gateway = parse_gateway(make_gateway("gateway", {"10.0.0.9": "IPAddress"}))
    findings = found(
        {"kind": "inference_pools", "scrape": {}}, parse_inference_pool(pool), looked_up=(gateway,)
    )

    assert [("p", "its endpoint picker is not a Service; remove scrape")] == reasons(findings)


def test_a_zone_makes_its_site_unless_the_file_has_one() -> None:
    """A new zone needs no edit; the site of the file, by its zone, goes before."""
    template = {"from": ZONE, "name": "edge-{value}", "kind": "edge", "region": "eu"}
    findings = found(
        {"kind": "endpoint_slices", "site_template": template},
        parse_endpoint_slice(make_slice("new", {"a": "10.0.0.1"}, zone="z/9")),
        parse_endpoint_slice(make_slice("known", {"b": "10.0.0.2"}, zone="zone-n")),
        parse_endpoint_slice(make_slice("none", {"c": "10.0.0.3"})),
    )
    made, known = findings.found

    assert made.site is not None
    assert ("edge-z-9", "edge", "eu", "z/9") == (
        made.site.name, made.site.kind, made.site.region, made.site.zone,
    )  # fmt: skip
    assert "edge-z-9" == made.instance.site
    assert ("north", None) == (known.instance.site, known.site)
    assert [
        ("c", f"neither its node nor it has the label {ZONE}, which would name its site")
    ] == reasons(findings)


def test_sites_of_pods_are_made_of_their_nodes_labels() -> None:
    """Pods do not say where they run."""
    nodes = (parse_node(make_node("node-1", {"rack": "r1"})),)
    findings = found(
        {"site_template": {"from": "rack"}},
        parse_pod(make_pod("a", "10.0.0.1", ports=HTTP)),
        looked_up=nodes,
    )

    assert ["r1"] == [each.instance.site for each in findings.found]


def test_the_hardware_of_a_node_gives_the_priors() -> None:
    """Hardware that is not listed has the rule's."""
    product = "nvidia.com/gpu.product"
    values = {"NVIDIA-L4": {"slots": 16, "service_time": "4s"}, "NVIDIA-H100": {"slots": 64}}
    nodes = [
        parse_node(make_node(f"node-{gpu}", {product: f"NVIDIA-{gpu}"}))
        for gpu in ("L4", "H100", "T4")
    ]
    findings = found(
        {"slots": 8, "service_time": "2s", "priors": {"label": product, "values": values}},
        *(
            parse_pod(make_pod(gpu.lower(), f"10.0.0.{number}", node=f"node-{gpu}", ports=HTTP))
            for number, gpu in enumerate(("H100", "L4", "T4"), 1)
        ),
        looked_up=tuple(nodes),
    )

    assert {"h100": (64, 2.0), "l4": (16, 4.0), "t4": (8, 2.0)} == {
        each.instance.name: (each.instance.slots, each.instance.service_time)
        for each in findings.found
    }


def test_members_of_a_pool_are_instances_at_its_target_ports() -> None:
    """Those that its selector names, in its namespace; the pool's labels count as theirs."""
    rule = {"kind": "inference_pools", "namespace": "pools", "members": True, "model_label": "llm"}
    document = make_pool("p", namespace="pools", labels={"llm": "m"})
    document["spec"]["targetPorts"] = [{"number": 8000}, {"number": 8001}]
    single = parse_inference_pool(make_pool("one", namespace="pools", labels={"llm": "m"}))
    pods = [
        parse_pod(make_pod(name, ip, namespace=namespace, labels={"app": app}))
        for name, ip, namespace, app in [
            ("a", "10.0.0.1", "pools", "p"),
            ("b", "10.0.0.2", "elsewhere", "p"),
            ("c", "10.0.0.3", "pools", "other"),
            ("d", "10.0.0.4", "pools", "one"),
        ]
    ]
    findings = found(rule, *pods, looked_up=(parse_inference_pool(document), single))

    assert [
        ("a-8000", "north", "10.0.0.1:8000", "m"),
        ("a-8001", "north", "10.0.0.1:8001", "m"),
        ("d", "north", "10.0.0.4:8000", "m"),
    ] == instances(findings)
    assert {"generic"} == {each.instance.engine for each in findings.found}
    assert () == findings.refused


def test_a_pod_that_two_pools_claim_is_rejected_with_both_selectors() -> None:
    """The first pool by name keeps it; which selector to narrow is said by what they select."""
    rule = {"kind": "inference_pools", "namespace": "pools", "members": True}
    gold = make_pool("p-gold", namespace="pools")
    gold["spec"] |= {
        "selector": {"matchLabels": {"tier": "gold", "app": "p"}},
        "targetPorts": [{"number": 8001}],
    }
    pools = [parse_inference_pool(each) for each in (gold, make_pool("p", namespace="pools"))]
    labels = {"app": "p", "tier": "gold"}
    pod = parse_pod(make_pod("a", "10.0.0.1", namespace="pools", labels=labels))
    findings = found(rule, pod, looked_up=tuple(pools))

    assert [("a", "north", "10.0.0.1:8000", "m")] == instances(findings)
    [(name, reason)] = reasons(findings)
    assert "a" == name
    assert "pool pools/p, which selects app=p, which is used" in reason
    assert "of pool pools/p-gold, which selects app=p,tier=gold has" in reason


def test_names_are_made_by_the_rule_and_cut_to_what_a_name_may_be() -> None:
    """A cut one keeps its own end, so that two do not become one."""
    long = "x" * 70
    findings = found(
        {"instance_name": "{rule}.{namespace}.{name}"},
        *(
            parse_pod(make_pod(f"{long}{end}", f"10.0.0.{end}", namespace="models", ports=HTTP))
            for end in (1, 2)
        ),
        parse_pod(make_pod("a", "10.0.0.3", namespace="models", ports=HTTP)),
    )
    names = [each.instance.name for each in findings.found]

    assert "r.models.a" == names[0]
    assert 3 == len(set(names))
    assert 63 == max(map(len, names))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param({"selector": "app=x"}, [Watch(PODS, "models", "app=x")], id="pods"),
        pytest.param(
            {"namespaces": ["a", "b"], "node_label": ZONE},
            [Watch(PODS, "a"), Watch(PODS, "b"), Watch(NODES)],
            id="several namespaces",
        ),
        pytest.param({"namespaces": ["*"]}, [Watch(PODS)], id="all namespaces"),
        pytest.param(
            {"node_label": ZONE, "namespace": "n"},
            [Watch(PODS, "n"), Watch(NODES)],
            id="pods by node",
        ),
        pytest.param(
            {"kind": "endpoint_slices", "service": "s", "node_label": ZONE, "selector": "a"},
            [Watch(ENDPOINT_SLICES, "models", "kubernetes.io/service-name=s,a")],
            id="slices know their zone",
        ),
        pytest.param(
            {"kind": "endpoint_slices", "node_label": "rack"},
            [Watch(ENDPOINT_SLICES, "models"), Watch(NODES)],
            id="slices by node",
        ),
        pytest.param(
            {"kind": "inference_pools", "members": True, "selector": "a"},
            [Watch(PODS, "models"), Watch(INFERENCE_POOLS, "models", "a")],
            id="members of pools",
        ),
        pytest.param(
            {"kind": "endpoint_slices", "site_template": {"from": ZONE}},
            [Watch(ENDPOINT_SLICES, "models")],
            id="slices say the zone that makes a site",
        ),
        pytest.param(
            {"site_template": {"from": ZONE}},
            [Watch(PODS, "models"), Watch(NODES)],
            id="pods do not",
        ),
        pytest.param(
            {"kind": "inference_pools", "gateway_namespace": "g"},
            [Watch(INFERENCE_POOLS, "models"), Watch(GATEWAYS, "g")],
            id="pools",
        ),
    ],
)
def test_only_what_a_rule_needs_is_asked_for(rule: dict[str, Any], expected: list[Watch]) -> None:
    """Which is what its role has to allow."""
    assert expected == list(watches(*configured(rule)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 70_000) | st.text(max_size=8) | st.just("10.0.0.1"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "metadata",
                    "name",
                    "labels",
                    "status",
                    "spec",
                    "conditions",
                    "endpoints",
                    "addresses",
                    "ports",
                    "port",
                    "parents",
                    "parentRef",
                    "type",
                    "containers",
                    "namespace",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
WHOLE = st.sampled_from(
    [
        (parse_pod, make_pod("a", "10.0.0.1", ports=HTTP)),
        (parse_endpoint_slice, make_slice("s", {"a": "10.0.0.1"})),
        (parse_gateway, make_gateway("g", {"10.0.0.9": "IPAddress"})),
        (parse_inference_pool, make_pool("p")),
        (parse_node, make_node("n", {ZONE: "z"})),
    ]
)


@settings(max_examples=200, deadline=None)
@given(WHOLE, st.sampled_from(["metadata", "spec", "status", "endpoints", "ports"]), JSON)
def test_whatever_an_object_says_it_is_read_or_refused(
    whole: tuple[Any, dict[str, Any]], key: str, damage: Any
) -> None:
    """And what comes of it passes the door that the file's instances pass."""
    parse, document = whole
    try:
        parsed = parse({**document, key: damage})
    except ReportError:
        return
    gateway = parse_gateway(make_gateway("gateway", {"10.0.0.9": "IPAddress"}))
    for kind in ("pods", "endpoint_slices", "inference_pools"):
        for each in found({"kind": kind}, parsed, looked_up=(gateway,)).found:
            instance = each.instance
            again = Instance(
                name=instance.name,
                site=instance.site,
                address=instance.address,
                model=instance.model,
                engine=instance.engine,
            )
            assert again == instance


def test_a_rejection_names_the_object_that_people_look_at() -> None:
    """The Service of a slice, by its owner; the pod, or the pool."""
    owned = make_slice("vllm-x1", {"a": "d.example"}, family="X", namespace="models")
    owned["metadata"]["ownerReferences"] = [{"kind": "Service", "name": "vllm", "uid": "u-1"}]
    bare = make_slice("by-hand", {"b": "e.example"}, family="X", namespace="models")
    slices = found(
        {"kind": "endpoint_slices"}, parse_endpoint_slice(owned), parse_endpoint_slice(bare)
    )
    pods = found({"port_name": "x"}, parse_pod(make_pod("p", "10.0.0.1", ports=HTTP)))
    pools = found({"kind": "inference_pools"}, parse_inference_pool(make_pool("q", accepted=False)))

    assert [
        ("v1", "Service", "models", "vllm", "u-1"),
        ("discovery.k8s.io/v1", "EndpointSlice", "models", "by-hand", ""),
        ("v1", "Pod", "default", "p", ""),
        ("inference.networking.k8s.io/v1", "InferencePool", "default", "q", ""),
    ] == [
        (about.api_version, about.kind, about.namespace, about.name, about.uid)
        for findings in (slices, pods, pools)
        for each in findings.refused
        if (about := each.about) is not None
    ]
