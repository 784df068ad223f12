"""Bearer tokens in files, which someone else rotates: read each time, checked, never kept."""

from __future__ import annotations

from pathlib import Path

from controlplane.errors import ReportError
from controlplane.runtime.files import read_file

MAX_TOKEN = 16_384
"""Bytes of a token file."""


def read_token(path: str) -> str:
    """Return the token in a file.

    Raises:
        ReportError: the file holds none.
        OSError: it cannot be read.
    """
    token = read_file(Path(path), limit=MAX_TOKEN + 1)
    if len(token) > MAX_TOKEN:
        raise ReportError(f"token file {path} is larger than {MAX_TOKEN} bytes")
    text = token.decode("ascii", "replace").strip()
    if not text or not text.isprintable() or " " in text:
        raise ReportError(f"token file {path} holds no token of one line")
    return text
