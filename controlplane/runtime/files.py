"""Files that a crash leaves whole."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file, or create it; after a crash at any point the old or the new one is whole.

    Only this user may read it. It is written beside the old one and renamed over it.

    Raises:
        OSError: it could not be written; the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself must reach the disk
    finally:
        os.close(directory)


def keep_aside(path: Path) -> str:
    """Copy a file that could not be read whole, before it is replaced; return where, in words."""
    aside = path.with_suffix(".unreadable")
    try:
        replace_file(aside, path.read_bytes())
    except OSError as error:
        return f"it could not be set aside: {error.strerror}"
    return f"set aside as {aside.name}"
