"""gRPC's status codes, and what they are made of where a peer speaks plain HTTP/2."""

from __future__ import annotations

from enum import IntEnum

from controlplane.http2.frames import ErrorCode


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


def parse_status(text: str) -> StatusCode:
    """Read ``grpc-status``; what is no code is `StatusCode.UNKNOWN`."""
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
    """Give what an HTTP answer without ``grpc-status`` means (gRPC, "HTTP to gRPC Status Code")."""
    return _OF_HTTP.get(status, StatusCode.UNKNOWN)


_OF_RESET: dict[int, StatusCode] = {
    ErrorCode.REFUSED_STREAM: StatusCode.UNAVAILABLE,
    ErrorCode.CANCEL: StatusCode.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: StatusCode.RESOURCE_EXHAUSTED,
}


def status_of_reset(code: int) -> StatusCode:
    """Give what a RST_STREAM without trailers means (gRPC over HTTP/2, "Errors")."""
    return _OF_RESET.get(code, StatusCode.INTERNAL)
