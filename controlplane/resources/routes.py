"""Which requests belong to which service: the route table that Envoy classifies by.

A site's table differs from another's only where it has a fallback of its own: a device's local
model, to which the last retry may go.
Most specific first (`route_matches`), so that the order of services in the file decides only
between equals.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from math import ceil

from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Metadata,
)
from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    HedgePolicy,
    Route,
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    RouteActionHashPolicy,
    RouteActionHashPolicyCookie,
    RouteActionHashPolicyHeader,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.config import Affinity, Config, Match, Protocol, Service
from controlplane.config.eligibility import may_serve
from controlplane.config.serving import protocol_of, rewrites_model
from controlplane.resources import names
from controlplane.resources.bodies import (
    content_type,
    inflating,
    names_none,
    not_read_yet,
    switched_on,
    unknown_encoding,
    unreadable,
)
from controlplane.resources.direct_responses import (
    LONGEST_LIST,
    build_bad_body_route,
    build_model_list_routes,
    build_sentence,
)
from controlplane.resources.https import injected_headers
from controlplane.resources.packing import seconds
from controlplane.resources.retries import build_retry_policy
from controlplane.resources.route_matches import build_route_match, in_order, reads_model

_HEADERS = {
    names.HEADER_INSTANCE: names.METADATA_INSTANCE,
    names.HEADER_SITE: names.METADATA_SITE,
    names.HEADER_MODEL: names.METADATA_MODEL,
}
"""Response header -> key of the endpoint's metadata."""


def build_routes(
    config: Config,
    *,
    with_fallback: Collection[str] = (),
    on_device: Collection[str] = (),
    available: Collection[str] | None = None,
) -> RouteConfiguration:
    """Build the route table.

    Args:
        config: the whole configuration.
        with_fallback: services that have endpoints of a lower priority at this client site.
        on_device: services that an own model of this client site, a device, serves.
        available: services that have endpoints there; by default all.
    """
    return RouteConfiguration(
        name=names.ROUTES,
        virtual_hosts=[
            VirtualHost(
                name=names.ROUTES,
                domains=["*"],
                # Bounds what is buffered to read the model, and what is kept for a retry.
                request_body_buffer_limit=round(config.envoy.max_body),
                routes=[
                    build_bad_body_route(
                        unreadable(),
                        "the body is not valid JSON in UTF-8, or inflates more than a hundredfold,"
                        " so the model that it names cannot be read",
                    ),
                    *build_model_list_routes(config, available),
                    *_service_routes(config, with_fallback, on_device),
                    build_bad_body_route(
                        names_none(),
                        "the body names no model, or cannot be inflated, and no service takes"
                        " such a request",
                    ),
                    _no_service(config),
                ],
            )
        ],
        max_direct_response_body_size_bytes=LONGEST_LIST,
        request_headers_to_remove=[*_HEADERS, *injected_headers(config)],
        response_headers_to_add=_response_headers() if config.envoy.response_headers else [],
        response_headers_to_remove=[] if config.envoy.response_headers else list(_HEADERS),
    )


def _service_routes(
    config: Config, with_fallback: Collection[str], on_device: Collection[str]
) -> Iterator[Route]:
    """Build the services' routes, and behind matches on the model those that have bodies read."""
    matches = list(in_order(config))
    last = {_beside_model(match): match for _, match in matches if match.model is not None}
    unseen = {
        (match.host, match.path): match
        for _, match in matches
        if match.model is not None or match.header or match.body_size is not None
    }
    rewriting = {each.name for each in config.services if rewrites_model(each, config)}
    for service, match in matches:
        route = _service_route(
            match,
            service,
            config,
            fallback=service.name in with_fallback,
            own=service.name in on_device,
        )
        if service.name in rewriting and match.model is None:
            route.typed_per_filter_config = inflating()
        yield route
        if unseen.get((match.host, match.path)) is match:
            yield _preflight_route(match, service, config)
        if match.model is not None and last[_beside_model(match)] is match:
            yield from _reading_routes(match)


def _beside_model(match: Match) -> tuple[object, ...]:
    headers = sorted((name.lower(), value) for name, value in match.header.items())
    return match.host, match.path, match.body_size, tuple(headers)


def _preflight_route(match: Match, service: Service, config: Config) -> Route:
    """Build the route of CORS preflights: one of the services answers.

    They have no body, and none of the headers that the request itself will have.
    """
    bare = match.model_copy(update={"model": None, "body_size": None, "header": {}})
    route = _service_route(bare, service, config, fallback=False)
    if route.match is not None:
        route.match.headers += [
            HeaderMatcher(name=":method", string_match=StringMatcher(exact="OPTIONS")),
            HeaderMatcher(name="access-control-request-method", present_match=True),
        ]
    return route


