"""Who may use the admin port: the holder of a token, or of a certificate that the TLS layer took.

Tokens are in a file, one a line, so that a new one can be valid before the old one goes.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from controlplane.runtime.files import read_file

MAX_FILE = 64 * 1024
"""Bytes of the file that are read."""
LEAST_LENGTH = 16
"""Characters of a token; a shorter line is no token but a mistake."""


class TokenFile:
    """The tokens in a file, as they are now; when it vanishes, those that were there last.

    Raises:
        OSError: it cannot be read at first.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = path.stat().st_mtime_ns
        self._tokens = self._read()

    def knows(self, token: str) -> bool:
        """Return whether *token* is one of them, in a time that says nothing of it."""
        with contextlib.suppress(OSError):
            stamp = self._path.stat().st_mtime_ns
            if stamp != self._stamp:
                self._tokens, self._stamp = self._read(), stamp
        given = token.encode(errors="surrogateescape")  # a header may hold any bytes
        return sum(hmac.compare_digest(given, known) for known in self._tokens) > 0

    def _read(self) -> tuple[bytes, ...]:
        lines = read_file(self._path, limit=MAX_FILE).splitlines()
        return tuple(word for line in lines if len(word := line.strip()) >= LEAST_LENGTH)


@dataclass(frozen=True, slots=True)
class Login:
    """What is asked of a request; either of the two will do."""

    tokens: TokenFile | None
    certificates: bool
    """Whether the port asks for certificates, and so a shown one was checked."""

    def admits(self, request: web.Request) -> bool:
        """Return whether *request* comes from someone who may."""
        if self.certificates and request.get_extra_info("peercert"):
            return True
        token = _token_of(request.headers.get("Authorization", ""))
        return self.tokens is not None and token is not None and self.tokens.knows(token)


def _token_of(header: str) -> str | None:
    """Return the bearer token, or the password that a browser asked for; None if there is none."""
    scheme, _, rest = header.partition(" ")
    match scheme.lower():
        case "bearer":
            return rest.strip()
        case "basic":
            with contextlib.suppress(ValueError):  # not ASCII, not base64, not UTF-8
                return base64.b64decode(rest, validate=True).decode().partition(":")[2]
    return None
