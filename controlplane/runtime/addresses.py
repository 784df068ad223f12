"""Addresses of ports as people write them."""

from __future__ import annotations

Address = tuple[str, int]
"""Host and port; port 0 takes a free one."""


def join_address(address: Address) -> str:
    """Return ``HOST:PORT``, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
