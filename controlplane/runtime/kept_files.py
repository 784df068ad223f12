"""What is kept in memory, restored from a file at the start and saved there now and then."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from controlplane.runtime.files import keep_aside, read_file, replace_file


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of the state directory."""

    name: str
    max_bytes: int
    """Beyond which the rest of it is not read."""
    save_period: float
    """Seconds."""


class Kept(Protocol):
    """What has such a file."""

    file: ClassVar[KeptFile]

    def encode(self) -> Callable[[], bytes]:
        """Return what makes the file's content; it may be called in another thread."""

    def restore(self, content: bytes) -> str:
        """Restore what `encode` made; return what is wrong with it, empty if nothing is."""


def restore_kept(kept: Kept, directory: Path) -> str:
    """Restore *kept* from a state directory; return what could not be read, else nothing.

    A file that is not readable whole is copied aside, since the next save replaces it.
    """
    path = directory / kept.file.name
    try:
        content = read_file(path, limit=kept.file.max_bytes)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{kept.file.name}: {error.strerror or error}"
    fault = kept.restore(content)
    return f"{kept.file.name}: {fault}; {keep_aside(path)}" if fault else ""


def save_kept(file: KeptFile, content: Callable[[], bytes], directory: Path) -> None:
    """Replace the saved file.

    Raises:
        OSError: it cannot be written; the old one stays.
    """
    replace_file(directory / file.name, content())


def inflate_json(content: bytes, max_bytes: int) -> Any:
    """Return the document that was deflated to *content*.

    Raises:
        ValueError: it is no JSON, or more than *max_bytes* of it.
        zlib.error: it was not deflated.
    """
    inflater = zlib.decompressobj()
    text = inflater.decompress(content, max_bytes)
    if inflater.unconsumed_tail:
        raise ValueError(f"more than {max_bytes} bytes")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def instant_of(document: Any) -> float:
    """Return the instant that a kept document is of.

    Raises:
        ValueError, KeyError, TypeError: it has none.
    """
    at = float(document["at"])
    if not math.isfinite(at):
        raise ValueError(f"of the instant {at}")
    return at
