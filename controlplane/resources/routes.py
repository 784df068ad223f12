"""Which requests belong to which service: the route table that Envoy classifies by.

A site's table differs from another's only where it has a fallback of its own: a device's local
model, to which the last retry may go.
Most specific first, so that the order of services in the file decides only between equals:
a host before any below a name before none; an exact path before a prefix, a longer path before a
shorter one, a path before none; then a model before none, more headers before fewer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from math import inf

from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Metadata,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    HedgePolicy,
    RetryPolicy,
    RetryPolicyRateLimitedRetryBackOff,
    RetryPolicyResetHeader,
    RetryPolicyResetHeaderFormat,
    RetryPolicyRetryHostPredicate,
    RetryPolicyRetryPriority,
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
from envoy_data_plane.envoy.extensions.retry.host.omit_host_metadata.v3 import (
    OmitHostMetadataConfig,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.extensions.retry.priority.previous_priorities.v3 import (
    PreviousPrioritiesConfig,
)
from envoy_data_plane.envoy.type.matcher.v3 import (
    MetadataMatcher,
    RegexMatcher,
    StringMatcher,
)
from envoy_data_plane.envoy.type.v3 import Int64Range
from envoy_data_plane.google.protobuf import Struct, Value

from controlplane.config import Affinity, BodySize, Config, Envoy, Match, Protocol, Service
from controlplane.config.serving import asked_names, protocol_of, rewrites_model
from controlplane.resources import names
from controlplane.resources.bodies import (
    content_type,
    inflating,
    model_is,
    names_none,
    not_read_yet,
    switched_on,
    unknown_encoding,
    unreadable,
)
from controlplane.resources.https import injected_headers
from controlplane.resources.packing import pack, seconds

_HEADERS = {
    names.HEADER_INSTANCE: names.METADATA_INSTANCE,
    names.HEADER_SITE: names.METADATA_SITE,
    names.HEADER_MODEL: names.METADATA_MODEL,
}
"""Response header -> key of the endpoint's metadata."""
_MODELS_PATH = "/v1/models"
_LONGEST_LIST = 1_000_000
"""Bytes of the list of models; Envoy's own limit would be 4096."""
_GRPC_RETRIES = "unavailable,resource-exhausted"
_HOST_SELECTION_ATTEMPTS = 300
"""How often a retry that picks a host already tried may pick again. Round robin gives a share s its
turn once in 1/s picks, so a retry leaves a dead instance that has 99 % for one that has 1; a pick
costs well below a microsecond."""

_MOST_BYTES = 2**62
"""Beyond every content-length."""


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
                    _bad_body(
                        unreadable(),
                        "the body is not valid JSON in UTF-8, or inflates more than a hundredfold,"
                        " so the model that it names cannot be read",
                    ),
                    *_model_list(config, available),
                    *_service_routes(config, with_fallback, on_device),
                    _bad_body(
                        names_none(),
                        "the body names no model, or cannot be inflated, and no service takes"
                        " such a request",
                    ),
                    _no_service(config),
                ],
            )
        ],
        max_direct_response_body_size_bytes=_LONGEST_LIST,
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


