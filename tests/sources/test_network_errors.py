"""Reasons of failed connections: the cause and the address, and nothing of the process."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from controlplane.runtime.tls import client_context
from controlplane.sources.network_errors import reason_of
from testbed.fakes.certificates import Authority, server_context
from testbed.fakes.web_servers import serving_routes
from testbed.processes.ports import free_port


@contextlib.asynccontextmanager
async def answering(tls: ssl.SSLContext) -> AsyncIterator[str]:
    """Serve an empty answer; the URL."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    async with serving_routes(web.get("/", answer), tls=tls) as port:
        yield f"https://127.0.0.1:{port}/"


async def reason(url: str, trust: ssl.SSLContext) -> str:
    """Return the reason why *url* cannot be read; empty if it can."""
    async with aiohttp.ClientSession() as session:
        try:
            async with session.get(url, ssl=trust):
                return ""
        except (aiohttp.ClientError, OSError) as error:
            return reason_of(error)


async def test_a_refused_connection_names_the_address_alone(tmp_path: Path) -> None:
    """Without the TLS context's place in memory."""
    port = free_port()
    trust = client_context(str(Authority(tmp_path).ca))

    assert f"connection refused by 127.0.0.1:{port}" == await reason(
        f"https://127.0.0.1:{port}/", trust
    )


async def test_a_name_that_does_not_resolve_is_named(tmp_path: Path) -> None:
    """As it is the address that has to be fixed."""
    trust = client_context(str(Authority(tmp_path).ca))

    assert (await reason("https://nowhere.invalid/", trust)).startswith(
        "cannot resolve nowhere.invalid: "
    )


@pytest.mark.parametrize("strict", [False, True], ids=["python 3.12", "python 3.13"])
async def test_an_authority_without_key_identifiers_is_trusted_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, strict: bool
) -> None:
    """Chain, names and dates are still verified; from 3.13 on Python's default is strict."""
    make = ssl.create_default_context

    def default(*args: object, **kwargs: object) -> ssl.SSLContext:
        context = make(*args, **kwargs)  # type: ignore[arg-type]
        if strict:
            context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", default)
    ours = Authority(tmp_path, identified=False)
    other = Authority(tmp_path, name="other", identified=False)
    trust = client_context(str(ours.ca))
    async with (
        answering(server_context(ours.issue("127.0.0.1"))) as right,
        answering(server_context(ours.issue("10.0.0.1"))) as misnamed,
        answering(server_context(ours.issue("127.0.0.1", lasts=-60.0))) as expired,
        answering(server_context(other.issue("127.0.0.1"))) as unsigned,
    ):
        reasons = await asyncio.gather(
            *(reason(url, trust) for url in (right, misnamed, expired, unsigned))
        )

    assert "" == reasons[0]
    assert "certificate rejected: IP address mismatch" in reasons[1]
    assert "certificate rejected: certificate has expired" in reasons[2]
    assert "certificate rejected: unable to get local issuer certificate" in reasons[3]
    assert not any(" at 0x" in text for text in reasons)
