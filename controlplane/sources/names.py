"""Resolves the DNS names of instances, again and again, and keeps the last good answer.

The system's resolver is asked, which keeps answers for their time to live itself where it is a
caching one, as in Kubernetes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection, Mapping

from controlplane.runtime.log import Logger

PERIOD = 5.0
"""Seconds between two looks at every name."""
PATIENCE = 3.0
"""Seconds that one answer may take."""
REMINDER = 60.0
"""Seconds between two warnings of one name."""
AT_ONCE = 20


def first_choice(addresses: Collection[str]) -> str:
    """Return the one of an answer's *addresses* that is used while none of them is in use yet."""
    # IPv4 first: what speaks both is often reached by it alone.
    return min(addresses, key=lambda ip: (ipaddress.ip_address(ip).version, ip))


class NameResolver:
    """Holds the address of every name that instances have.

    Args:
        on_change: is called with all addresses (name -> IP) whenever one is another.
        log: gets a warning, at most one a minute, for a name that has no address.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        on_change: Callable[[Mapping[str, str]], None],
        *,
        log: Logger,
        clock: Callable[[], float],
    ) -> None:
        self._on_change = on_change
        self._log = log
        self._clock = clock
        self._names: frozenset[str] = frozenset()
        self._warned: dict[str, float] = {}
        self._wake = asyncio.Event()
        self.addresses: dict[str, str] = {}

    def reconfigure(self, names: Collection[str]) -> None:
        """Set which names there are; addresses of the others are forgotten."""
        self._names = frozenset(names)
        self.addresses = {name: ip for name, ip in self.addresses.items() if name in self._names}
        self._warned = {name: at for name, at in self._warned.items() if name in self._names}
        self._wake.set()

    async def run(self) -> None:
        """Resolve until cancelled."""
        while True:
            self._wake.clear()
            await self.resolve()
            try:
                async with asyncio.timeout(PERIOD):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def resolve(self) -> None:
        """Look at every name once."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> tuple[str, str | None]:
            async with gate:
                return name, await self._resolve(name)

        found = await asyncio.gather(*map(one, sorted(self._names)))
        addresses = {name: ip for name, ip in found if ip is not None and name in self._names}
        if addresses != self.addresses:
            self.addresses = addresses
            self._on_change(dict(addresses))

    async def _resolve(self, name: str) -> str | None:
        """Return the address of *name*: the one in use while it is among the answers."""
        last = self.addresses.get(name)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(PATIENCE):
                answers = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a timeout is an OSError
            self._warn(name, str(error) or type(error).__name__, last)
            return last
        addresses = {str(answer[4][0]) for answer in answers if "%" not in str(answer[4][0])}
        if not addresses:
            self._warn(name, "the answer has no address", last)
            return last
        if last in addresses:
            return last
        return first_choice(addresses)

    def _warn(self, name: str, reason: str, last: str | None) -> None:
        now = self._clock()
        if now - self._warned.get(name, -REMINDER) >= REMINDER:
            self._warned[name] = now
            self._log.warning(
                "DNS name of an instance not resolved",
                name=name,
                reason=reason,
                previous=last,
                remedy="see the name and the resolver; the last address stays in use"
                if last
                else "see the name and the resolver; its instances get no requests until then",
            )
