"""From HTTPRoutes to the matches of a service, of whatever shape they are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config import Config, DiscoveredMatch, HttpRouteSource, parse_config
from controlplane.config.merge import route_sources
from controlplane.errors import ReportError
from controlplane.sources.kubernetes.http_routes import HttpRoute, parse_http_route
from controlplane.sources.kubernetes.matches import map_routes, source_watches
from controlplane.sources.kubernetes.objects import HTTP_ROUTES
from controlplane.sources.kubernetes.watches import Watch
from testbed.fakes.kubernetes_objects import make_http_route

POOL = ["InferencePool/llm"]


def configured(source: dict[str, Any]) -> tuple[Config, HttpRouteSource]:
    """Return a fleet whose service has its matches from *source*."""
    document = {
        "version": 1,
        "sites": [{"name": "s", "kind": "edge"}],
        "models": [{"name": "m"}],
        "services": [{"name": "chat", "http_routes": [source], "models": [{"name": "m"}]}],
        "discovery": {
            "clusters": [{"name": "edge", "api": {"server": "https://10.0.0.1"}}],
            "rules": [{"name": "r", "kind": "pods", "site": "s", "model": "m"}],
        },
    }
    config = parse_config(json.dumps(document), file="fleet.yaml")
    ((_, _, parsed),) = route_sources(config)
    return config, parsed


def matches(*documents: dict[str, Any], **source: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what the routes say of the pool ``llm``, and why some of it is refused."""
    config, parsed = configured({"pool": "llm"} | source)
    routes = [parse_http_route(each) for each in documents]
    found, refused = map_routes(config, "http_routes/chat", "chat", parsed, routes)
    shown = [each.match.model_dump(exclude_none=True, exclude_defaults=True) for each in found]
    return shown, [each.message for each in refused]


def prefix(value: str) -> dict[str, Any]:
    """Return a match of a path's first elements."""
    return {"path": {"type": "PathPrefix", "value": value}}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([], [{"path": "/*"}]),
        ([{}], [{"path": "/*"}]),
        ([prefix("/")], [{"path": "/*"}]),
        ([prefix("/v1")], [{"path": "/v1"}, {"path": "/v1/*"}]),
        ([prefix("/v1/")], [{"path": "/v1"}, {"path": "/v1/*"}]),
        ([{"path": {"value": "/v1"}}], [{"path": "/v1"}, {"path": "/v1/*"}]),
        ([{"path": {"type": "Exact", "value": "/v1"}}], [{"path": "/v1"}]),
        (
            [
                {
                    "path": {"type": "Exact", "value": "/"},
                    "headers": [{"name": "X-A", "value": "b"}, {"name": "x-a", "value": "c"}],
                }
            ],
            [{"path": "/", "header": {"x-a": "b"}}],
        ),
    ],
)
def test_an_http_route_says_which_requests_are_a_services(
    asked: list[dict[str, Any]], expected: list[dict[str, Any]]
) -> None:
    """By whole elements of the path, as the Gateway API has it; of several headers the first."""
    assert (expected, []) == matches(make_http_route("r", POOL, matches=asked))


def test_host_names_are_asked_unless_the_source_leaves_them_out() -> None:
    """Each of them, also those below a name."""
    route = make_http_route("r", POOL, hostnames=["Chat.Example", "*.llm.example"])
    said, refused = matches(route)
    alone, _ = matches(route, hostnames=False)

    assert ["chat.example", "*.llm.example"] == [each["host"] for each in said]
    assert [] == refused
    assert [{"path": "/*"}] == alone


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"path": {"type": "RegularExpression", "value": "/v[12]"}}, "of the type RegularExpr"),
        ({"method": "POST"}, "a method"),
        ({"queryParams": [{"name": "q", "value": "1"}]}, "query parameters"),
        ({"headers": [{"type": "RegularExpression", "name": "a", "value": "."}]}, "by a regular"),
        ({"headers": [{"name": "a b", "value": "c"}]}, "no request can have"),
        ({"headers": [{"name": "a"}]}, "without a value"),
        ({"path": {"type": "Exact", "value": "/a*"}}, "with '*'"),
        ({"path": {"type": "Exact", "value": "/a//b"}}, "no request can have"),
        ({"path": {"value": 7}}, "a path that is none"),
    ],
)
def test_what_a_match_cannot_say_is_refused_with_its_reason(
    asked: dict[str, Any], reason: str
) -> None:
    """Rather than taken for more requests than were meant; the route's other matches count."""
    said, refused = matches(make_http_route("r", POOL, matches=[asked, prefix("/")]))

    assert [{"path": "/*"}] == said
    assert 1 == len(refused)
    assert reason in refused[0]


def test_only_routes_that_lead_there_count() -> None:
    """To this pool, in its namespace, with a weight; a Service of its name is another thing."""
    idle = make_http_route("idle", POOL)
    idle["spec"]["rules"][0]["backendRefs"][0]["weight"] = 0
    leaving = make_http_route("leaving", POOL)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    foreign = make_http_route("foreign", POOL)
    foreign["spec"]["rules"][0]["backendRefs"][0]["group"] = "example.com"
    others = [
        make_http_route("a", ["Service/llm"]),
        make_http_route("b", ["InferencePool/other"]),
        make_http_route("c", POOL, namespace="elsewhere"),
    ]
    across = make_http_route("d", POOL, namespace="apps", matches=[prefix("/d")])
    across["spec"]["rules"][0]["backendRefs"][0]["namespace"] = "default"

    assert ([], []) == matches(idle, leaving, foreign, *others)
    assert 2 == len(matches(idle, leaving, foreign, *others, across)[0])


def test_only_the_namespaces_of_a_source_are_followed() -> None:
    """Its own, those that it lists, or all at once."""
    for source, expected in (
        ({"service": "vllm", "cluster": "edge"}, ["default"]),
        ({"pool": "llm.v1", "namespace": "models"}, ["models"]),
        ({"pool": "p", "namespace": "models", "route_namespaces": ["a", "b"]}, ["a", "b"]),
        ({"pool": "p", "route_namespaces": ["*"]}, [""]),
    ):
        config, parsed = configured(source)
        assert tuple(Watch(HTTP_ROUTES, each) for each in expected) == source_watches(
            config, parsed
        )


def test_the_order_in_which_routes_come_decides_nothing() -> None:
    """Replicas hear of them in different orders."""
    config, parsed = configured({"pool": "llm"})
    routes = [parse_http_route(make_http_route(f"r{i}", POOL, matches=[prefix(f"/{i}")]))
              for i in range(4)]  # fmt: skip

    def found(order: list[HttpRoute]) -> tuple[DiscoveredMatch, ...]:
        return map_routes(config, "http_routes/chat", "chat", parsed, order)[0]

    assert found(routes) == found(routes[::-1])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                (
                    "metadata",
                    "name",
                    "namespace",
                    "spec",
                    "rules",
                    "matches",
                    "path",
                    "type",
                    "value",
                    "headers",
                    "backendRefs",
                    "kind",
                    "group",
                    "weight",
                    "hostnames",
                    "parentRefs",
                    "filters",
                    "urlRewrite",
                )
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(JSON, st.lists(JSON, max_size=3), st.lists(st.text(max_size=12), max_size=3))
def test_any_document_is_read_or_refused(document: Any, asked: list[Any], hosts: list[str]) -> None:
    """Nothing else happens, whatever it says."""
    route = make_http_route("r", POOL, hostnames=hosts)
    route["spec"]["rules"][0]["matches"] = asked
    matches(route)
    try:
        parse_http_route(document)
    except ReportError:
        return
