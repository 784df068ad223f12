"""How requests reach a pool through a Gateway that others stand behind as well.

An HTTPRoute leads to a pool by the host that is asked and by the path. An Envoy asks for that host,
and puts before a request's path what the route takes off again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.errors import ReportError
from controlplane.sources.kubernetes.gateway_api import Gateway, InferencePool
from controlplane.sources.kubernetes.http_routes import HttpRoute, PathMatch, RouteRule


@dataclass(frozen=True, slots=True)
class PoolRoute:
    """What requests for a pool have."""

    host: str = ""
    """Empty if any will do."""
    path: str = ""
    """What stands before a request's own path."""
    port: int = 0
    """Of the listener that the route is attached to; 0 for any."""


def pool_route(pool: InferencePool, gateway: Gateway, routes: Iterable[HttpRoute]) -> PoolRoute:
    """Return how *pool* is reached at *gateway*: by the first HTTPRoute, by name, that can be used.

    Raises:
        ReportError: there is none, with what keeps it from being used.
    """
    reasons = []
    for route in routes:
        key = gateway.meta.key
        parents = [each for each in route.parents if (each.namespace, each.name) == key]
        if not parents:
            continue
        port = parents[0].port or gateway.ports.get(parents[0].listener, 0)
        for rule in route.rules:
            if not any(
                (each.kind, each.namespace, each.name)
                == (pool.kind, pool.meta.namespace, pool.meta.name)
                for each in rule.backends
            ):
                continue
            for match in rule.matches:
                try:
                    return PoolRoute(_host(route), _path(rule, match), port)
                except ReportError as error:
                    reasons.append(f"its HTTPRoute {route.meta.name} {error}")
    if not reasons:
        raise ReportError(
            f"no HTTPRoute of its Gateway {gateway.meta.name} leads to it; see their backendRefs,"
            " or remove http_routes"
        )
    raise ReportError(reasons[0])


def _host(route: HttpRoute) -> str:
    whole = [name for name in route.hostnames if not name.startswith("*")]
    if route.hostnames and not whole:
        raise ReportError(
            f"names only hosts below {route.hostnames[0]}; add one that can be asked for"
        )
    return whole[0] if whole else ""


def _path(rule: RouteRule, match: PathMatch) -> str:
    """Return what has to stand before a path."""
    if match.unsupported or match.headers:
        asked = match.unsupported or "headers"
        raise ReportError(f"asks for {asked}, which requests do not have; add a rule without")
    if rule.replaces_path:
        raise ReportError("replaces the whole path, so that a request's own is lost")
    if rule.replaced_prefix is None or match.is_exact:
        return ""
    prefix, replaced = match.path.rstrip("/"), rule.replaced_prefix.rstrip("/")
    if not prefix.endswith(replaced):
        raise ReportError(
            f"puts {rule.replaced_prefix} in place of {match.path}; a prefix that is only taken"
            " off can be used"
        )
    return prefix.removesuffix(replaced)
