"""The HTTP session by which sources are asked: nothing of the environment, nothing packed."""

from __future__ import annotations

import aiohttp


def plain_session(*, accept: str, keep_alive: bool = True) -> aiohttp.ClientSession:
    """Return a session without cookies, proxies or compressed bodies, for answers of *accept*.

    Calls that are seldom keep no connection alive between them.
    """
    return aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        # What is packed can be larger than it looks.
        auto_decompress=False,
        headers={"Accept": accept, "Accept-Encoding": "identity", "User-Agent": "cats"},
        connector=aiohttp.TCPConnector(limit=0, force_close=not keep_alive),
    )