def _model_list(config: Config, available: Collection[str] | None) -> Iterator[Route]:
    taken = any(
        match.path == _MODELS_PATH for service in config.services for match in service.match
    )
    if taken or not config.envoy.list_models:
        return
    models = {
        name
        for service in config.services
        if available is None or service.name in available
        for name in asked_names(service, config)
    }
    listed = [
        {"id": name, "object": "model", "created": 0, "owned_by": "cats"} for name in sorted(models)
    ]
    body = json.dumps({"object": "list", "data": listed}, separators=(",", ":"))
    if len(body) > _LONGEST_LIST:
        return
    method = HeaderMatcher(
        name=":method", string_match=StringMatcher(safe_regex=RegexMatcher(regex="GET|HEAD"))
    )
    yield Route(
        name=names.NO_SERVICE,
        match=RouteMatch(path=_MODELS_PATH, headers=[method]),
        direct_response=_sentence(200, body),
    )


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
        unread = _route_match(match.model_copy(update={"model": None}))
        unread.headers.append(content_type(form=form))
        unread.dynamic_metadata.append(not_read_yet())
        compressed = replace(unread, headers=[*unread.headers, unknown_encoding()])
        yield Route(
            name=names.NO_SERVICE,
            match=compressed,
            direct_response=_sentence(
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


def _bad_body(condition: MetadataMatcher, sentence: str) -> Route:
    return Route(
        name=names.NO_SERVICE,
        match=RouteMatch(prefix="/", dynamic_metadata=[condition]),
        direct_response=_sentence(400, sentence),
    )


def _sentence(status: int, text: str) -> DirectResponseAction:
    return DirectResponseAction(status=status, body=DataSource(inline_string=text))


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


def in_order(config: Config) -> Iterator[tuple[Service, Match]]:
    """Return every match with its service, most specific first."""
    matches = [(service, match) for service in config.services for match in service.match]
    yield from sorted(matches, key=lambda pair: _specificity(pair[1]))


def reads_model(config: Config) -> bool:
    """Return whether any match looks into the request's body."""
    return any(match.model is not None for _, match in in_order(config))


def _specificity(match: Match) -> tuple[int, int, int, int, bool, float, int]:
    host, path = match.host or "", match.path or ""
    of_host = 2 if not host else 1 if host.startswith("*") else 0
    kind = 2 if not path else 1 if path.endswith("*") else 0
    size = match.body_size
    lengths = inf if size is None else (_MOST_BYTES if size.below is None else size.below)
    if size is not None:
        lengths -= size.least
    headers = -len(match.header)
    return of_host, -len(host), kind, -len(path), match.model is None, lengths, headers


def _service_route(
    match: Match, service: Service, config: Config, *, fallback: bool, own: bool = False
) -> Route:
    protocol = protocol_of(service, {model.name: model for model in config.models})
    retry_policy = _retry_policy(
        service, config.envoy, fallback=fallback, own=own, grpc=protocol is Protocol.GRPC
    )
    return Route(
        name=service.name,
        match=_route_match(match),
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
    )


def _session_hash(affinity: Affinity) -> RouteActionHashPolicy:
    if affinity.header is not None:
        header = RouteActionHashPolicyHeader(header_name=affinity.header.lower())
        return RouteActionHashPolicy(header=header)
    return RouteActionHashPolicy(
        cookie=RouteActionHashPolicyCookie(
            name=affinity.cookie or "", ttl=seconds(affinity.timeout), path="/"
        )
    )


def _route_match(match: Match) -> RouteMatch:
    headers = [
        HeaderMatcher(name=name, string_match=StringMatcher(exact=value))
        for name, value in sorted((name.lower(), value) for name, value in match.header.items())
    ]
    if match.host is not None:
        headers.insert(0, _host_is(match.host))
    if match.body_size is not None:
        headers.append(_length_is(match.body_size))
    metadata = [] if match.model is None else [model_is(match.model)]
    if match.path is None:
        return RouteMatch(prefix="/", headers=headers, dynamic_metadata=metadata)
    if match.path.endswith("*"):
        return RouteMatch(
            prefix=match.path.removesuffix("*"), headers=headers, dynamic_metadata=metadata
        )
    return RouteMatch(path=match.path, headers=headers, dynamic_metadata=metadata)


def _length_is(size: BodySize) -> HeaderMatcher:
    below = _MOST_BYTES if size.below is None else round(size.below)
    return HeaderMatcher(
        name="content-length", range_match=Int64Range(start=round(size.least), end=below)
    )


def _host_is(host: str) -> HeaderMatcher:
    """Build the condition on the host; its port does not count (RFC 9110, section 7.2)."""
    below = r"[^.:]+(\.[^.:]+)*\." if host.startswith("*.") else ""
    name = re.escape(host.removeprefix("*."))
    literal = rf"\[{name}\]" if ":" in host else name
    regex = rf"(?i){below}{literal}\.?(:[0-9]+)?"
    return HeaderMatcher(
        name=":authority", string_match=StringMatcher(safe_regex=RegexMatcher(regex=regex))
    )


def _retry_policy(
    service: Service, envoy: Envoy, *, fallback: bool, own: bool, grpc: bool
) -> RetryPolicy | None:
    retries, first_byte = envoy.retries, service.longest_first_byte
    if retries.attempts == 0 and (first_byte is None or service.waits_on):
        return None
    return RetryPolicy(
        retry_on=f"{retries.on},{_GRPC_RETRIES}" if grpc else retries.on,
        num_retries=retries.attempts,
        # Ends with the answer's headers, so it cuts no stream.
        per_try_timeout=None if first_byte is None else seconds(first_byte),
        rate_limited_retry_back_off=_back_off(retries.retry_after),
        retriable_status_codes=list(retries.status_codes),
        retry_host_predicate=[
            RetryPolicyRetryHostPredicate(
                name="envoy.retry_host_predicates.previous_hosts",
                typed_config=pack(PreviousHostsPredicate()),
            ),
            *([_own_model()] if own else []),
        ],
        host_selection_retry_max_attempts=_HOST_SELECTION_ATTEMPTS,
        # The last retry only: until then the better instances are tried.
        retry_priority=RetryPolicyRetryPriority(
            name="envoy.retry_priorities.previous_priorities",
            typed_config=pack(PreviousPrioritiesConfig(update_frequency=retries.attempts)),
        )
        if fallback and retries.attempts
        else None,
    )


def _own_model() -> RetryPolicyRetryHostPredicate:
    """Build what leads a device's retry to its own model: without a link all others fail."""
    remote = Struct(fields={names.REMOTE: Value(bool_value=True)})
    return RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.omit_host_metadata",
        typed_config=pack(
            OmitHostMetadataConfig(
                metadata_match=Metadata(filter_metadata={names.LOAD_BALANCING: remote})
            )
        ),
    )


def _back_off(longest: float) -> RetryPolicyRateLimitedRetryBackOff | None:
    if longest == 0:
        return None
    header = RetryPolicyResetHeader(name="retry-after", format=RetryPolicyResetHeaderFormat.SECONDS)
    return RetryPolicyRateLimitedRetryBackOff(reset_headers=[header], max_interval=seconds(longest))


def _response_headers() -> list[HeaderValueOption]:
    return [
        HeaderValueOption(
            header=HeaderValue(key=header, value=f"%UPSTREAM_METADATA({names.METADATA}:{key})%"),
            append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for header, key in _HEADERS.items()
    ]
