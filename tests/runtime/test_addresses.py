"""Addresses of ports: written, and known as this machine's own."""

from __future__ import annotations

import pytest

from controlplane.runtime.addresses import is_loopback, join_address


def test_an_ipv6_host_is_bracketed() -> None:
    """So that its port can be read."""
    assert "127.0.0.1:80" == join_address(("127.0.0.1", 80))
    assert "[::1]:80" == join_address(("::1", 80))


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.2", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("cp", False)],
)
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    """Only addresses that no one else reaches count."""
    assert expected == is_loopback(host)
