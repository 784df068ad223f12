"""The admin HTTP port: health, metrics, the API and its event stream; reads, never decides.

What the documents say comes from `AdminView`.

What is refused before it is read stands in `protection`; bodies and watchers are bounded.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

from aiohttp import web
from pydantic_core import PydanticCustomError

from controlplane.admin_api.answers import encode_large, encoded_response, json_error, json_response
from controlplane.admin_api.dashboard_files import serve_dashboard
from controlplane.admin_api.event_stream import STREAMS, end_streams, serve_events
from controlplane.admin_api.protection import count_answers, refuse_foreign, secure
from controlplane.admin_api.served import DOCUMENTS, UnknownName
from controlplane.admin_api.shared_answers import ANSWERS, TURN, WRITES, SharedAnswers
from controlplane.admin_api.values import Document
from controlplane.admin_api.view import AdminView
from controlplane.auth.admin_tokens import Login
from controlplane.config.addresses import is_loopback
from controlplane.config.units import parse_duration
from controlplane.controller.history import COARSE_SPAN, Query
from controlplane.errors import ControlPlaneError
from controlplane.runtime.turns import Turns

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body; nothing we take is larger than some lines."""


def build_admin(
    documents: AdminView,
    *,
    host: str,
    login: Login | None = None,
    extra_routes: Iterable[web.RouteDef] = (),
) -> web.Application:
    """Make the admin application.

    Args:
        documents: what to show.
        host: the address it will be bound to, which decides on the Host check.
        login: what is asked of those who want more than health; none asks nothing.
        extra_routes: routes of switches that are off by default.
    """
    application = web.Application(
        client_max_size=BODY_LIMIT,
        middlewares=[count_answers, secure(check_host=is_loopback(host), login=login)],
    )
    application[DOCUMENTS] = documents
    application[STREAMS] = set()
    application[ANSWERS] = SharedAnswers()
    application[WRITES] = Turns(TURN)
    application.add_routes(
        [
            web.get("/", serve_dashboard),
            web.get("/dashboard/{name}", serve_dashboard),
            web.get("/healthz", _healthz),
            web.get("/readyz", _readyz),
            web.get("/metrics", _metrics),
            web.get("/api/v1/fleet", _fleet),
            web.get("/api/v1/overview", _overview),
            web.get("/api/v1/plan", _plan),
            web.get("/api/v1/explain", _explain),
            web.get("/api/v1/envoys", _envoys),
            web.get("/api/v1/room", _room),
            web.get("/api/v1/history", _history),
            web.get("/api/v1/moment", _moment),
            web.get("/api/v1/instance", _instance),
            web.get("/api/v1/agents", _agents),
            web.get("/api/v1/config", _config),
            web.get("/api/v1/events", serve_events),
            web.get("/api/v1/overrides", _overrides),
            web.post("/api/v1/overrides", _add_override),
            web.delete("/api/v1/overrides/{name}", _remove_override),
            *extra_routes,
        ]
    )
    application.on_shutdown.append(end_streams)
    return application


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    if request.app[DOCUMENTS].is_ready():
        return web.Response(text="ok\n")
    return web.Response(text="not ready: no snapshot is being served yet\n", status=503)


