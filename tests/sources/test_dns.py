"""Questions to a DNS server on loopback, by c-ares."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from controlplane.sources.dns import Answer, DnsResolver
from testbed.fakes.dns import DnsServer


class System:
    """What the system's resolver says: the addresses of every name, or that there is none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self._answer)

    async def _answer(self, name: str, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(name)
        if not self.addresses:
            raise socket.gaierror(-2, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in self.addresses]


async def test_an_answer_holds_as_long_as_its_shortest_record() -> None:
    """Addresses of both families; an alias counts too."""
    async with DnsServer() as server:
        server.records = {
            "a.example": (60, ["10.0.0.1", "10.0.0.2", "2001:db8::1"]),
            "alias.example": (7, "a.example"),
            "six.example": (20, ["2001:db8::2"]),
        }
        with DnsResolver([server.address]) as dns:
            found = {name: await dns.look_up(name) for name in server.records}
    both = frozenset({"10.0.0.1", "10.0.0.2", "2001:db8::1"})
    assert {
        "a.example": Answer(both, 60.0),
        "alias.example": Answer(both, 7.0),
        "six.example": Answer(frozenset({"2001:db8::2"}), 20.0),
    } == found


async def test_the_server_is_not_asked_again_while_an_answer_holds() -> None:
    """However often its name is looked up."""
    async with DnsServer() as server:
        server.records = {"a.example": (3600, ["10.0.0.1"])}
        with DnsResolver([server.address]) as dns:
            found = [await dns.look_up("a.example") for _ in range(3)]
    assert [{"10.0.0.1"}] * 3 == [each.addresses for each in found]
    assert ["a.example"] * 2 == server.asked  # once for each family


async def test_an_address_family_that_appears_is_seen_after_a_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its absence is not kept for longer, and addresses are kept until then."""
    async with DnsServer() as server:
        server.records = {"a.example": (3600, ["10.0.0.1"])}
        with DnsResolver([server.address]) as dns:
            await dns.look_up("a.example")
            server.records = {"a.example": (3600, ["10.0.0.1", "2001:db8::1"])}
            dns.renew()
            early = await dns.look_up("a.example")
            monkeypatch.setattr("controlplane.sources.dns.RENEWED_AFTER", 0.0)
            dns.renew()
            late = await dns.look_up("a.example")
    assert {"10.0.0.1"} == early.addresses
    assert {"10.0.0.1", "2001:db8::1"} == late.addresses


async def test_the_hosts_file_comes_first() -> None:
    """No server is asked, and none says how long it holds."""
    async with DnsServer() as server:
        with DnsResolver([server.address]) as dns:
            found = await dns.look_up("localhost")
    assert "127.0.0.1" in found.addresses
    assert found.ttl is None
    assert [] == server.asked


async def test_what_dns_does_not_know_the_system_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a name of mDNS; one that it does not know either is an error with its reason."""
    async with DnsServer() as server:
        with DnsResolver([server.address]) as dns:
            System(monkeypatch, "10.0.0.9", "fe80::1%eth0")
            found = await dns.look_up("printer.example")
            System(monkeypatch)
            with pytest.raises(OSError, match="Name or service not known"):
                await dns.look_up("typo.example")
    assert Answer(frozenset({"10.0.0.9"})) == found


async def test_a_silent_server_is_an_error_and_occupies_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system would wait for the same server."""
    monkeypatch.setattr("controlplane.sources.dns.TRY_WITHIN", 0.05)
    system = System(monkeypatch, "10.0.0.9")
    async with DnsServer() as server:
        server.silent = True
        with DnsResolver([server.address]) as dns:
            with pytest.raises(OSError, match=r"[Tt]imeout"):
                await dns.look_up("a.example")
    assert server.asked
    assert [] == system.asked
