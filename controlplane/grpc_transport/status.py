"""gRPC's status codes, and what stands for them where a peer speaks plain HTTP/2."""

from __future__ import annotations

from enum import IntEnum

from h2.errors import ErrorCodes


class StatusCode(IntEnum):
    """How a call ended (gRPC, "Status codes and their use in gRPC")."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class CallError(Exception):
    """A call ended with a status other than OK; a handler raises it to end its call so."""

    def __init__(self, code: StatusCode, text: str) -> None:
        super().__init__(f"{code.name}: {text}" if text else code.name)
        self.code = code
        self.text = text


def parse_status(text: str) -> StatusCode:
    """Read ``grpc-status``; return `StatusCode.UNKNOWN` for anything else."""
    known = len(text) <= 2 and text.isascii() and text.isdecimal()
    known = known and int(text) <= StatusCode.UNAUTHENTICATED
    return StatusCode(int(text)) if known else StatusCode.UNKNOWN


_OF_HTTP = {
    "400": StatusCode.INTERNAL,
    "401": StatusCode.UNAUTHENTICATED,
    "403": StatusCode.PERMISSION_DENIED,
    "404": StatusCode.UNIMPLEMENTED,
    "429": StatusCode.UNAVAILABLE,
    "502": StatusCode.UNAVAILABLE,
    "503": StatusCode.UNAVAILABLE,
    "504": StatusCode.UNAVAILABLE,
}


def status_of_http(status: str) -> StatusCode:
    """Return the status of an HTTP response without ``grpc-status``, as gRPC maps them."""
    return _OF_HTTP.get(status, StatusCode.UNKNOWN)


_OF_RESET: dict[int, StatusCode] = {
    ErrorCodes.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCodes.CANCEL: StatusCode.CANCELLED,
    ErrorCodes.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
}


def status_of_reset(code: int) -> StatusCode:
    """Return the status of a RST_STREAM without trailers (gRPC over HTTP/2, "Errors")."""
    return _OF_RESET.get(code, StatusCode.INTERNAL)


_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


def parse_timeout(text: str) -> float | None:
    """Read ``grpc-timeout`` in seconds; None if it is malformed."""
    digits, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not digits.isascii() or not digits.isdecimal() or len(digits) > 8:
        return None
    return int(digits) * _UNITS[unit]
