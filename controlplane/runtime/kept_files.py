"""What is kept in memory, restored from a file at the start and saved there now and then."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from controlplane.runtime.files import replace_file


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
        """Receive what `encode` made; return what is wrong with it, empty if nothing is."""


def restore_kept(kept: Kept, directory: Path) -> str:
    """Restore *kept* from a state directory; return what could not be read, else nothing."""
    try:
        with (directory / kept.file.name).open("rb") as file:
            content = file.read(kept.file.max_bytes)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return kept.restore(content)


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
    return json.loads(text)
