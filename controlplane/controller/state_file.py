"""The last plan and what was learned on disk, so that a restart moves no one's traffic.

Two JSON files in ``--state-dir``, each written whole beside the old one and renamed over it, so
that a crash leaves one or the other. What the plan says of shares is kept; why they are so is
worked out again by the first cycle. A file that cannot be read is set aside and reported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controlplane.errors import ControlPlaneError
from controlplane.runtime.files import read_file, replace_file
from controlplane.steering.plan import Plan
from controlplane.steering.record import decode_plan, encode_plan

FORMAT = 1
"""Grows when an older control plane could no longer read the file."""
FILE_NAME = "plan.json"
MEMORY_NAME = "learned.json"
SIZE_LIMIT = 256_000_000
"""Bytes; 1,000 client sites x 200 instances x 10 services take about 150 MB."""

_OWNER = "check who owns --state-dir, and that it can be read"


class StateError(ControlPlaneError):
    """The state on disk cannot be read, or was written by a newer version."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """What survives a restart."""

    plan: Plan
    saved_at: float
    """Unix time, for people."""


def encode_state(plan: Plan, *, saved_at: float) -> bytes:
    """Return the file's content."""
    document = {
        "format": FORMAT,
        "saved_at": saved_at,
        "plan": encode_plan(plan),
    }
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def decode_state(content: bytes, *, now: float) -> SavedState:
    """Read what `encode_state` wrote; the plan is dated *now*.

    Raises:
        StateError: the content is not such a document.
    """
    if len(content) > SIZE_LIMIT:
        raise StateError(
            f"larger than {SIZE_LIMIT} bytes, so it is hardly ours; check what else writes it"
        )
    try:
        document = json.loads(content)
        if document["format"] != FORMAT:
            raise StateError(
                f"format {document['format']!r} is not {FORMAT}, the one this version reads; start"
                " the version that wrote it, or continue without it"
            )
        return SavedState(
            plan=decode_plan(document["plan"], at=now), saved_at=float(document["saved_at"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StateError(
            f"not a saved plan: {type(error).__name__}: {error}; another one is made"
        ) from error


class StateFile:
    """The file in a state directory; methods block, so call them from a thread."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME

    def load(self, *, now: float) -> SavedState | None:
        """Return what was saved last; None if nothing was.

        Raises:
            StateError: it cannot be read; the file was set aside where that was possible.
        """
        try:
            content = read_file(self.path, limit=SIZE_LIMIT + 1)
            return decode_state(content, now=now)
        except FileNotFoundError:
            return None
        except StateError as error:
            raise StateError(f"{self.path}: {error}; {_set_aside(self.path)}") from error
        except OSError as error:
            raise StateError(f"{self.path}: {error.strerror}; {_OWNER}") from error

    def save(self, plan: Plan, *, saved_at: float) -> None:
        """Replace the file by *plan*; after a crash at any point either is whole.

        Raises:
            OSError: it could not be written (a full disk, say); the old file stands.
        """
        replace_file(self.path, encode_state(plan, saved_at=saved_at))

    def load_memory(self) -> Mapping[str, Any] | None:
        """Return what was learned; None if nothing was saved.

        Raises:
            StateError: it cannot be read; the file was set aside where that was possible.
        """
        path = self.path.with_name(MEMORY_NAME)
        try:
            document = json.loads(read_file(path, limit=SIZE_LIMIT))
            if document["format"] != FORMAT:
                raise ValueError(  # noqa: TRY301
                    f"format {document['format']!r} is not {FORMAT}, the one this version reads"
                )
            learned: Mapping[str, Any] = document["learned"]
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"{path}: {error.strerror}; {_OWNER}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StateError(
                f"{path}: not what was learned: {error}; it is learned again; {_set_aside(path)}"
            ) from error
        return learned

    def save_memory(self, learned: Mapping[str, Any]) -> None:
        """Replace what was learned.

        Raises:
            OSError: as `save`.
        """
        document = {"format": FORMAT, "learned": learned}
        content = json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
        replace_file(self.path.with_name(MEMORY_NAME), content)

    def set_memory_aside(self) -> str:
        """Keep a file of what was learned that turned out to be none; return where."""
        return _set_aside(self.path.with_name(MEMORY_NAME))


def _set_aside(path: Path) -> str:
    aside = path.with_suffix(".unreadable")
    try:
        path.replace(aside)
    except OSError as error:
        return f"it could not be set aside: {error.strerror}"
    return f"set aside as {aside.name}"
