"""How a request is recognised: the conditions of a match as Envoy has them, most specific first.

A host before any below a name before none; an exact path before a prefix, a longer path before a
shorter one, a path before none; then a model before none, more headers before fewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf

from envoy_data_plane.envoy.config.route.v3 import HeaderMatcher, RouteMatch
from envoy_data_plane.envoy.type.matcher.v3 import RegexMatcher, StringMatcher
from envoy_data_plane.envoy.type.v3 import Int64Range

from controlplane.config import BodySize, Config, Match, Service
from controlplane.resources.bodies import model_is

_MOST_BYTES = 2**62
"""Beyond every content-length."""


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


def build_route_match(match: Match) -> RouteMatch:
    """Build the conditions of one match."""
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
