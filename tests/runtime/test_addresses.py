"""Addresses of ports: as people write them."""

from __future__ import annotations

from controlplane.runtime.addresses import join_address


def test_an_ipv6_host_is_bracketed() -> None:
    """So that its port can be read."""
    assert "127.0.0.1:80" == join_address(("127.0.0.1", 80))
    assert "[::1]:80" == join_address(("::1", 80))
