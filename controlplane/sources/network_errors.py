"""Why a connection came to nothing, as operators read it.

aiohttp's own texts hold the ``repr`` of its TLS context, whose address in memory makes two lines
of one cause differ; neither says what to do.
"""

from __future__ import annotations

import errno
import os
import ssl

import aiohttp

LONGEST = 300
"""Characters of a reason."""
_KNOWN = {
    errno.ECONNREFUSED: "connection refused by",
    errno.EHOSTUNREACH: "no route to",
    errno.ENETUNREACH: "network unreachable towards",
    errno.ETIMEDOUT: "no answer from",
    errno.ECONNRESET: "connection reset by",
}


def reason_of(error: BaseException, *, timeout: str = "") -> str:
    """Return the reason of a failed request in one printable line.

    Args:
        error: what the request raised.
        timeout: the setting that bounds it, if there is one to name.
    """
    if timeout and isinstance(error, TimeoutError):
        return f"no answer within {timeout}"
    text = _reason(error) or type(error).__name__
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST])


def _reason(error: BaseException) -> str:
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return f"{_address(error)}: {_certificate(error.certificate_error)}"
        case aiohttp.ClientConnectorDNSError():
            return f"cannot resolve {error.host}: {error.os_error.strerror or error.os_error}"
        case aiohttp.ClientConnectorError():
            cause = error.os_error
            where = _address(error)
            if isinstance(cause, ssl.SSLError):
                return f"{where}: {_certificate(cause)}"
            if cause.errno in _KNOWN:
                return f"{_KNOWN[cause.errno]} {where}"
            strerror = os.strerror(cause.errno) if cause.errno else str(cause)
            return f"cannot connect to {where}: {strerror}"
    return str(error)


def _address(error: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError) -> str:
    host = f"[{error.host}]" if ":" in error.host else error.host
    return f"{host}:{error.port}"


def _certificate(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate rejected: {error.verify_message.rstrip('.')}"
    return (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)
