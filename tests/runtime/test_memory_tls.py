"""TLS without a socket: records of a real client in, records out."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest

from controlplane.runtime.memory_tls import MemoryTls
from testbed.fakes.certificates import Authority


class Peer:
    """A client's side, of Python's own library."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")

    def greet(self, server: MemoryTls) -> None:
        """Complete the handshake, as far as both sides agree."""
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            server.receive(self._outgoing.read())
            server.read()
            self._incoming.write(server.encrypt(b""))

    def send(self, data: bytes) -> bytes:
        """Return *data* as records."""
        self.tls.write(data)
        return self._outgoing.read()

    def read(self, records: bytes) -> bytes:
        """Decrypt *records*."""
        self._incoming.write(records)
        parts = []
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.tls.read():
                parts.append(data)
        return b"".join(parts)


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context that demands a certificate, and a client's that shows one."""
    authority = Authority(tmp_path)
    own, client = authority.issue("localhost"), authority.issue("spiffe://fleet/envoy/a")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca))
    server.load_cert_chain(own.cert, own.key)
    server.verify_mode = ssl.CERT_REQUIRED
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.load_cert_chain(client.cert, client.key)
    return server, context


@pytest.mark.parametrize("size", [1, 16_384, 16_385, 100_000])
def test_bytes_of_any_size_cross_both_ways(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], size: int
) -> None:
    """In order, whatever the records' bounds, and with the client's names."""
    server, peer = MemoryTls(contexts[0]), Peer(contexts[1])
    peer.greet(server)
    content = bytes(number % 251 for number in range(size))
    records = peer.send(content)
    received = b""
    for offset in range(0, len(records), 10_000):
        server.receive(records[offset : offset + 10_000])
        received += server.read()

    assert ("spiffe://fleet/envoy/a",) == server.peer_names
    assert content == received
    assert content == peer.read(server.encrypt(content))


def test_the_peers_goodbye_and_ours_end_the_connection(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """A connection that ends well reports no error."""
    server, peer = MemoryTls(contexts[0]), Peer(contexts[1])
    peer.greet(server)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.tls.unwrap()
    server.receive(peer._outgoing.read())
    server.read()

    assert server.ended
    assert not server.error
    assert server.close()


@pytest.mark.parametrize("records", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
def test_what_is_no_handshake_ends_it_with_its_error(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], records: bytes
) -> None:
    """The peer is sent an alert where TLS has one."""
    server = MemoryTls(contexts[0])
    server.receive(records)

    assert server.read() == b""
    assert server.ended
    assert not server.ready
    assert server.error
