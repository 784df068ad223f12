"""The route table."""

from __future__ import annotations

from typing import Any

import pytest
from envoy_data_plane.envoy.config.route.v3 import Route, VirtualHost
from envoy_data_plane.envoy.type.v3 import Int64Range

from controlplane.config import Config
from controlplane.resources import names
from controlplane.resources.route_matches import in_order, reads_model
from controlplane.resources.routes import build_routes
from testbed.fakes.fleets import make_config


def config_of(*matches: dict[str, Any], **more: Any) -> Config:
    """Return each match a service of its own: s0, s1, ..."""
    return make_config(
        services=[
            {"name": f"s{number}", "match": [match], "models": [{"name": "m"}], **more}
            for number, match in enumerate(matches)
        ]
    )


def _of_service(host: VirtualHost) -> list[Route]:
    return [
        route
        for route in host.routes
        if route.name != names.NO_SERVICE and not _is_preflight(route)
    ]


def _is_preflight(route: Route) -> bool:
    assert route.match is not None
    return any(header.name == ":method" for header in route.match.headers)


def test_the_most_specific_match_comes_first() -> None:
    """Whatever the order in the file; between equals that order decides."""
    config = config_of(
        {"header": {"x-a": "1"}},
        {"path": "/v1/*"},
        {"path": "/v1/chat/*"},
        {"path": "/v1/chat"},
        {"path": "/v1/chat", "model": "big"},
        {"path": "/v1/chat", "header": {"x-a": "1"}},
        {"header": {"x-b": "1"}},
        {"model": "big"},
    )
    want = ["s4", "s5", "s3", "s2", "s1", "s7", "s0", "s6"]
    assert want == [service.name for service, _ in in_order(config)]
    (host,) = build_routes(config).virtual_hosts
    assert want == [route.name for route in _of_service(host)]
    assert names.NO_SERVICE == host.routes[-1].name


def test_a_class_of_lengths_comes_before_the_rest_of_its_path() -> None:
    """The narrower first; a header then decides between equals."""
    config = config_of(
        {"path": "/v1/chat"},
        {"path": "/v1/chat", "body_size": {"least": "8kB"}},
        {"path": "/v1/chat", "body_size": {"least": "8kB", "below": "64kB"}},
        {"path": "/v1/chat", "model": "big"},
    )
    assert ["s3", "s2", "s1", "s0"] == [service.name for service, _ in in_order(config)]
    (host,) = build_routes(config).virtual_hosts
    routes = {route.name: route for route in _of_service(host)}
    match = routes["s2"].match
    assert match is not None
    (length,) = match.headers
    assert ("content-length", Int64Range(start=8_000, end=64_000)) == (
        length.name,
        length.range_match,
    )
    preflights = [route for route in host.routes if _is_preflight(route)]
    assert all(
        header.name != "content-length"
        for route in preflights
        for header in (route.match.headers if route.match else ())
    )


def test_only_requests_that_a_match_on_the_model_competes_for_are_read() -> None:
    """A path without such a match is streamed; the routes that read come behind these matches."""
    config = config_of(
        {"path": "/v1/chat", "model": "big"},
        {"path": "/v1/chat", "model": "small"},
        {"path": "/v1/chat"},
        {"path": "/v1/images"},
        {"path": "/v2/*", "model": "big", "header": {"x-a": "1"}},
    )
    (host,) = build_routes(config).virtual_hosts
    reading = [route for route in host.routes if route.typed_per_filter_config]
    assert ["/v1/chat", "/v1/chat", "/v2/", "/v2/"] == [
        route.match.path or route.match.prefix for route in reading if route.match
    ]
    order = [
        route.name
        for route in host.routes
        if route.match and route.match.path == "/v1/chat" and not _is_preflight(route)
    ]
    assert ["s0", "s1", *[names.NO_SERVICE] * 4, "s2"] == order
    for route in reading:
        assert route.match is not None
        assert route.match.dynamic_metadata[0].invert


