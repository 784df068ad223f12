"""What Envoy answers by itself: the list of models, and why a body cannot be routed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator

from envoy_data_plane.envoy.config.core.v3 import DataSource
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
    Route,
    RouteMatch,
)
from envoy_data_plane.envoy.type.matcher.v3 import MetadataMatcher, RegexMatcher, StringMatcher

from controlplane.config import Config
from controlplane.config.serving import asked_names
from controlplane.resources import names

_MODELS_PATH = "/v1/models"
LONGEST_LIST = 1_000_000
"""Bytes of the list of models; Envoy's own limit would be 4096."""


def build_model_list_routes(config: Config, available: Collection[str] | None) -> Iterator[Route]:
    """Build the route of ``/v1/models``, unless a service has that path; at most one."""
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
    if len(body) > LONGEST_LIST:
        return
    method = HeaderMatcher(
        name=":method", string_match=StringMatcher(safe_regex=RegexMatcher(regex="GET|HEAD"))
    )
    yield Route(
        name=names.NO_SERVICE,
        match=RouteMatch(path=_MODELS_PATH, headers=[method]),
        direct_response=build_sentence(200, body),
    )


def build_bad_body_route(condition: MetadataMatcher, sentence: str) -> Route:
    """Build the route that refuses bodies of *condition*, in one *sentence*."""
    return Route(
        name=names.NO_SERVICE,
        match=RouteMatch(prefix="/", dynamic_metadata=[condition]),
        direct_response=build_sentence(400, sentence),
    )


def build_sentence(status: int, text: str) -> DirectResponseAction:
    """Build an answer of status *status*."""
    return DirectResponseAction(status=status, body=DataSource(inline_string=text))
