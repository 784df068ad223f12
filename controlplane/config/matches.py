"""Conditions of a match as operators write them: which of them requests can meet at all."""

from __future__ import annotations

import re
from urllib.parse import quote

from pydantic_core import PydanticCustomError

from controlplane.config.addresses import is_dns_name, is_ip


def check_match_host(text: str) -> str:
    """Pass a host name on, or ``*.`` before one, in lower case.

    Raises:
        PydanticCustomError: it is none.
    """
    name = text.lower().removesuffix(".")
    bare = name.removeprefix("*.")
    if not is_dns_name(bare) and not is_ip(bare):
        raise PydanticCustomError(
            "host",
            "'{text}' is no host name; write one such as chat.example.com or *.example.com,"
            " without a port",
            {"text": text},
        )
    return name


def check_match_path(text: str) -> str:
    """Pass a path on that requests can have when Envoy compares it.

    Envoy compares paths without their query, with ``.``, ``..`` and doubled slashes resolved.

    Raises:
        PydanticCustomError: no request can match it, with what would be right.
    """
    bare = text.removesuffix("*")
    if not text.isascii():
        raise _never(text, f"has characters beyond ASCII; write {quote(text, safe='/*%')}")
    if "?" in text:
        raise _never(text, f"holds a query, which is no part of a path; write {bare.split('?')[0]}")
    if "#" in text:
        raise _never(text, f"holds a fragment, which no request has; write {bare.split('#')[0]}")
    if "*" in bare:
        raise _never(text, "has '*' elsewhere than at its end; write a prefix, or several matches")
    if "//" in text:
        raise _never(text, f"has '//', which arrives as '/'; write {re.sub('//+', '/', text)}")
    if "\\" in text or any(part in (".", "..") for part in bare.split("/")):
        raise _never(
            text, "has '.', '..' or a backslash, which are resolved before; write the rest"
        )
    return text


def _never(text: str, what: str) -> PydanticCustomError:
    return PydanticCustomError(
        "match_path",
        "'{text}' {what}",
        {"text": text, "what": f"{what}; else nothing ever matches"},
    )
