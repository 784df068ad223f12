"""Asks for the addresses of DNS names, and how long the answers hold.

c-ares does the work: it reads /etc/hosts and /etc/resolv.conf as the system does, reads them again
when they change, keeps answers for their time to live, and needs no thread for each question, which
``getaddrinfo`` occupies for as long as a resolver is silent.
What it does not know, the system is asked for: it may have other sources (mDNS, a directory).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import pycares
from pycares import errno as reasons

TRY_WITHIN = 1.0
"""Seconds that one server has at first; each further try has twice as long."""
TRIES = 2
RENEWED_AFTER = 60.0
"""Seconds that a name or an address family may count as absent though it is there now."""
_SILENT = frozenset({reasons.ARES_ETIMEOUT, reasons.ARES_ECANCELLED, reasons.ARES_EDESTRUCTION})
"""Where the system would fare no better, and would need a thread for it."""
_AI_NOSORT = 1 << 7
"""Of c-ares' ares.h: no order, for which it would open a socket for each address."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name stands for."""

    addresses: frozenset[str]
    """IPv4 and IPv6; never empty."""
    ttl: float | None = None
    """Seconds that it holds, aliases included; None where no server said, as for /etc/hosts."""


class DnsResolver:
    """Asks; a context manager. Nothing is opened before the first question.

    Args:
        servers: HOST:PORT each; by default what /etc/resolv.conf names.
    """

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = servers
        self._channel: pycares.Channel | None = None
        self._opened_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def renew(self) -> None:
        """Forget what is not there; it ends questions that are under way.

        c-ares keeps an answer without a record for an hour, whatever its zone says.
        """
        if self._channel is not None and time.monotonic() - self._opened_at >= RENEWED_AFTER:
            self.close()

    def close(self) -> None:
        """End the questions that are under way."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def look_up(self, name: str) -> Answer:
        """Return the addresses of *name*.

        Raises:
            OSError: with the reason; there are none, or no server answers.
        """
        try:
            found, code = await self._ask(name)
        except pycares.AresError:  # no thread, or no file to watch with
            return await _ask_system(name)
        answer = None if found is None else _read(found)
        if answer is not None:
            return answer
        if code is not None and code in _SILENT:
            raise OSError(pycares.errno.strerror(code))
        return await _ask_system(name)

    async def _ask(self, name: str) -> tuple[pycares.AddrInfoResult | None, int | None]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[tuple[pycares.AddrInfoResult | None, int | None]]
        future = loop.create_future()

        def settle(found: pycares.AddrInfoResult | None, code: int | None) -> None:
            if not future.done():
                future.set_result((found, code))

        def answered(found: pycares.AddrInfoResult | None, code: int | None) -> None:
            # In c-ares' thread; a question may outlive its loop.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, found, code)

        if self._channel is None:
            self._opened_at = time.monotonic()
            self._channel = pycares.Channel(
                timeout=TRY_WITHIN, tries=TRIES, servers=self._servers or None
            )
        self._channel.getaddrinfo(
            name,
            None,
            family=socket.AF_UNSPEC,
            type=socket.SOCK_STREAM,
            flags=_AI_NOSORT,
            callback=answered,
        )
        return await future


def _read(found: pycares.AddrInfoResult) -> Answer | None:
    addresses = frozenset(
        address
        for node in found.nodes
        if "%" not in (address := node.addr[0].decode("ascii"))  # one link's alone
    )
    if not addresses:
        return None
    least = min([each.ttl for each in found.nodes] + [each.ttl for each in found.cnames])
    return Answer(addresses, float(least) if least > 0 else None)


async def _ask_system(name: str) -> Answer:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(str(error)) from error
    addresses = frozenset(str(each[4][0]) for each in found if "%" not in str(each[4][0]))
    if not addresses:
        raise OSError("the answer has no address")
    return Answer(addresses)
