"""Plans and estimates as bytes that travel between replicas: JSON, deflated."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

from controlplane.runtime.kept_files import inflate_json
from controlplane.steering.plan import Plan
from controlplane.steering.record import decode_plan, encode_plan

MAX_PLAN = 256_000_000
"""Bytes of an inflated plan."""


def deflate(plan: Plan) -> bytes:
    """Return the bytes of *plan*."""
    return deflate_document(encode_plan(plan))


def inflate(content: bytes, at: float) -> Plan:
    """Read a plan back; *at* is its instant here.

    Raises:
        ValueError, KeyError, TypeError, zlib.error: it is none.
    """
    return decode_plan(inflate_document(content), at=at)


def deflate_document(document: Mapping[str, Any]) -> bytes:
    """Return the bytes of a JSON document."""
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 3)


def inflate_document(content: bytes) -> Any:
    """Read a JSON document back.

    Raises:
        ValueError, zlib.error: it is none.
    """
    return inflate_json(content, MAX_PLAN)
