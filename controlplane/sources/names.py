"""Resolves the DNS names of instances when answers expire, and keeps the last good answer."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Mapping

from controlplane.config.addresses import reachable_ip
from controlplane.runtime.log import Logger
from controlplane.sources.dns import Answer, DnsResolver

PERIOD = 5.0
"""Seconds to the next look at a name without a known TTL, and at one that was not resolved."""
SHORTEST, LONGEST = 1.0, 300.0
"""Seconds within which a TTL counts: /etc/hosts may say otherwise before a long one has passed."""
PATIENCE = 3.0
"""Seconds that one answer may take."""
REMINDER = 60.0
"""Seconds between two warnings of one name."""
AT_ONCE = 200


def usable_addresses(answer: Answer) -> set[str]:
    """Return the addresses of an answer that an instance can have, as they are connected to.

    Filtering resolvers answer 0.0.0.0, which would be the Envoy's own machine.

    Raises:
        OSError: it has none.
    """
    usable = {ip for each in answer.addresses if (ip := reachable_ip(each)) is not None}
    if not usable:
        raise OSError(f"no instance can have the address {', '.join(sorted(answer.addresses))}")
    return usable


def first_choice(addresses: Collection[str]) -> str:
    """Return the one of an answer's *addresses* that is used while none of them is in use yet."""
    # IPv4 first: what speaks both is often reached by it alone.
    return min(addresses, key=lambda ip: (ipaddress.ip_address(ip).version, ip))


class NameResolver:
    """Holds the address of every name that instances have; close it, unless its `run` is awaited.

    Args:
        on_change: is called with all addresses (name -> IP) whenever one is another.
        log: gets a warning, at most one a minute, for a name that has no address.
        clock: seconds, monotonic.
        look_up: resolves one name, or raises `OSError`; by default a `DnsResolver`'s.
    """

    def __init__(
        self,
        on_change: Callable[[Mapping[str, str]], None],
        *,
        log: Logger,
        clock: Callable[[], float],
        look_up: Callable[[str], Awaitable[Answer]] | None = None,
    ) -> None:
        self._dns = DnsResolver()
        self._look_up = look_up or self._dns.look_up
        self._on_change = on_change
        self._log = log
        self._clock = clock
        self._names: frozenset[str] = frozenset()
        self._due: dict[str, float] = {}
        """Name -> when it is looked up again; at once if it is not here."""
        self._warned: dict[str, float] = {}
        self._wake = asyncio.Event()
        self.addresses: dict[str, str] = {}

    def reconfigure(self, names: Collection[str]) -> None:
        """Set which names there are; addresses of the others are forgotten."""
        self._names = frozenset(names)
        self.addresses = {name: ip for name, ip in self.addresses.items() if name in self._names}
        self._warned = {name: at for name, at in self._warned.items() if name in self._names}
        self._due = {name: at for name, at in self._due.items() if name in self._names}
        self._wake.set()

    def close(self) -> None:
        """End the questions that are under way."""
        self._dns.close()

    async def run(self) -> None:
        """Resolve until cancelled."""
        with contextlib.closing(self):
            while True:
                self._wake.clear()
                await self.resolve()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._pause()):
                        await self._wake.wait()

    def _pause(self) -> float | None:
        """Return the seconds until a name is due; None without names."""
        if not self._names:
            return None
        # Answers of about one age are renewed together.
        first = min(self._due.get(name, 0.0) for name in self._names)
        return max(first - self._clock(), SHORTEST)

    async def resolve(self) -> None:
        """Look at every name that is due."""
        self._dns.renew()
        now = self._clock()
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> tuple[str, str | None]:
            async with gate:
                return name, await self._resolve(name)

        changed = False
        due = sorted(name for name in self._names if self._due.get(name, now) <= now)
        for name, ip in await asyncio.gather(*map(one, due)):
            if ip is not None and name in self._names and ip != self.addresses.get(name):
                changed = True
                self.addresses[name] = ip
        if changed:
            self._on_change(dict(self.addresses))

    async def _resolve(self, name: str) -> str | None:
        """Return the address of *name*: the one in use while it is among the answers."""
        last = self.addresses.get(name)
        try:
            async with asyncio.timeout(PATIENCE):
                answer = await self._look_up(name)
            usable = usable_addresses(answer)
        except OSError as error:  # a timeout is one
            self._due[name] = self._clock() + PERIOD
            self._warn(name, str(error) or "no answer in time", last)
            return last
        ttl = PERIOD if answer.ttl is None else min(max(answer.ttl, SHORTEST), LONGEST)
        self._due[name] = self._clock() + ttl
        return last if last in usable else first_choice(usable)

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
