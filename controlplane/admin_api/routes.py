"""The admin HTTP port: health, metrics, the API and its event stream; reads, never decides.

What the documents say comes from `AdminDocuments`, which `admin_api.view` implements.

Doors: there is no CORS, so no foreign page can read an answer; on a loopback address the Host
header must be a loopback name, so that a foreign name rebound to 127.0.0.1 is refused; bodies and
watchers are bounded. Off loopback a token or a certificate is asked for (`login`), but for health.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import math
import zlib
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from multidict import CIMultiDict
from pydantic_core import PydanticCustomError

from controlplane.admin_api.documents import Document
from controlplane.admin_api.port import guard_of
from controlplane.auth.admin_tokens import Login
from controlplane.config.units import parse_duration
from controlplane.controller.events import ALL_STATES, EventHub, WatcherReplaced
from controlplane.controller.history import COARSE_SPAN, Query
from controlplane.errors import ControlPlaneError
from controlplane.runtime.addresses import is_loopback
from controlplane.runtime.json_text import dump
from controlplane.suggestions import did_you_mean

BODY_LIMIT = 64 * 1024
"""Bytes of a request's body; nothing we take is larger than some lines."""
COMPRESS_FROM = 4_096
"""Bytes of a document that is compressed."""
COMPRESS_IN_THREAD = 65_536
"""Bytes of a document whose compression would keep the event loop."""
HEARTBEAT = 15.0
"""Seconds of silence after which an event stream gets a comment, so that proxies keep it open."""
WRITE_TIMEOUT = 30.0
"""Seconds a watcher may take to read what was sent before it is let go."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self';"
        " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}


_OPEN = frozenset({"/healthz", "/readyz"})
"""Asked by kubelets and load balancers, which have no secrets; they say one word."""


class UnknownName(Exception):  # noqa: N818 -- says what is the case
    """A service or site that the configuration does not have."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no {kind} '{name}'; {did_you_mean(name, sorted(known))}")


class AdminDocuments(Protocol):
    """What the admin port shows; each method gives a JSON-ready document of this instant."""

    events: EventHub

    def is_ready(self) -> bool:
        """Return whether a snapshot is being served."""

    def fleet_document(self) -> Document | None:
        """Return the fleet; None before the first cycle."""

    def plan_document(self) -> Document | None:
        """Return the plan; None before the first one."""

    async def explain_document(self, service: str, site: str) -> Document | None:
        """Explain one pair; None before the first plan.

        Raises:
            UnknownName: there is no such service or site.
        """

    def overview_document(self) -> Document | None:
        """Return what the dashboard shows at a glance; None before the first plan."""

    def overrides_document(self) -> Document:
        """Return the overrides of the file and those made while running."""

    async def add_override(self, content: bytes) -> Document:
        """Let an override stand, or only say what it would do.

        Raises:
            ControlPlaneError: it cannot be.
        """

    async def remove_override(self, name: str, by: str) -> Document:
        """End an override made while running.

        Raises:
            ControlPlaneError: there is no such one.
        """

    async def history_document(self, query: Query, at: float | None) -> Document | None:
        """Return figures over time, or the sample nearest to the Unix time *at*."""

    def envoys_document(self) -> Document:
        """Return the connected Envoys."""

    def agents_document(self) -> Document:
        """Return the connected agents."""

    def config_document(self) -> Document:
        """Return the configuration's status."""

    def metrics_text(self) -> bytes:
        """Return the Prometheus text."""


DOCUMENTS: web.AppKey[AdminDocuments] = web.AppKey("documents")
_STREAMS: web.AppKey[set[asyncio.Task[None]]] = web.AppKey("streams")

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
    application[_STREAMS] = set()
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
            web.get("/api/v1/history", _history),
            web.get("/api/v1/agents", _agents),
            web.get("/api/v1/config", _config),
            web.get("/api/v1/events", _events),
            web.get("/api/v1/overrides", _overrides),
            web.post("/api/v1/overrides", _add_override),
            web.delete("/api/v1/overrides/{name}", _remove_override),
            *extra_routes,
        ]
    )
    application.on_shutdown.append(_end_streams)
    return application


