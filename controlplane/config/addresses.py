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


def is_dns_name(text: str) -> bool:
    """Return whether *text*, in lower case and without a final dot, is a DNS name."""
    return len(text) <= 253 and _DNS_NAME.fullmatch(text) is not None


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
    if ip.is_unspecified or ip.is_multicast:
        raise _wrong(text, "cannot be connected to; write the instance's own address")
    return canonical_endpoint(text)


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
    return f"{name}:{int(port)}"


def canonical_endpoint(text: str) -> str:
    """Return ``IP:PORT`` in the one spelling of its address; other text as it is."""
    host, _, port = text.rpartition(":")
    ip = _ip(host.strip("[]"))
    if ip is None or not (port.isascii() and port.isdecimal()):
        return text
    return f"[{ip.compressed}]:{int(port)}" if ip.version == 6 else f"{ip}:{int(port)}"


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
