"""Fetches a page of metrics, and says why it could not be read and what to do about it.

What the page means is `controlplane.telemetry`'s business; when it is fetched that of `scrape`.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Protocol

import aiohttp

from controlplane.errors import ReportError
from controlplane.runtime.tls import client_context
from controlplane.sources.http_session import plain_session
from controlplane.sources.network_errors import reason_of
from controlplane.sources.tokens import read_token
from controlplane.telemetry import decode_exposition
from controlplane.telemetry.exposition import MAX_TEXT

CHUNK = 65_536


class Trust(Protocol):
    """Whom to trust, and what to show: files of certificates and a key."""

    @property
    def ca(self) -> str | None: ...  # noqa: D102
    @property
    def cert(self) -> str | None: ...  # noqa: D102
    @property
    def key(self) -> str | None: ...  # noqa: D102


class Page(Trust, Protocol):
    """How a page is asked for."""

    @property
    def timeout(self) -> float: ...  # noqa: D102
    @property
    def token_file(self) -> str | None: ...  # noqa: D102


class Scrape(Page, Protocol):
    """Where metrics are read."""

    @property
    def url(self) -> str: ...  # noqa: D102
    @property
    def period(self) -> float: ...  # noqa: D102
    @property
    def labels(self) -> Mapping[str, str]: ...  # noqa: D102


def new_session() -> aiohttp.ClientSession:
    """Return a session as scrapes need it."""
    return plain_session(accept="application/openmetrics-text;q=0.5,text/plain;version=0.0.4")


async def fetch_page(page: Page, session: aiohttp.ClientSession, *, url: str) -> str:
    """Return the text at *url*, once.

    Raises:
        ReportError: the answer is not what was asked for.
        aiohttp.ClientError, OSError, ValueError: no answer.
    """
    trust = build_trust(page)
    return decode_exposition(await fetch(page, session, url=url, trust=trust))


async def fetch_once(scrape: Scrape) -> str:
    """Return the text at *scrape*'s URL, by a session of its own; raises as `fetch_page`."""
    async with new_session() as session:
        return await fetch_page(scrape, session, url=scrape.url)


def remedy_of(error: Exception) -> tuple[str, str]:
    """Return why a page could not be read, and what an operator can do about it."""
    if isinstance(error, TimeoutError):
        return "no answer within scrape.timeout", (
            "check whether it hangs or a firewall drops packets; raise scrape.timeout if it is slow"
        )
    reason = reason_of(error)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"TLS: {reason}", "set scrape.ca to the authority that signed its certificate"
        case aiohttp.ClientConnectorSSLError() | ssl.SSLError():
            return f"TLS: {reason}", (
                "see whether it speaks TLS there, which versions, and whether it asks for a client "
                "certificate (scrape.cert)"
            )
        case aiohttp.ClientConnectorDNSError():
            return reason, "check the host name in scrape.url"
        case aiohttp.ClientConnectorError():
            return reason, "check that it runs, and that no firewall blocks the port"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return (
                reason,
                "it closed the connection; check its log, and that it speaks HTTP on this port",
            )
        case ReportError():
            return reason, _remedy_of_answer(reason)
        case aiohttp.ClientError():
            return reason, "check http:// or https:// in scrape.url"
    return reason, "check the file that it names, and its permissions"


def _remedy_of_answer(reason: str) -> str:
    if reason.startswith(("status 401", "status 403")):
        return "set scrape.token_file to a bearer token that may read it"
    if reason.startswith("status 404"):
        return "check the path in scrape.url, and that its metrics are enabled"
    if reason.startswith("status"):
        return "see its own log"
    if reason.startswith("answered in"):
        return "configure it to answer uncompressed"
    if reason.startswith("redirected"):
        return "set the final URL"
    if reason.startswith("metrics of"):
        return "have it export less, or scrape it through a relay that drops what is not needed"
    return "check that scrape.url is its metrics page, and that instances[].engine is right"


def build_trust(trust: Trust) -> ssl.SSLContext | bool:
    """Return whom to trust, the system's authorities or its own, and what to show.

    Raises:
        OSError: a file cannot be read, or a key is not its certificate's.
    """
    if trust.ca is None and trust.cert is None:
        return True
    return client_context(trust.ca, cert=trust.cert, key=trust.key)


async def fetch(
    page: Page, session: aiohttp.ClientSession, *, url: str, trust: ssl.SSLContext | bool
) -> bytes:
    """Return the body at *url*, asked for as *page* says; raises as `fetch_page`."""
    headers = {}
    if page.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(page.token_file)}"
    async with session.get(
        url,
        headers=headers,
        ssl=trust,
        timeout=aiohttp.ClientTimeout(total=page.timeout),
        allow_redirects=False,
    ) as response:
        if 300 <= response.status < 400:
            where = response.headers.get("Location", "")[:200]
            raise ReportError(f"redirected to {where!r}; set scrape.url to that")
        if response.status != 200:
            raise ReportError(f"status {response.status}")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise ReportError(f"answered in {encoding[:40]!r}, which was not asked for")
        body = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK):
            body += chunk
            if len(body) > MAX_TEXT:
                raise ReportError(f"metrics of more than {MAX_TEXT} bytes")
        return bytes(body)