def json_response(
    document: object, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with a JSON document."""
    response = web.Response(
        body=dump(document),
        status=status,
        content_type="application/json",
        headers=headers,
        zlib_executor_size=COMPRESS_IN_THREAD,
    )
    if len(response.body or b"") > COMPRESS_FROM:  # type: ignore[arg-type]
        response.enable_compression()  # if the client accepts it
    return response


def json_error(status: int, text: str) -> web.Response:
    """Answer with what is wrong, and what would be right."""
    return json_response({"error": text}, status=status)


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
            _add_headers(response.headers)
        return response

    return middleware


def _is_loopback_name(header: str) -> bool:
    host, colon, port = header.rpartition(":")
    if not colon or not port.isdecimal():
        host = header
    return is_loopback(host.strip("[]").lower())


def _add_headers(headers: CIMultiDict[str]) -> None:
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)


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
        body=request.app[DOCUMENTS].metrics_text(),
        headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
    )


def _or_not_yet(document: Document | None) -> web.Response:
    if document is None:
        response = json_error(503, "nothing is decided yet; try again in a moment")
        response.headers["Retry-After"] = "1"
        return response
    return json_response(document)


async def _fleet(request: web.Request) -> web.Response:
    return _or_not_yet(request.app[DOCUMENTS].fleet_document())


async def _overview(request: web.Request) -> web.Response:
    return _or_not_yet(request.app[DOCUMENTS].overview_document())


async def _plan(request: web.Request) -> web.Response:
    return _or_not_yet(request.app[DOCUMENTS].plan_document())


async def _explain(request: web.Request) -> web.Response:
    service, site = request.query.get("service"), request.query.get("from")
    if not service or not site:
        return json_error(400, "give both, as in /api/v1/explain?service=chat&from=edge-north")
    try:
        return _or_not_yet(await request.app[DOCUMENTS].explain_document(service, site))
    except UnknownName as error:
        return json_error(404, str(error))


async def _agents(request: web.Request) -> web.Response:
    return json_response(request.app[DOCUMENTS].agents_document())


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
    return _or_not_yet(await request.app[DOCUMENTS].history_document(query, at))


async def _envoys(request: web.Request) -> web.Response:
    return json_response(request.app[DOCUMENTS].envoys_document())


async def _config(request: web.Request) -> web.Response:
    return json_response(request.app[DOCUMENTS].config_document())


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


async def _events(request: web.Request) -> web.StreamResponse:
    documents = request.app[DOCUMENTS]
    states: dict[str, Callable[[], Document | None]] = {
        "config": documents.config_document,
        "fleet": documents.fleet_document,
        "plan": documents.plan_document,
        "envoys": documents.envoys_document,
        "overview": documents.overview_document,
    }
    kinds = frozenset(filter(None, request.query.get("kinds", "").split(","))) or ALL_STATES
    if unknown := kinds - states.keys():
        return json_error(400, f"no kind '{min(unknown)}'; known: {', '.join(states)}")
    watcher = documents.events.watch(kinds, peer=request.remote or "")
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a request is served by a task")
    streams = request.app[_STREAMS]
    streams.add(task)
    stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    _add_headers(stream.headers)
    deflate = None
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        stream.headers["Content-Encoding"] = "gzip"
        deflate = zlib.compressobj(level=3, wbits=zlib.MAX_WBITS | 16)
    try:
        await stream.prepare(request)
        for kind, make in states.items():
            if kind in kinds and (document := make()) is not None:
                event = b"event: %b\ndata: %b\n\n" % (kind.encode(), dump(document))
                await _send(stream, event, deflate)
        while True:
            pending = b": still here\n\n"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT):
                    pending = await watcher.next_bytes()
            await _send(stream, pending, deflate)
    except (ConnectionError, TimeoutError, WatcherReplaced):
        return stream
    finally:
        streams.discard(task)
        documents.events.forget(watcher)


async def _send(stream: web.StreamResponse, content: bytes, deflate: Any) -> None:
    if deflate is not None:

        def compress() -> bytes:
            packed: bytes = deflate.compress(content) + deflate.flush(zlib.Z_SYNC_FLUSH)
            return packed

        large = len(content) > COMPRESS_IN_THREAD
        content = await asyncio.to_thread(compress) if large else compress()
    async with asyncio.timeout(WRITE_TIMEOUT):
        await stream.write(content)


async def _end_streams(application: web.Application) -> None:
    streams = application[_STREAMS]
    for task in tuple(streams):
        task.cancel()
