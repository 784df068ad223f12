"""Addresses as operators write them: checked, never resolved."""

from __future__ import annotations

import functools
import ipaddress
import re
from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

_DNS_NAME = re.compile(
    r"([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?\.)*(?=[a-z0-9-]*[a-z])[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
)
"""Labels with dots between; the last one is no number, or an address with a slip would be one."""


def is_ip(text: str) -> bool:
    """Return whether *text* is an IP address, IPv6 without brackets."""
    return _ip(text) is not None


def canonical_ip(text: str) -> str | None:
    """Return an IP address in its one spelling, IPv6 without brackets; None if it is none."""
    ip = _ip(text)
    if ip is None:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    # Python's own spelling of these differs between its releases [RFC 5952, section 5].
    return ip.compressed if mapped is None else f"::ffff:{mapped}"


def is_dns_name(text: str) -> bool:
    """Return whether *text*, in lower case and without a final dot, is a DNS name."""
    return len(text) <= 253 and _DNS_NAME.fullmatch(text) is not None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach *host*."""
    ip = _ip(host)
    return host == "localhost" if ip is None else ip.is_loopback


_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^/@]*@)?(?P<rest>[^/?#]*).*", re.IGNORECASE)


def check_ip(text: str) -> str:
    """Pass an IP address on.

    Raises:
        PydanticCustomError: it is none.
    """
    if _ip(text) is None:
        raise PydanticCustomError(
            "ip", "'{text}' is not an IP address; write one such as 127.0.0.1", {"text": text}
        )
    return text


def check_endpoint(text: str) -> str:
    """Pass ``IP:PORT`` or ``[IPv6]:PORT`` of something that can be connected to on.

    Raises:
        PydanticCustomError: with what is missing.
    """
    if "${" in text or "{{" in text:
        raise _wrong(text, "looks like a template; render it first")
    if (url := _URL.fullmatch(text)) is not None:
        raise _wrong(text, f"is a URL; write only its address, {url['rest'] or '10.1.0.10:8000'}")
    host, colon, port = text.rpartition(":")
    if _ip(text) is not None and not (colon and "." in host):
        shown = f"[{text}]" if ":" in text else text
        raise _wrong(text, f"has no port; write {shown}:8000")
    if not colon or not host or text.endswith("]"):
        raise _wrong(text, "is not IP:PORT; write one such as 10.1.0.10:8000")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "%" in bare and _ip(bare.split("%")[0]) is not None:
        raise _wrong(
            text, "has a zone, which means nothing on another machine; write a routed address"
        )
    ip = _ip(bare)
    if ip is None:
        raise _wrong(
            text,
            "does not start with an IP address; write IP:PORT such as 10.1.0.10:8000",
        )
    if (ip.version == 6) != (bare != host):
        shown = f"[{bare}]:{port}" if ip.version == 6 else f"{bare}:{port}"
        raise _wrong(text, f"needs brackets around IPv6 only; write {shown}")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise _wrong(text, f"has port '{port}'; a port lies between 1 and 65535")
    _check_reachable(text, _reached(ip))
    return canonical_endpoint(text)


def _check_reachable(text: str, ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if ip.is_unspecified or ip.is_multicast:
        raise _wrong(text, "cannot be connected to; write the instance's own address")
    if ip.version == 6 and ip.is_link_local:
        raise _wrong(text, "holds on one link only and needs a zone there; write a routed address")


def reachable_ip(text: str) -> str | None:
    """Return an IP address as it is connected to; None for one that no instance can have."""
    ip = _ip(text)
    if ip is None:
        return None
    reached = _reached(ip)
    try:
        _check_reachable(text, reached)
    except PydanticCustomError:
        return None
    return reached.compressed


def check_instance_address(text: str) -> str:
    """Pass ``IP:PORT``, ``[IPv6]:PORT`` or ``NAME:PORT`` of an instance on.

    Raises:
        PydanticCustomError: with what is missing.
    """
    host, colon, port = text.rpartition(":")
    name = host.lower().removesuffix(".")
    if not colon or not is_dns_name(name):
        return check_endpoint(text)
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise _wrong(text, f"has port '{port}'; a port lies between 1 and 65535")
    return canonical_endpoint(text)


def canonical_endpoint(text: str) -> str:
    """Return ``IP:PORT`` or ``NAME:PORT`` in its one spelling; other text as it is.

    An IPv4 address within IPv6 is that IPv4 address, by which it is reached.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal()):
        return text
    if (ip := _ip(host.strip("[]"))) is not None:
        reached = _reached(ip)
        shown = f"[{reached.compressed}]" if reached.version == 6 else str(reached)
        return f"{shown}:{int(port)}"
    name = host.lower().removesuffix(".")
    return f"{name}:{int(port)}" if is_dns_name(name) else text


def _reached(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def check_url(text: str) -> str:
    """Pass an ``http`` or ``https`` URL on.

    Raises:
        PydanticCustomError: it is none, or holds a password.
    """
    try:
        url = urlsplit(text)
        good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        good = False
    if not good or any(c.isspace() or not c.isprintable() for c in text):
        raise _wrong(text, "is not a URL; write one such as http://10.1.0.10:8000/metrics")
    if url.username is not None or url.password is not None:
        raise PydanticCustomError("url", "holds a user or password; use token_file instead")
    return text


@functools.lru_cache(maxsize=16_384)  # of large fleets every address is asked about again and again
def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


def _wrong(text: str, what: str) -> PydanticCustomError:
    return PydanticCustomError("address", "'{text}' {what}", {"text": text, "what": what})