def test_all_fields_of_a_match_are_conditions() -> None:
    """Path, headers in lower case, and the model in the metadata of the body."""
    config = config_of({"path": "/v1/*", "model": "big", "header": {"X-B": "2", "x-a": "1"}})
    (host,) = build_routes(config).virtual_hosts
    match = _of_service(host)[0].match
    assert match is not None
    assert "/v1/" == match.prefix
    assert [("x-a", "1"), ("x-b", "2")] == [
        (header.name, header.string_match and header.string_match.exact) for header in match.headers
    ]
    (metadata,) = match.dynamic_metadata
    assert (names.BODY_METADATA, ["model"]) == (
        metadata.filter,
        [segment.key for segment in metadata.path],
    )
    assert reads_model(config)
    assert not reads_model(config_of({"path": "/v1"}))


@pytest.mark.parametrize(
    ("fields", "seconds", "waits_on"),
    [
        ({}, 60.0, True),
        ({"idle_timeout": "20m"}, 240.0, True),
        ({"idle_timeout": "0s"}, None, False),
        ({"slo": {"latency": "4s"}}, 40.0, True),
        ({"slo": {"ttft": "500ms"}}, 5.0, False),
        ({"slo": {"ttft": "500ms", "latency": "4s"}}, 8.0, False),
        ({"slo": {"ttft": "500ms"}, "first_byte": "2s"}, 2.0, False),
        ({"slo": {"ttft": "500ms"}, "first_byte": "0s"}, None, False),
        ({"first_byte": "2s"}, 2.0, False),
    ],
)
def test_the_wait_for_a_first_byte_comes_from_the_promise(
    fields: dict[str, Any], seconds: float | None, waits_on: bool
) -> None:
    """Ten times the promised time to a first token, and twice that to a whole answer.

    Where nothing says how long an answer may take to begin, the attempt goes on beside the next.
    """
    (host,) = build_routes(config_of({"path": "/a"}, **fields)).virtual_hosts
    action = _of_service(host)[0].route
    assert action is not None
    assert action.retry_policy is not None
    limit = action.retry_policy.per_try_timeout
    assert seconds == (None if limit is None else limit.total_seconds())
    assert waits_on == (action.hedge_policy is not None)


def test_a_service_without_a_limit_has_none() -> None:
    """Zero is sent; nothing sent would be Envoy's 15 s."""
    (host,) = build_routes(config_of({"path": "/a"})).virtual_hosts
    action = _of_service(host)[0].route
    assert action is not None
    assert action.timeout is not None
    assert action.idle_timeout is not None
    assert (0.0, 300.0) == (action.timeout.total_seconds(), action.idle_timeout.total_seconds())


@pytest.mark.parametrize("fallback", [True, False])
def test_only_the_last_retry_may_go_to_the_fallback(fallback: bool) -> None:
    """And only where there is one; every retry avoids who was tried."""
    config = config_of({"path": "/a"})
    (host,) = build_routes(config, with_fallback={"s0"} if fallback else ()).virtual_hosts
    action = _of_service(host)[0].route
    assert action is not None
    policy = action.retry_policy
    assert policy is not None
    assert ["envoy.retry_host_predicates.previous_hosts"] == [
        predicate.name for predicate in policy.retry_host_predicate
    ]
    assert fallback == (policy.retry_priority is not None)


def test_no_attempts_is_no_retry_policy() -> None:
    """Retries can be switched off."""
    config = make_config(envoy={"retries": {"attempts": 0}})
    (host,) = build_routes(config).virtual_hosts
    action = _of_service(host)[0].route
    assert action is not None
    assert action.retry_policy is None


def test_response_headers_can_be_switched_off() -> None:
    """Then an instance's own are removed, too: no one can forge them."""
    on = build_routes(make_config())
    off = build_routes(make_config(envoy={"response_headers": False}))
    ours = [names.HEADER_INSTANCE, names.HEADER_SITE, names.HEADER_MODEL]
    assert ours == [each.header.key for each in on.response_headers_to_add if each.header]
    assert [] == off.response_headers_to_add
    assert ours == off.response_headers_to_remove
    assert ours == on.request_headers_to_remove == off.request_headers_to_remove
