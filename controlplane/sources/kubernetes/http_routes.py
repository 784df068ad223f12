"""HTTPRoutes of gateway.networking.k8s.io/v1, read into values.

Only what says where requests go is kept; filters are of interest as far as they replace the path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controlplane.sources.kubernetes.documents import (
    Meta,
    is_deleted,
    is_port,
    mapping_of,
    mappings_of,
    meta_of,
    text_of,
)

MAX_HOSTNAMES = 16
"""Of a route, which the API bounds as well; so with the next ones."""
MAX_RULES = 16
MAX_MATCHES = 64
MAX_BACKENDS = 16
MAX_PARENTS = 32
MAX_HEADERS = 16
LONGEST_PATH = 1024
LONGEST_VALUE = 4096


@dataclass(frozen=True, slots=True)
class PathMatch:
    """Requests that a rule is for."""

    path: str = "/"
    is_exact: bool = False
    """Whether it is the whole path; else one or more of its first elements."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name -> exact value."""
    unsupported: str = ""
    """What else is asked for, which cannot be said here."""


@dataclass(frozen=True, slots=True)
class Backend:
    """Where requests go."""

    kind: str
    """``Service``, ``InferencePool`` or its import; of other groups, with the group before it."""
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class RouteRule:
    """Some requests, and where they go."""

    matches: tuple[PathMatch, ...]
    backends: tuple[Backend, ...]
    """Those that get requests: of a weight above 0."""
    replaced_prefix: str | None = None
    """What stands in place of the matched prefix; None if the path stays."""
    replaces_path: bool = False
    """Whether the whole path is replaced."""


@dataclass(frozen=True, slots=True)
class RouteParent:
    """A Gateway that a route is attached to."""

    namespace: str
    name: str
    listener: str = ""
    """Name of the listener; empty for all of them."""
    port: int = 0


@dataclass(frozen=True, slots=True)
class HttpRoute:
    """An HTTPRoute."""

    meta: Meta
    hostnames: tuple[str, ...] = ()
    parents: tuple[RouteParent, ...] = ()
    rules: tuple[RouteRule, ...] = ()
    """None once it is being deleted."""


def parse_http_route(document: Any) -> HttpRoute:
    """Read an HTTPRoute.

    Raises:
        ReportError: it is none.
    """
    meta, spec = meta_of(document), mapping_of(document, "spec")
    hostnames = spec.get("hostnames")
    return HttpRoute(
        meta,
        hostnames=tuple(
            name[:253].lower()
            for name in (hostnames if isinstance(hostnames, list) else [])[:MAX_HOSTNAMES]
            if isinstance(name, str) and name
        ),
        parents=tuple(
            RouteParent(
                namespace=text_of(parent, "namespace") or meta.namespace,
                name=text_of(parent, "name"),
                listener=text_of(parent, "sectionName"),
                port=port if is_port(port := parent.get("port")) else 0,
            )
            for parent in mappings_of(spec, "parentRefs")[:MAX_PARENTS]
            if (text_of(parent, "kind") or "Gateway") == "Gateway"
        ),
        rules=()
        if is_deleted(document)
        else tuple(_rule(rule, meta) for rule in mappings_of(spec, "rules")[:MAX_RULES]),
    )


def _rule(rule: Mapping[str, Any], meta: Meta) -> RouteRule:
    matches = tuple(_match(each) for each in mappings_of(rule, "matches")[:MAX_MATCHES])
    rewrites = [
        mapping_of(mapping_of(each, "urlRewrite"), "path")
        for each in mappings_of(rule, "filters")
        if each.get("type") == "URLRewrite"
    ]
    kinds = {text_of(each, "type") for each in rewrites}
    prefixes = [
        text_of(each, "replacePrefixMatch")
        for each in rewrites
        if text_of(each, "type") == "ReplacePrefixMatch"
    ]
    return RouteRule(
        # "If no matches are specified, the default is a prefix path match on /".
        matches=matches or (PathMatch(),),
        backends=tuple(
            Backend(
                kind=_kind(each),
                namespace=text_of(each, "namespace") or meta.namespace,
                name=text_of(each, "name"),
            )
            for each in mappings_of(rule, "backendRefs")[:MAX_BACKENDS]
            if each.get("weight") != 0 and text_of(each, "name")
        ),
        replaced_prefix=prefixes[0] if prefixes else None,
        replaces_path="ReplaceFullPath" in kinds,
    )


def _kind(reference: Mapping[str, Any]) -> str:
    kind, group = text_of(reference, "kind") or "Service", text_of(reference, "group")
    known = {
        ("Service", ""),
        ("InferencePool", "inference.networking.k8s.io"),
        ("InferencePoolImport", "inference.networking.x-k8s.io"),
    }
    return kind if (kind, group) in known else f"{group}/{kind}"


def _match(match: Mapping[str, Any]) -> PathMatch:
    path = mapping_of(match, "path")
    kind, value = text_of(path, "type") or "PathPrefix", path.get("value", "/")
    unsupported = []
    if kind not in ("PathPrefix", "Exact"):
        unsupported.append(f"a path of the type {kind[:40]}")
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_PATH:
        unsupported.append("a path that is none")
        value = "/"
    if text_of(match, "method"):
        unsupported.append("a method")
    if mappings_of(match, "queryParams"):
        unsupported.append("query parameters")
    headers: dict[str, str] = {}
    for header in mappings_of(match, "headers")[:MAX_HEADERS]:
        said = header.get("value")
        if (text_of(header, "type") or "Exact") != "Exact":
            unsupported.append("a header by a regular expression")
        elif not isinstance(said, str) or len(said) > LONGEST_VALUE:
            unsupported.append("a header without a value")
        else:
            # Of entries with an equivalent name only the first counts.
            headers.setdefault(text_of(header, "name").lower(), said)
    return PathMatch(
        path=value,
        is_exact=kind == "Exact",
        headers=headers,
        unsupported=" and ".join(dict.fromkeys(unsupported)),
    )
