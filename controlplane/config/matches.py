"""Conditions of a match as operators write them: which of them requests can meet at all."""

from __future__ import annotations

import re
from collections import Counter
from urllib.parse import quote, urlsplit

from pydantic_core import PydanticCustomError

from controlplane.config.addresses import canonical_ip, is_dns_name

_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""RFC 3986, section 2.3: escaped or not, they are the same; Envoy compares them as they are."""
_ESCAPED = re.compile('["<>^`{|}]')
"""What Envoy escapes before it compares, though requests may hold it as it is."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]|%00")
_REMOVED_HEADERS = re.compile(
    "connection|expect|keep-alive|proxy-connection|transfer-encoding"
    "|x-forwarded-client-cert|x-request-id"
    "|x-envoy-(decorator-operation|downstream-service-(cluster|node)|expected-rq-timeout-ms"
    "|force-trace|hedge-on-per-try-timeout|internal|ip-tags|max-retries|original-(path|url)"
    "|retriable-(header-names|status-codes)|retry-on"
    "|upstream-(alt-stat-name|rq-(per-try-)?timeout-ms|stream-duration-ms))"
)
"""What Envoy 1.40 takes off a request, or replaces, before it compares headers (tried out)."""


def check_match_host(text: str) -> str:
    """Return a host name, or ``*.`` before one, or an IP address, in the one spelling of it.

    Raises:
        PydanticCustomError: it is none.
    """
    if (host := canonical_host(text)) is not None:
        return host
    example = ("%" not in text and _host_in(text)) or "chat.example.com or *.example.com"
    raise PydanticCustomError(
        "host",
        "'{text}' is no host name; write one such as {example}, without a port",
        {"text": text, "example": example},
    )


def canonical_host(text: str) -> str | None:
    """Return a host name, ``*.NAME`` or an IP address in its one spelling; None if it is none."""
    name = text.lower().removesuffix(".")
    bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
    if (ip := canonical_ip(bare)) is not None:
        return ip if ":" in ip or bare == name else None
    return name if is_dns_name(name.removeprefix("*.")) else None


def _host_in(text: str) -> str | None:
    """Return the host of a URL, of a host with a port, or of a name in another script."""
    try:
        found = urlsplit(text if "//" in text else f"//{text}").hostname or ""
        name = found if found.isascii() else found.encode("idna").decode()
    except ValueError:
        return None
    return canonical_host(name)


def check_match_path(text: str) -> str:
    """Pass a path on that requests can have when Envoy compares it.

    Envoy compares paths without their query, with ``.``, ``..`` and doubled slashes resolved, and
    with escapes where RFC 3986 wants them.

    Raises:
        PydanticCustomError: no request can match it, with what would be right.
    """
    bare = text.removesuffix("*")
    if not text.isascii():
        raise _never(text, f"has characters beyond ASCII; write {quote(text, safe='/*%')}")
    if _CONTROL.search(text):
        raise _never(text, "has a control character, which Envoy refuses; write the path without")
    if "?" in text:
        raise _never(text, f"holds a query, which is no part of a path; write {bare.split('?')[0]}")
    if "#" in text:
        raise _never(text, f"holds a fragment, which no request has; write {bare.split('#')[0]}")
    if text.endswith("/.*"):
        raise PydanticCustomError(
            "match_path",
            "'{text}' looks like a regular expression; write {prefix}*, which is a prefix",
            {"text": text, "prefix": text.removesuffix(".*")},
        )
    if "*" in bare:
        raise _never(text, "has '*' elsewhere than at its end; write a prefix, or several matches")
    if "//" in text:
        raise _never(text, f"has '//', which arrives as '/'; write {re.sub('//+', '/', text)}")
    compared = _as_compared(text)
    parts = compared.removesuffix("*").split("/")
    whole = parts if compared == compared.removesuffix("*") else parts[:-1]
    if "\\" in text or any(part in (".", "..") for part in whole):
        raise _never(
            text, "has '.', '..' or a backslash, which are resolved before; write the rest"
        )
    if compared != text:
        instead = f", or {text.partition('{')[0]}* for anything there" if "{" in text else ""
        raise _never(text, f"arrives as {compared}; write that{instead}")
    return text


def _as_compared(path: str) -> str:
    def decoded(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        return character if character in _UNRESERVED else escape[0]

    return _ESCAPED.sub(lambda raw: f"%{ord(raw[0]):02X}", _ESCAPE.sub(decoded, path))


def _never(text: str, what: str) -> PydanticCustomError:
    return PydanticCustomError(
        "match_path",
        "'{text}' {what}",
        {"text": text, "what": f"{what}; else nothing ever matches"},
    )


def check_match_headers(headers: dict[str, str]) -> dict[str, str]:
    """Pass headers on that requests can have when Envoy compares them.

    Raises:
        PydanticCustomError: no request can have them, with what would be right.
    """
    often = Counter(name.lower() for name in headers)
    for name, value in headers.items():
        if often[name.lower()] > 1:
            raise _no_header(name, "is named twice; requests have one value, so keep one")
        if _REMOVED_HEADERS.fullmatch(name.lower()):
            raise _no_header(
                name,
                "is removed or replaced by Envoy before it compares; choose a header of your own,"
                " such as x-service",
            )
        if value != value.strip():
            raise _no_header(
                name,
                f"has spaces around its value, which no request keeps; write '{value.strip()}'",
            )
    return headers


def _no_header(name: str, what: str) -> PydanticCustomError:
    return PydanticCustomError("match_header", "'{name}' {what}", {"name": name, "what": what})
