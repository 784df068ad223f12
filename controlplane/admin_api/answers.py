"""Answers of the admin port: JSON, compressed for those who accept it, and their headers."""

from __future__ import annotations

import asyncio

from aiohttp import web
from multidict import CIMultiDict

from controlplane.admin_api.values import Document
from controlplane.runtime.json_text import dump, dump_in_parts

COMPRESS_FROM = 4_096
"""Bytes of a document that is compressed."""
COMPRESS_IN_THREAD = 65_536
"""Bytes of a document whose compression would keep the event loop."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self';"
        " img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}


def json_response(document: object, *, status: int = 200) -> web.Response:
    """Answer with a JSON document."""
    return encoded_response(dump(document), status=status)


def encoded_response(
    content: bytes, *, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    """Answer with a document that is JSON already."""
    response = web.Response(
        body=content,
        status=status,
        content_type="application/json",
        headers=headers,
        zlib_executor_size=COMPRESS_IN_THREAD,
    )
    if len(content) > COMPRESS_FROM:
        response.enable_compression()  # if the client accepts it
    return response


def json_error(status: int, text: str) -> web.Response:
    """Answer with what is wrong, and what would be right."""
    return json_response({"error": text}, status=status)


async def encode_large(document: Document) -> bytes:
    """Return the JSON of a document that may be long, encoded in another thread."""
    return await asyncio.to_thread(dump_in_parts, document)


def add_headers(headers: CIMultiDict[str]) -> None:
    """Add what each answer has: nothing of it may be embedded, guessed at or kept."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