async def _metrics(request: web.Request) -> web.Response:
    content = await request.app[ANSWERS].get(request.path, request.app[DOCUMENTS].metrics_text)
    await request.app[WRITES].take(len(content or b""))
    return web.Response(
        body=content,
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def _shared(
    request: web.Request,
    make: Callable[[], Awaitable[Document | None]],
    *,
    otherwise: Callable[[], web.Response],
) -> web.Response:
    """Answer with a document that may be long, or *otherwise* if there is none."""

    async def encode() -> bytes | None:
        document = await make()
        return None if document is None else await encode_large(document)

    try:
        content = await request.app[ANSWERS].get(request.path_qs, encode)
    except UnknownName as error:
        return json_error(404, str(error))
    if content is None:
        return otherwise()
    await request.app[WRITES].take(len(content))
    return encoded_response(content)


def _not_yet() -> web.Response:
    response = json_error(503, "nothing is decided yet; try again in a moment")
    response.headers["Retry-After"] = "1"
    return response


async def _fleet(request: web.Request) -> web.Response:
    return await _shared(request, request.app[DOCUMENTS].fleet_document, otherwise=_not_yet)


async def _overview(request: web.Request) -> web.Response:
    return await _shared(request, request.app[DOCUMENTS].overview_document, otherwise=_not_yet)


async def _room(request: web.Request) -> web.Response:
    site, model = request.query.get("site"), request.query.get("model")
    make = partial(request.app[DOCUMENTS].room_document, site, model)
    return await _shared(request, make, otherwise=_not_yet)


async def _plan(request: web.Request) -> web.Response:
    return await _shared(request, request.app[DOCUMENTS].plan_document, otherwise=_not_yet)


async def _moment(request: web.Request) -> web.Response:
    try:
        at = float(request.query["at"])
    except (KeyError, ValueError):
        at = math.nan
    if not math.isfinite(at):
        return json_error(400, "write at=UNIX_SECONDS")
    make = partial(request.app[DOCUMENTS].moment_document, at)
    missing = partial(json_error, 404, "no moment is kept yet; see again in a minute")
    return await _shared(request, make, otherwise=missing)


async def _instance(request: web.Request) -> web.Response:
    name = request.query.get("name")
    if not name:
        return json_error(400, "write which one, as in /api/v1/instance?name=north-a")
    make = partial(request.app[DOCUMENTS].instance_document, name)
    return await _shared(request, make, otherwise=_not_yet)


async def _explain(request: web.Request) -> web.Response:
    service, site = request.query.get("service"), request.query.get("from")
    if not service or not site:
        return json_error(400, "give both, as in /api/v1/explain?service=chat&from=edge-north")
    make = partial(request.app[DOCUMENTS].explain_document, service, site)
    return await _shared(request, make, otherwise=_not_yet)


async def _agents(request: web.Request) -> web.Response:
    return json_response(await request.app[DOCUMENTS].agents_document())


async def _history(request: web.Request) -> web.Response:
    given = request.query
    try:
        span = parse_duration(given.get("since", "15m"))
        at = float(given["at"]) if "at" in given else None
    except (PydanticCustomError, ValueError):
        return json_error(400, "write since=15m (at most 24h), or at=UNIX_SECONDS")
    if not 0 < span <= COARSE_SPAN or (at is not None and not math.isfinite(at)):
        return json_error(400, "since is more than 0s and at most 24h, as in since=15m")
    query = Query(span, given.get("service"), given.get("from"), given.get("instance"))
    make = partial(request.app[DOCUMENTS].history_document, query, at)
    return await _shared(request, make, otherwise=_not_yet)


async def _envoys(request: web.Request) -> web.Response:
    name = request.query.get("id")
    make = partial(request.app[DOCUMENTS].envoys_document, name)
    return await _shared(request, make, otherwise=_not_yet)


async def _config(request: web.Request) -> web.Response:
    return json_response(await request.app[DOCUMENTS].config_document())


async def _overrides(request: web.Request) -> web.Response:
    return json_response(request.app[DOCUMENTS].overrides_document())


async def _add_override(request: web.Request) -> web.Response:
    refusal = refuse_foreign(request)
    if refusal is None and request.content_type != "application/json":
        refusal = json_error(415, "send JSON, with Content-Type: application/json")
    if refusal is not None:
        return refusal
    try:
        content = await _read_body(request)
        return json_response(await request.app[DOCUMENTS].add_override(content))
    except ControlPlaneError as error:
        return json_error(400, str(error))


async def _read_body(request: web.Request) -> bytes:
    """Return the request's body, inflated.

    Raises:
        HTTPBadRequest: it is not what its Content-Encoding says, or longer than `BODY_LIMIT`.
        HTTPUnsupportedMediaType: the encoding is not known here.
    """
    content = await request.read()
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding == "identity":
        return content
    if encoding not in ("gzip", "deflate"):
        raise web.HTTPUnsupportedMediaType(text="send the body as it is, or encoded as gzip")
    # 32: a header of gzip or of zlib.
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        plain = inflate.decompress(content, BODY_LIMIT)
    except zlib.error as error:
        raise web.HTTPBadRequest(
            text=f"the body is not {encoding}; see Content-Encoding"
        ) from error
    if inflate.unconsumed_tail or not inflate.eof:
        raise web.HTTPBadRequest(text=f"the body is cut, or longer than {BODY_LIMIT} bytes")
    return plain


async def _remove_override(request: web.Request) -> web.Response:
    refusal = refuse_foreign(request)
    if refusal is not None:
        return refusal
    by = request.query.get("by", "")[:100]
    if not by:
        return json_error(400, "say who removes it, as in ?by=ann")
    try:
        name = request.match_info["name"]
        return json_response(await request.app[DOCUMENTS].remove_override(name, by))
    except ControlPlaneError as error:
        return json_error(404, str(error))
