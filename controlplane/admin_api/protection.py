"""Which requests the admin port refuses before anything is read: foreign hosts, pages and people.

There is no CORS, so no foreign page can read an answer; on a loopback address the Host header must
be a loopback name, so that a foreign name rebound to 127.0.0.1 is refused. Off loopback a token or
a certificate is asked for (`controlplane.auth.admin_tokens`), but for health.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from controlplane.admin_api.answers import add_headers, json_error
from controlplane.admin_api.port import REQUEST_WITHIN, guard_of
from controlplane.auth.admin_tokens import Login
from controlplane.config.addresses import is_loopback

_OPEN = frozenset({"/healthz", "/readyz"})
"""Asked by kubelets and load balancers, which have no secrets; they say one word."""


def secure(*, check_host: bool, login: Login | None) -> Middleware:
    """Make the middleware that checks host and login."""

    @web.middleware
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

    return answer


@web.middleware
async def count_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count a connection as in use while a request of it is answered."""
    if request.can_read_body:
        # Before it counts as in use: what never comes holds no seat.
        refusal = await _receive_body(request)
        if refusal is not None:
            return refusal
    guard = guard_of(request)
    with contextlib.nullcontext() if guard is None else guard.answering():
        return await handler(request)


async def _receive_body(request: web.Request) -> web.Response | None:
    """Wait for the request's body; return what to answer where it does not come."""
    try:
        async with asyncio.timeout(REQUEST_WITHIN):
            await request.read()
    except TimeoutError:
        response = json_error(408, f"the body did not come within {REQUEST_WITHIN:g} s")
    except web.HTTPRequestEntityTooLarge:
        response = json_error(413, f"a body has at most {request.client_max_size} bytes")
    except (ConnectionError, web.RequestPayloadError):
        response = json_error(400, "the body is cut")
    else:
        return None
    response.force_close()
    add_headers(response.headers)
    return response


def _is_loopback_name(header: str) -> bool:
    host, colon, port = header.rpartition(":")
    if not colon or not port.isdecimal():
        host = header
    return is_loopback(host.strip("[]").lower())


def refuse_foreign(request: web.Request) -> web.Response | None:
    """Refuse a change that a page of another origin asks for through its reader's browser."""
    origin = request.headers.get("Origin")
    same = origin is None or origin.partition("://")[2] == request.headers.get("Host")
    if same and request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return None
    return json_error(403, "a foreign page may not change anything")
