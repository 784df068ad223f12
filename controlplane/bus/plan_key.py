"""The key ``plan`` of the store: the plan of all, deflated, as the leader wrote it last.

A long one is in parts, ``plan.SLOT.N``, written before the key that names them, in turns of two
slots, so that what is being read is not overwritten.
Each write names the revision that it replaces.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from typing import Any

from nats.js.errors import KeyNotFoundError

from controlplane.bus.packing import inflate
from controlplane.errors import ReportError
from controlplane.steering.plan import Plan

KEY = "plan"
PART = 512 * 1024
"""Bytes of one value; NATS takes 1 MiB by default."""
MAX_PARTS = 256
FORMAT = 1
"""Grows when an older replica could no longer read it."""

UNREADABLE = (
    ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError,
    zlib.error,
)  # fmt: skip
"""What reading a value that no version wrote may end with."""


class PlanKey:
    """What one replica knows of the key."""

    def __init__(self) -> None:
        self._revision = 0
        self._slot = 0
        self._unreadable = False

    @property
    def is_wanted(self) -> bool:
        """Return whether there is no plan that can be read, so that the leader is to write one."""
        return self._revision == 0 or self._unreadable

    def forget(self) -> None:
        """Start over with a store that is another one, whose revisions start again."""
        self._revision = 0

    async def read(
        self, bucket: Any, *, current: str | None, now: float
    ) -> tuple[Plan | None, bool]:
        """Read the key if it changed.

        Args:
            bucket: the store.
            current: version of the plan that is known; None if there is none.
            now: the instant.

        Returns:
            The plan, None where it is that one, and whether it was replaced while it was read.

        Raises:
            ReportError: it cannot be read; the leader is to replace it.
        """
        value, revision = await _get(bucket, KEY)
        if value is None:
            self._revision = 0
        if value is None or revision <= self._revision:
            return None, False
        plan: Plan | None = None
        head, _, content = value.partition(b"\n")
        try:
            document = json.loads(head)
            if document.get("format", FORMAT) > FORMAT:
                raise ValueError("of a newer version")
            if document["version"] != current:
                for number in range(min(int(document["parts"]), MAX_PARTS)):
                    part, _ = await _get(bucket, f"{KEY}.{document['slot']}.{number}")
                    content += part or b""
                if hashlib.blake2b(content, digest_size=16).hexdigest() != document["digest"]:
                    return None, True
                plan = await asyncio.to_thread(inflate, content, now)
            self._slot = int(document["slot"])
        except UNREADABLE as error:
            self._unreadable, self._revision = True, revision
            raise ReportError(f"plan on the bus unreadable: {error}") from error
        self._unreadable, self._revision = False, revision
        return plan, False

    async def write(self, bucket: Any, version: str, content: bytes, *, by: str) -> None:
        """Write a deflated plan.

        Args:
            bucket: the store.
            version: of the plan.
            content: the plan.
            by: name of this replica.
        """
        slot = 1 - self._slot
        parts = [] if len(content) <= PART else [
            content[start : start + PART] for start in range(0, len(content), PART)
        ]  # fmt: skip
        for number, part in enumerate(parts):
            await bucket.put(f"{KEY}.{slot}.{number}", part)
        head = {
            "format": FORMAT,
            "version": version,
            "by": by,
            "slot": slot,
            "parts": len(parts),
            "digest": hashlib.blake2b(content, digest_size=16).hexdigest(),
        }
        value = json.dumps(head).encode() + b"\n" + (b"" if parts else content)
        self._revision = await bucket.update(KEY, value, last=self._revision)
        self._slot, self._unreadable = slot, False


async def _get(bucket: Any, key: str) -> tuple[bytes | None, int]:
    """Return the value, None if there is none, and its revision."""
    try:
        entry = await bucket.get(key)
    except KeyNotFoundError:
        return None, 0
    return entry.value or b"", entry.revision
