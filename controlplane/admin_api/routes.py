"""The admin HTTP port: health, metrics, the API and its event stream; reads, never decides.

What the documents say comes from `AdminDocuments`, which `admin_api.view` implements.

Doors: there is no CORS, so no foreign page can read an answer; on a loopback address the Host
header must be a loopback name, so that a foreign name rebound to 127.0.0.1 is refused; bodies and
watchers are bounded. Off loopback a token or a certificate is asked for (`login`), but for health.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import math
import zlib
from collections.abc import Iterable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic_core import PydanticCustomError

from controlplane.admin_api.answers import add_headers, json_error, json_response, large_response
from controlplane.admin_api.documents import Document
from controlplane.admin_api.event_stream import STREAMS, end_streams, serve_events
from controlplane.admin_api.port import guard_of
from controlplane.admin_api.served import DOCUMENTS, AdminDocuments, UnknownName
from controlplane.auth.admin_tokens import Login
from controlplane.config.addresses import is_loopback
from controlplane.config.units import parse_duration
from controlplane.controller.history import COARSE_SPAN, Query
from controlplane.errors import ControlPlaneError

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body; nothing we take is larger than some lines."""

_OPEN = frozenset({"/healthz", "/readyz"})
"""Asked by kubelets and load balancers, which have no secrets; they say one word."""


_PAGE = {
    name: (importlib.resources.files("controlplane.admin_api") / "dashboard" / name).read_bytes()
    for name in (
        "index.html",
        "style.css",
        "app.js",
        "chart.js",
        "dom.js",
        "events.js",
        "explanation.js",
        "flows.js",
        "format.js",
        "glossary.js",
        "live.js",
        "map.js",
        "moment.js",
        "pages.js",
        "tables.js",
    )
}
"""The dashboard's files, which are small; what is not named here is not served."""
_CONTENT_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


def build_admin(
    documents: AdminDocuments,
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
        middlewares=[_secure(check_host=is_loopback(host), login=login)],
    )
    application[DOCUMENTS] = documents
    application[STREAMS] = set()
    application.add_routes(
        [
            web.get("/", _dashboard),
            web.get("/dashboard/{name}", _dashboard),
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


def _secure(*, check_host: bool, login: Login | None) -> Middleware:
    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        guard = guard_of(request)
        with contextlib.nullcontext() if guard is None else guard.answering():
            return await answer(request, handler)

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        response: web.StreamResponse
        if check_host and not _is_loopback_name(request.headers.get("Host", "")):
            response = json_error(
                421, "the Host header must name this machine, such as localhost or 127.0.0.1"
            )
        elif login is not None and request.path not in _OPEN and not login.admits(request):
            response = json_error(
                401, "give a token of server.admin.token_file, or a client's certificate"
            )
            response.headers["WWW-Authenticate"] = 'Basic realm="cats"'
        else:
            try:
                response = await handler(request)
            except web.HTTPException as error:
                response = json_error(error.status, error.text or error.reason)
                if "Allow" in error.headers:
                    response.headers["Allow"] = error.headers["Allow"]
        if not response.prepared:
            add_headers(response.headers)
        return response

    return middleware


def _is_loopback_name(header: str) -> bool:
    host, colon, port = header.rpartition(":")
    if not colon or not port.isdecimal():
        host = header
    return is_loopback(host.strip("[]").lower())


async def _dashboard(request: web.Request) -> web.Response:
    name = request.match_info.get("name", "index.html")
    if name not in _PAGE:
        return json_error(404, "the dashboard has no such file; it is at /")
    return web.Response(
        body=_PAGE[name],
        content_type=_CONTENT_TYPES[name.rpartition(".")[2]],
        charset="utf-8",
    )


async def _healthz(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    if request.app[DOCUMENTS].is_ready():
        return web.Response(text="ok\n")
    return web.Response(text="not ready: no snapshot is being served yet\n", status=503)


async def _metrics(request: web.Request) -> web.Response:
    return web.Response(
        body=await request.app[DOCUMENTS].metrics_text(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


async def _or_not_yet(document: Document | None) -> web.Response:
    if document is None:
        response = json_error(503, "nothing is decided yet; try again in a moment")
        response.headers["Retry-After"] = "1"
        return response
    return await large_response(document)


async def _fleet(request: web.Request) -> web.Response:
    return await _or_not_yet(await request.app[DOCUMENTS].fleet_document())


async def _overview(request: web.Request) -> web.Response:
    return await _or_not_yet(await request.app[DOCUMENTS].overview_document())


async def _room(request: web.Request) -> web.Response:
    return await _or_not_yet(await request.app[DOCUMENTS].room_document())


async def _plan(request: web.Request) -> web.Response:
    return await _or_not_yet(await request.app[DOCUMENTS].plan_document())


async def _moment(request: web.Request) -> web.Response:
    try:
        at = float(request.query["at"])
    except (KeyError, ValueError):
        at = math.nan
    if not math.isfinite(at):
        return json_error(400, "write at=UNIX_SECONDS")
    document = await request.app[DOCUMENTS].moment_document(at)
    if document is None:
        return json_error(404, "no moment is kept yet; see again in a minute")
    return await large_response(document)


async def _instance(request: web.Request) -> web.Response:
    name = request.query.get("name")
    if not name:
        return json_error(400, "write which one, as in /api/v1/instance?name=north-a")
    try:
        return await _or_not_yet(await request.app[DOCUMENTS].instance_document(name))
    except UnknownName as error:
        return json_error(404, str(error))


async def _explain(request: web.Request) -> web.Response:
    service, site = request.query.get("service"), request.query.get("from")
    if not service or not site:
        return json_error(400, "give both, as in /api/v1/explain?service=chat&from=edge-north")
    try:
        return await _or_not_yet(await request.app[DOCUMENTS].explain_document(service, site))
    except UnknownName as error:
        return json_error(404, str(error))


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
    return await _or_not_yet(await request.app[DOCUMENTS].history_document(query, at))


async def _envoys(request: web.Request) -> web.Response:
    name = request.query.get("id")
    return await large_response(await request.app[DOCUMENTS].envoys_document(name))


async def _config(request: web.Request) -> web.Response:
    return json_response(await request.app[DOCUMENTS].config_document())


async def _overrides(request: web.Request) -> web.Response:
    return json_response(request.app[DOCUMENTS].overrides_document())


async def _add_override(request: web.Request) -> web.Response:
    refusal = _refuse_foreign(request)
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
    refusal = _refuse_foreign(request)
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


def _refuse_foreign(request: web.Request) -> web.Response | None:
    """Refuse a change that a page of another origin asks for through its reader's browser."""
    origin = request.headers.get("Origin")
    same = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    if same and request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return None
    return json_error(403, "a foreign page may not change anything")
