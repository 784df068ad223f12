"""The instances that were found last, on disk: a restart while the API is unreachable loses none.

``discovered.json`` in ``--state-dir``, written whole beside the old one and renamed over it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.config import DiscoveredInstance, DiscoveredMatch, Instance, Match, Site
from controlplane.controller.state_file import StateError
from controlplane.runtime.files import read_file, replace_file

FILE_NAME = "discovered.json"
SIZE_LIMIT = 64_000_000
"""Bytes; ten thousand instances take about six million."""
FORMAT = 1
_SECONDS = frozenset({"period", "timeout", "service_time"})
_WATTS = frozenset({"idle", "busy"})


@dataclass(frozen=True, slots=True)
class SavedInstances:
    """What survives a restart."""

    found: tuple[DiscoveredInstance, ...]
    rules: frozenset[str]
    """Rules whose objects were known, though they may have come to no instance."""
    matches: tuple[DiscoveredMatch, ...] = ()
    unread: tuple[str, ...] = ()
    """What could not be read; the rest was."""


NOTHING_SAVED = SavedInstances((), frozenset())


class DiscoveredStore:
    """The file in a state directory; methods block, so call them from a thread."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME

    def save(
        self,
        found: Sequence[DiscoveredInstance],
        *,
        rules: Sequence[str],
        matches: Sequence[DiscoveredMatch] = (),
    ) -> None:
        """Replace what was saved.

        Raises:
            OSError: it cannot be written.
        """
        document = {
            "format": FORMAT,
            "rules": sorted(rules),
            "found": [
                {"rule": each.rule, "instance": _as_written(each.instance)}
                | ({} if each.site is None else {"site": _as_written(each.site)})
                for each in found
            ],
            "matches": [
                {
                    "source": each.source,
                    "service": each.service,
                    "route": each.route,
                    "match": each.match.model_dump(mode="json", exclude_none=True),
                }
                for each in matches
            ],
        }
        replace_file(self.path, json.dumps(document, separators=(",", ":")).encode())

    def load(self) -> SavedInstances | None:
        """Return what was saved last; None if nothing was.

        Raises:
            StateError: the file cannot be read.
        """
        try:
            content = read_file(self.path, limit=SIZE_LIMIT + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror}") from error
        try:
            return _decode(content)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            raise StateError(f"{self.path}: not what was found: {reason}") from error


def _decode(content: bytes) -> SavedInstances:
    if len(content) > SIZE_LIMIT:
        raise ValueError(f"larger than {SIZE_LIMIT} bytes")
    document = json.loads(content)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r} is not {FORMAT}")
    found, unread = [], []
    for number, item in enumerate(document["found"]):
        try:
            # As JSON, so that it is checked as the file's instances are.
            instance = Instance.model_validate_json(json.dumps(item["instance"]), strict=True)
            site = (
                Site.model_validate_json(json.dumps(item["site"]), strict=True)
                if "site" in item
                else None
            )
            found.append(DiscoveredInstance(str(item["rule"]), instance, site))
        except (ValueError, KeyError, TypeError) as error:
            unread.append(f"instance {number}: {str(error).splitlines()[0]}")
    matches = []
    for number, item in enumerate(document.get("matches", ())):
        try:
            match = Match.model_validate_json(json.dumps(item["match"]), strict=True)
            matches.append(
                DiscoveredMatch(
                    str(item["source"]), str(item["service"]), match, str(item["route"])
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            unread.append(f"match {number}: {str(error).splitlines()[0]}")
    rules = frozenset(map(str, document["rules"]))
    return SavedInstances(tuple(found), rules, tuple(matches), tuple(unread))


def _as_written(made: Instance | Site) -> dict[str, Any]:
    """Return an instance or a site as an operator writes it: quantities with their units."""
    raw: dict[str, Any] = made.model_dump(mode="json", exclude_none=True, exclude_unset=True)
    for mapping in (raw, *(value for value in raw.values() if isinstance(value, dict))):
        for key, value in mapping.items():
            if key in _SECONDS:
                mapping[key] = f"{value:.9f}s"
            elif key in _WATTS:
                mapping[key] = f"{value:.6f}W"
    return raw
