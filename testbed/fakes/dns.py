"""A DNS server on loopback whose records a test sets [RFC 1035, section 4]."""

from __future__ import annotations

import asyncio
import ipaddress
import struct
from types import TracebackType
from typing import Self

A, CNAME, SOA, AAAA = 1, 5, 6, 28
_INTERNET = 1
_ANSWER, _NO_SUCH_NAME = 0x8180, 0x8183
"""Flags: an answer to a question that asked for recursion, without error and with NXDOMAIN."""

_NEGATIVE_TTL = 1
"""Seconds that it does not exist, of a name or a type; without it a client may choose."""


class DnsServer(asyncio.DatagramProtocol):
    """Answers over UDP; an asynchronous context manager.

    Attributes:
        records: name -> (TTL in seconds, IP addresses); an alias has its target instead of those.
        asked: the names of all questions so far, once for each type.
        silent: whether it answers nothing.
    """

    def __init__(self) -> None:
        self.records: dict[str, tuple[int, list[str] | str]] = {}
        self.asked: list[str] = []
        self.silent = False
        self._transport: asyncio.DatagramTransport | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._transport is not None
        self._transport.close()

    @property
    def address(self) -> str:
        """Return HOST:PORT."""
        assert self._transport is not None
        return f"127.0.0.1:{self._transport.get_extra_info('sockname')[1]}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        name, end = _read_name(data)
        (kind,) = struct.unpack_from("!H", data, end)
        self.asked.append(name)
        if self.silent:
            return
        answers = self._answers(name, kind)
        flags = _ANSWER if name in self.records else _NO_SUCH_NAME
        authority = [] if answers else [_authority()]
        head = data[:2] + struct.pack("!5H", flags, 1, len(answers), len(authority), 0)
        assert self._transport is not None
        self._transport.sendto(head + data[12 : end + 4] + b"".join(answers + authority), addr)

    def _answers(self, name: str, kind: int) -> list[bytes]:
        ttl, held = self.records.get(name, (0, []))
        if isinstance(held, str):
            alias = _record(name, CNAME, ttl, _write_name(held))
            return [alias, *self._answers(held, kind)]
        addresses = map(ipaddress.ip_address, held)
        version = {A: 4, AAAA: 6}.get(kind)
        return [_record(name, kind, ttl, ip.packed) for ip in addresses if ip.version == version]


def _read_name(data: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while size := data[at]:
        labels.append(data[at + 1 : at + 1 + size].decode("ascii").lower())
        at += 1 + size
    return ".".join(labels), at + 1


def _write_name(name: str) -> bytes:
    labels = name.split(".") if name else []
    return b"".join(bytes([len(each)]) + each.encode() for each in labels) + b"\0"


def _authority() -> bytes:
    """Write the root's SOA, by which the absence of a name expires [RFC 2308, section 5]."""
    return _record("", SOA, _NEGATIVE_TTL, b"\0\0" + struct.pack("!5I", 1, 1, 1, 1, _NEGATIVE_TTL))


def _record(name: str, kind: int, ttl: int, content: bytes) -> bytes:
    head = struct.pack("!HHIH", kind, _INTERNET, ttl, len(content))
    return _write_name(name) + head + content
