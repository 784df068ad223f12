"""The key ``overrides`` of the store: the operators' overrides, the same for all replicas.

Any replica may change them: each write names the revision that it replaces, and one that comes too
late is repeated on what is there by then. A store that lost them gets the leader's again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError

from controlplane.bus.local import OTHER_OVERRIDES, SavedOverrides

KEY = "overrides"
FORMAT = 1
"""Grows when an older replica could no longer read it."""
ATTEMPTS = 8
"""Writes that are tried while other replicas write too."""

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class NewerFormatError(ValueError):
    """A replica of a newer version wrote them; they are not overwritten."""


class OverrideKey:
    """What one replica knows of the key.

    Attributes:
        entries: the overrides as they were read last; None before the first.
    """

    def __init__(self) -> None:
        self.entries: SavedOverrides | None = None
        self._revision = 0

    async def read(self, bucket: Any, *, leads: bool) -> list[str]:
        """Read the key if it changed; return what there is to report.

        A key that is gone, or holds what no version wrote, is replaced by the leader.
        """
        value, revision = await _get(bucket)
        if value is None:
            if leads and self.entries:
                await self._write(bucket, self.entries, revision)
            return []
        if revision == self._revision:
            return []
        try:
            entries = _decode(value)
        except NewerFormatError as error:
            self._revision = revision
            return [f"overrides on the bus unreadable: {error}"]
        except _UNREADABLE as error:
            if leads:
                await self._write(bucket, self.entries or [], revision)
            else:
                self._revision = revision
            return [f"overrides on the bus unreadable: {error}"[:200]]
        self._revision = revision
        if entries == self.entries:
            return []
        self.entries = entries
        return [OTHER_OVERRIDES]

    async def update(
        self, bucket: Any, change: Callable[[SavedOverrides | None], SavedOverrides]
    ) -> bool:
        """Write *change* of what is there; return whether that was possible."""
        for _ in range(ATTEMPTS):
            value, revision = await _get(bucket)
            try:
                current = None if value is None else _decode(value)
            except NewerFormatError:
                return False
            except _UNREADABLE:
                current = self.entries
            changed = change(current)
            if await self._write(bucket, changed, revision):
                return True
        return False

    async def _write(self, bucket: Any, entries: SavedOverrides, last: int) -> bool:
        document = {"format": FORMAT, "overrides": [*entries]}
        try:
            revision = await bucket.update(KEY, json.dumps(document).encode(), last=last)
        except KeyWrongLastSequenceError:
            return False
        self.entries, self._revision = [*entries], revision
        return True


async def _get(bucket: Any) -> tuple[bytes | None, int]:
    """Return the value, None if there is none, and the revision that a write replaces."""
    try:
        entry = await bucket.get(KEY)
    except KeyNotFoundError as error:  # a deleted key has a revision too
        return None, 0 if error.entry is None else int(error.entry.revision or 0)
    return entry.value or b"", entry.revision


def _decode(value: bytes) -> SavedOverrides:
    document = json.loads(value)
    if int(document["format"]) > FORMAT:
        raise NewerFormatError("of a newer version")
    return [dict(item) for item in document["overrides"]]
