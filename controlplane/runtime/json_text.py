"""Values as JSON text that every parser reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dump(document: object) -> bytes:
    """Return *document* as JSON; numbers that JSON lacks become null."""
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(document), separators=(",", ":"), allow_nan=False).encode()


PIECE = 200
"""Entries that are encoded at once: the encoder lets no other thread run meanwhile."""


def dump_in_parts(document: object) -> bytes:
    """Return the same as `dump`, for another thread: large documents keep no event loop waiting."""
    if isinstance(document, Mapping) and document and all(isinstance(k, str) for k in document):
        if len(document) <= PIECE and not any(map(_is_large, document.values())):
            return dump(document)
        parts = (dump(name) + b":" + dump_in_parts(value) for name, value in document.items())
        return b"{" + b",".join(parts) + b"}"
    if isinstance(document, (list, tuple)) and _is_large(document):
        pieces = (
            dump(document[start : start + PIECE])[1:-1] for start in range(0, len(document), PIECE)
        )
        return b"[" + b",".join(pieces) + b"]"
    return dump(document)


def _is_large(value: object) -> bool:
    """Return whether *value* may hold more than a piece."""
    if isinstance(value, Mapping):
        return len(value) > PIECE or any(
            isinstance(v, (Mapping, list, tuple)) for v in value.values()
        )
    return isinstance(value, (list, tuple)) and len(value) > PIECE


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
