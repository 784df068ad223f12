"""Addresses of ports as people write them."""

from __future__ import annotations

import ipaddress

Address = tuple[str, int]
"""Host and port; port 0 takes a free one."""


def join_address(address: Address) -> str:
    """Return ``HOST:PORT``, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach *host*."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