def _reading_routes(match: Match) -> Iterator[Route]:
    """Build the routes of requests that *match* may be of, until their body was read."""
    for form in (False, True):
        unread = build_route_match(match.model_copy(update={"model": None}))
        unread.headers.append(content_type(form=form))
        unread.dynamic_metadata.append(not_read_yet())
        compressed = replace(unread, headers=[*unread.headers, unknown_encoding()])
        yield Route(
            name=names.NO_SERVICE,
            match=compressed,
            direct_response=build_sentence(
                415,
                "the service is chosen by the model in the body, which cannot be read under this"
                " content-encoding; send gzip, br, zstd or none",
            ),
            # RFC 9110, section 15.5.16: what would have been accepted.
            response_headers_to_add=[
                HeaderValueOption(header=HeaderValue(key="accept-encoding", value="gzip, br, zstd"))
            ],
        )
        yield Route(
            name=names.NO_SERVICE,
            match=unread,
            route=_nowhere(),
            typed_per_filter_config=switched_on(form=form),
        )


def _no_service(config: Config) -> Route:
    hint = Struct(fields={names.METADATA_HINT: Value(string_value=_hint(config))})
    return Route(
        name=names.NO_SERVICE,
        match=RouteMatch(prefix="/"),
        metadata=Metadata(filter_metadata={names.METADATA: hint}),
        route=_nowhere(),
    )


def _nowhere() -> RouteAction:
    # Not a direct response: only a route with an action brings its limit for the body along.
    return RouteAction(
        cluster=names.NO_SERVICE,
        cluster_not_found_response_code=RouteActionClusterNotFoundResponseCode.NOT_FOUND,
    )


def _hint(config: Config) -> str:
    paths = sorted({m.path for s in config.services for m in s.match if m.path is not None})
    headers = sorted({name.lower() for s in config.services for m in s.match for name in m.header})
    hosts = sorted({m.host for s in config.services for m in s.match if m.host is not None})
    parts = [f"paths {', '.join(paths)}"] if paths else []
    if reads_model(config):
        parts.append("the 'model' of an application/json or multipart/form-data body")
    if hosts:
        parts.append(f"hosts {', '.join(hosts)}")
    if headers:
        parts.append(f"headers {', '.join(headers)}")
    return f"; services are known by {'; '.join(parts)}" if parts else ""


def _service_route(
    match: Match, service: Service, config: Config, *, fallback: bool, own: bool = False
) -> Route:
    protocol = protocol_of(service, {model.name: model for model in config.models})
    retry_policy = build_retry_policy(
        service, config.envoy, fallback=fallback, own=own, grpc=protocol is Protocol.GRPC
    )
    return Route(
        name=service.name,
        match=build_route_match(match),
        route=RouteAction(
            cluster=service.name,
            # Envoy's default of 15 s counts the whole answer and would cut every long stream.
            timeout=seconds(service.timeout),
            idle_timeout=seconds(service.idle_timeout),
            retry_policy=retry_policy,
            hedge_policy=HedgePolicy(hedge_on_per_try_timeout=True)
            if service.waits_on and retry_policy and retry_policy.per_try_timeout
            else None,
            hash_policy=[] if service.affinity is None else [_session_hash(service.affinity)],
        ),
        metadata=_start_up(service, config),
    )


def _start_up(service: Service, config: Config) -> Metadata | None:
    """Build what a client is answered that comes while all instances of *service* are asleep."""
    startable = [instance for instance in config.instances if instance.wake is not None]
    if not startable:
        return None
    sites = {site.name: site for site in config.sites}
    times = [
        instance.wake.start_up
        for instance in startable
        if instance.wake is not None and may_serve(service, instance, sites)
    ]
    if not times:
        return None
    value = Struct(fields={names.METADATA_START_UP: Value(string_value=str(ceil(min(times))))})
    return Metadata(filter_metadata={names.METADATA: value})


def _session_hash(affinity: Affinity) -> RouteActionHashPolicy:
    if affinity.header is not None:
        header = RouteActionHashPolicyHeader(header_name=affinity.header.lower())
        return RouteActionHashPolicy(header=header)
    return RouteActionHashPolicy(
        cookie=RouteActionHashPolicyCookie(
            name=affinity.cookie or "", ttl=seconds(affinity.timeout), path="/"
        )
    )


def _response_headers() -> list[HeaderValueOption]:
    return [
        HeaderValueOption(
            header=HeaderValue(key=header, value=f"%UPSTREAM_METADATA({names.METADATA}:{key})%"),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for header, key in _HEADERS.items()
    ]
