"""From HTTPRoutes to matches of a service; values in, values out.

An HTTPRoute whose rule leads to the pool or Service of a source says which requests are the
service's. What cannot be said by a match (a method, a query, a regular expression) is refused with
its reason, and the rest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from controlplane.config import (
    Config,
    Conflict,
    DiscoveredMatch,
    HttpRouteSource,
    Match,
    ObjectRef,
    RejectedInstance,
)
from controlplane.sources.kubernetes.gateway_api import GROUP
from controlplane.sources.kubernetes.http_routes import Backend, HttpRoute, PathMatch
from controlplane.sources.kubernetes.objects import HTTP_ROUTES, KubernetesObject
from controlplane.sources.kubernetes.watches import Watch


def source_watches(config: Config, source: HttpRouteSource) -> tuple[Watch, ...]:
    """Return what has to be followed for *source*."""
    namespaces = source.route_namespaces or (_namespace(config, source),)
    if "*" in namespaces:
        namespaces = ("",)
    return tuple(Watch(HTTP_ROUTES, each) for each in namespaces)


def map_routes(
    config: Config,
    name: str,
    service: str,
    source: HttpRouteSource,
    routes: Iterable[KubernetesObject],
) -> tuple[tuple[DiscoveredMatch, ...], tuple[RejectedInstance, ...]]:
    """Return the matches that *routes* say, in the order of the routes' names, and what is refused.

    Args:
        config: for the default namespace.
        name: of the source.
        service: whose matches they are.
        source: where the routes lead.
        routes: the HTTPRoutes that there are.
    """
    backend = Backend(
        kind="Service" if source.pool is None else "InferencePool",
        namespace=_namespace(config, source),
        name=source.pool or source.service or "",
    )
    found: dict[DiscoveredMatch, None] = {}
    refused: dict[RejectedInstance, None] = {}
    known = (each for each in routes if isinstance(each, HttpRoute))
    for route in sorted(known, key=lambda each: each.meta.key):
        shown = f"{route.meta.namespace}/{route.meta.name}"
        about = ObjectRef(
            f"{GROUP}/v1", "HTTPRoute", route.meta.namespace, route.meta.name, route.meta.uid
        )
        hosts = route.hostnames if source.hostnames else ()
        for rule in route.rules:
            if backend not in rule.backends:
                continue
            for asked in rule.matches:
                try:
                    for match in _matches(asked, hosts):
                        found[DiscoveredMatch(name, service, match, shown, about)] = None
                except ValueError as error:
                    refused[RejectedInstance(name, shown, Conflict.OBJECT, str(error), about)] = (
                        None
                    )
    return tuple(found), tuple(refused)


def _namespace(config: Config, source: HttpRouteSource) -> str:
    if source.namespace is not None:
        return source.namespace
    return config.discovery.namespace if config.discovery else "default"


def _matches(asked: PathMatch, hosts: tuple[str, ...]) -> Iterator[Match]:
    """Return what requests must have.

    Raises:
        ValueError: it cannot be said by a match.
    """
    if asked.unsupported:
        raise ValueError(
            f"asks for {asked.unsupported}, which a match cannot say; list the requests under the"
            " service's match"
        )
    if "*" in asked.path:
        raise ValueError("asks for a path with '*', which a match would take for any characters")
    if asked.is_exact:
        paths: tuple[str, ...] = (asked.path,)
    else:
        # A prefix is of whole elements: /v1 is for /v1 and /v1/models, and not for /v1beta.
        bare = asked.path.rstrip("/")
        paths = (bare, f"{bare}/*") if bare else ("/*",)
    for host in hosts or (None,):
        for path in paths:
            try:
                yield Match(host=host, path=path, header=dict(asked.headers))
            except ValidationError as error:
                reason = error.errors(include_url=False)[0]["msg"]
                raise ValueError(f"has a match that no request can have: {reason}") from None
