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


class Scrape(Protocol):
    """Where metrics are read."""

    @property
    def url(self) -> str: ...  # noqa: D102
    @property
    def period(self) -> float: ...  # noqa: D102
    @property
    def timeout(self) -> float: ...  # noqa: D102
    @property
    def ca(self) -> str | None: ...  # noqa: D102
    @property
    def cert(self) -> str | None: ...  # noqa: D102
    @property
    def key(self) -> str | None: ...  # noqa: D102
    @property
    def token_file(self) -> str | None: ...  # noqa: D102
    @property
    def labels(self) -> Mapping[str, str]: ...  # noqa: D102


def new_session() -> aiohttp.ClientSession:
    """Return a session as scrapes need it."""
    return plain_session(accept="application/openmetrics-text;q=0.5,text/plain;version=0.0.4")


async def fetch_page(scrape: Scrape, session: aiohttp.ClientSession) -> str:
    """Return the text at *scrape*'s URL, once.

    Raises:
        ReportError: the answer is not what was asked for.
        aiohttp.ClientError, OSError, ValueError: no answer.
    """
    trust = build_trust(scrape)
    return decode_exposition(await fetch(scrape, session, url=scrape.url, trust=trust))


async def fetch_once(scrape: Scrape) -> str:
    """Return the text at *scrape*'s URL, by a session of its own; raises as `fetch_page`."""
    async with new_session() as session:
        return await fetch_page(scrape, session)


def remedy_of(error: Exception) -> tuple[str, str]:
    """Return why a page could not be read, and what an operator can do about it."""
    if isinstance(error, TimeoutError):
        return "no answer within scrape.timeout", (
            "see whether it hangs or a firewall drops packets; raise scrape.timeout if it is slow"
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
            return reason, "see the host name in scrape.url"
        case aiohttp.ClientConnectorError():
            return reason, "see whether it runs, and whether a firewall stands between"
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            return reason, "it closed the connection; see its log, and whether it speaks HTTP there"
        case ReportError():
            return reason, _remedy_of_answer(reason)
        case aiohttp.ClientError():
            return reason, "see whether http:// or https:// is right in scrape.url"
    return reason, "see the file that it names, and who may read it"


def _remedy_of_answer(reason: str) -> str:
    if reason.startswith(("status 401", "status 403")):
        return "set scrape.token_file to a bearer token that may read it"
    if reason.startswith("status 404"):
        return "see the path in scrape.url, and whether its metrics are switched on"
    if reason.startswith("status"):
        return "see its own log"
    if reason.startswith("answered in"):
        return "make it answer without compression, which is not asked for"
    if reason.startswith("redirected"):
        return "write the final URL"
    if reason.startswith("metrics of"):
        return "have it export less, or scrape it through a relay that drops what is not needed"
    return "see whether scrape.url is its page of metrics, and instances[].engine the right one"


def build_trust(scrape: Scrape) -> ssl.SSLContext | bool:
    """Return whom to trust, the system's authorities or its own, and what to show.

    Raises:
        OSError: a file cannot be read, or a key is not its certificate's.
    """
    if scrape.ca is None and scrape.cert is None:
        return True
    return client_context(scrape.ca, cert=scrape.cert, key=scrape.key)


async def fetch(
    scrape: Scrape, session: aiohttp.ClientSession, *, url: str, trust: ssl.SSLContext | bool
) -> bytes:
    """Return the body at *url*, asked for as *scrape* says; raises as `fetch_page`."""
    headers = {}
    if scrape.token_file is not None:
        headers["Authorization"] = f"Bearer {read_token(scrape.token_file)}"
    async with session.get(
        url,
        headers=headers,
        ssl=trust,
        timeout=aiohttp.ClientTimeout(total=scrape.timeout),
        allow_redirects=False,
    ) as response:
        if 300 <= response.status < 400:
            where = response.headers.get("Location", "")[:200]
            raise ReportError(f"redirected to {where!r}; give that as scrape.url instead")
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
