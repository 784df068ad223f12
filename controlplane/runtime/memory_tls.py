"""TLS of one connection without a socket: records in and out, and what they carry.

asyncio's own layer holds 256 kB for each connection from the start; here a connection holds a
record or two, and what waits for its socket can wait as plain bytes that many connections share.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

PLAIN = 1 << 16
"""Bytes that are decrypted at once."""


def certificate_names(certificate: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the subject alternative names of what `ssl.SSLObject.getpeercert` returns."""
    return tuple(str(name[1]) for name in (certificate or {}).get("subjectAltName", ()))


class MemoryTls:
    """The server's side of one TLS connection.

    Attributes:
        ready: whether the handshake is complete.
        ended: whether nothing more can be read, because the peer has closed or broken the rules.
        error: what broke, in OpenSSL's words; empty without.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self.ready = self.ended = False
        self.error = ""

    @property
    def peer_names(self) -> tuple[str, ...]:
        """Subject alternative names of the peer's certificate; empty if it has shown none."""
        return certificate_names(self._tls.getpeercert())

    def receive(self, records: bytes) -> None:
        """Keep records until they are read."""
        self._incoming.write(records)

    def read(self) -> bytes:
        """Continue the handshake, or decrypt what has arrived; empty if there is nothing."""
        parts: list[bytes] = []
        try:
            if not self.ready:
                self._tls.do_handshake()
                self.ready = True
            while data := self._tls.read(PLAIN):
                parts.append(data)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self.ended, self.error = True, error.reason or str(error)
        return b"".join(parts)

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """Return *data* as records, after those that TLS itself has to send."""
        # Record by record, since OpenSSL's buffer keeps the size that it once had.
        rest, records = memoryview(data), [self._outgoing.read()]
        while rest:
            rest = rest[self._tls.write(rest) :]
            records.append(self._outgoing.read())
        return b"".join(records)

    def close(self) -> bytes:
        """Return the record that announces the end."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        return self._outgoing.read()
