"""What the Kubernetes API answers: the changes of a watch, or why there is no answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Any

import aiohttp

from controlplane.errors import ControlPlaneError
from controlplane.sources.kubernetes.objects import Resource
from controlplane.sources.network_errors import reason_of

MAX_CHANGE = 2_000_000
"""Bytes of one change: etcd takes objects of 1.5 MB."""
CHUNK = 65_536
"""Bytes read at once, and the most of an error that are read."""
LONGEST_RETRY = 60.0
"""Most seconds that the server can make us wait by ``Retry-After``."""


class Failure(StrEnum):
    """Why there is no answer."""

    UNREACHABLE = "unreachable"
    DENIED = "denied"
    EXPIRED = "expired"
    """410 Gone: the version, or the page, is too old; list again."""
    UNKNOWN = "unknown"
    """404: the API does not know the kind."""
    BUSY = "busy"
    """429 or 5xx."""
    CONFLICT = "conflict"
    """409: someone else wrote in between, or made it first."""
    REFUSED = "refused"
    """Any other status."""
    TOO_LARGE = "too_large"
    """A page of more than `MAX_PAGE` bytes; ask for fewer objects."""
    MALFORMED = "malformed"
    """An answer that is not one."""


class ApiError(ControlPlaneError):
    """The API did not give what was asked for.

    Attributes:
        failure: why.
        remedy: what would be right.
        retry_after: seconds that the server asks to wait; 0 if it does not.
    """

    def __init__(
        self, failure: Failure, message: str, *, remedy: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.remedy = remedy
        self.retry_after = retry_after


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Split what comes into lines; aiohttp's own reader would refuse long ones."""
    held = bytearray()
    async for chunk in answer.content.iter_any():
        held += chunk
        *whole, last = held.split(b"\n")
        for line in whole:
            if line.strip():
                yield bytes(line)
        held = last
        if len(held) > MAX_CHANGE:
            raise ApiError(Failure.MALFORMED, f"a change of more than {MAX_CHANGE} bytes")


async def read_changes(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, Any]]:
    """Return the changes of a watch as they come: (type, object)."""
    async for line in _lines(answer):
        yield _change(line)


def _change(line: bytes) -> tuple[str, Any]:
    document = parse_answer(line)
    kind, what = document.get("type"), document.get("object")
    if not isinstance(kind, str) or not isinstance(what, dict):
        raise ApiError(Failure.MALFORMED, "a change without type or object")
    if kind == "ERROR":
        code = what.get("code")
        raise _of_status(code if isinstance(code, int) else 0, str(what.get("message", "")))
    return kind, what


def parse_answer(content: bytes) -> dict[str, Any]:
    """Return the document of an answer; raise `ApiError` if it is none."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ApiError(Failure.MALFORMED, "an answer that is not JSON") from error
    if not isinstance(document, dict):
        raise ApiError(Failure.MALFORMED, "an answer that is no object")
    return document


async def read_error(
    answer: aiohttp.ClientResponse, resource: Resource, namespace: str, *, verbs: str
) -> ApiError:
    """Return what an error says; *verbs* are the rights that a service account may lack."""
    message = ""
    try:
        document = json.loads(await answer.content.read(CHUNK))
        message = str(document["message"])
    except (aiohttp.ClientError, OSError, ValueError, KeyError, TypeError, RecursionError):
        message = answer.reason or ""
    try:
        retry_after = float(answer.headers.get("Retry-After", "0"))
    except ValueError:
        retry_after = 0.0
    of = f"{resource.name}.{resource.group}" if resource.group else resource.name
    where = f" in namespace {namespace}" if namespace else ""
    return _of_status(
        answer.status, message, of=f"{of}{where}", verbs=verbs,
        retry_after=min(max(0.0, retry_after), LONGEST_RETRY),
    )  # fmt: skip


def _of_status(
    status: int,
    message: str,
    *,
    of: str = "",
    verbs: str = "get, list and watch",
    retry_after: float = 0.0,
) -> ApiError:
    shown = "".join(c if c.isprintable() else " " for c in message[:300])
    if "Too large resource version" in message:
        status = 410  # by the API's server a timeout (504); it will not come to that version
    reported = f"status {status}: {shown}" if shown else f"status {status}"
    match status:
        case 401:
            return ApiError(
                Failure.DENIED, reported, remedy="the token is rejected; check who issues it"
            )
        case 403:
            return ApiError(
                Failure.DENIED, reported, remedy=f"grant the service account {verbs} on {of}"
            )
        case 404:
            return ApiError(Failure.UNKNOWN, reported, remedy=f"is {of} installed in the cluster?")
        case 409:
            return ApiError(Failure.CONFLICT, reported)
        case 410:
            return ApiError(Failure.EXPIRED, reported)
        case 429 | 500 | 502 | 503 | 504:
            return ApiError(
                Failure.BUSY, reported, remedy="check the API server", retry_after=retry_after
            )
    return ApiError(Failure.REFUSED, reported, remedy="check the rule's selector and names")


def unreachable_error(error: Exception) -> ApiError:
    """Return what a connection that failed says."""
    reason = "no answer in time" if isinstance(error, TimeoutError) else reason_of(error)
    return ApiError(
        Failure.UNREACHABLE, reason,
        remedy="check discovery.api, the API server, and the network policy for egress",
    )  # fmt: skip
