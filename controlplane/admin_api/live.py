"""The overview that a page follows: whole at first, then differences, each made once for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controlplane.admin_api.keyed import Document, find_difference
from controlplane.runtime.json_text import dump_in_parts

STATE = "live"
"""Kind of the state, and of the event that carries a whole overview."""
CHANGE = "change"
"""Kind of the event that carries a difference to the one before."""


class LiveOverview:
    """One keyed overview, and how to come to it from the one before. Never changes."""

    def __init__(self, document: Document, before: LiveOverview | None = None) -> None:
        self.document = document
        self.number: int = 1 if before is None else before.number + 1
        self._whole: bytes | None = None
        self._change = None if before is None else _change(before.document, document)

    def event_after(self, seen: LiveOverview | None) -> bytes:
        """Return the event for a page that has *seen*; None for one that has seen nothing."""
        if seen is not None:
            if seen.number == self.number:
                return b""
            change = (
                self._change
                if seen.number == self.number - 1
                else _change(seen.document, self.document)
            )
            if change is not None:
                return self._event(CHANGE, change)
        if self._whole is None:
            self._whole = dump_in_parts(self.document)
        return self._event(STATE, self._whole)

    def _event(self, kind: str, content: bytes) -> bytes:
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), content)


def _change(before: Mapping[str, Any], after: Mapping[str, Any]) -> bytes | None:
    """Return the difference; None after a new configuration, whose order a page must see."""
    if before["config"]["version"] != after["config"]["version"]:
        return None
    return dump_in_parts(find_difference(before, after))
