"""Files that a crash leaves whole, and that whatever lies in their place cannot stop."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

ASIDE_LIMIT = 64 * 1024 * 1024
"""Bytes of a file that is set aside."""


def read_file(path: Path, *, limit: int) -> bytes:
    """Return the first *limit* bytes of a regular file.

    Anything else is left alone, since reading it may never end: a FIFO waits for its writer, a
    terminal for a person, and a device may act on being opened.

    Raises:
        OSError: it cannot be read, or is no regular file; `strerror` says which.
    """
    stat_file(path)
    # Without O_NONBLOCK, opening a FIFO that has come meanwhile would wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _require_regular(path, os.fstat(descriptor).st_mode)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(limit) or b""  # None where a file of /proc has nothing yet
    finally:
        os.close(descriptor)


def stat_file(path: Path) -> os.stat_result:
    """Return what is known of a regular file without opening it.

    Raises:
        OSError: as `read_file`.
    """
    found = path.stat()
    _require_regular(path, found.st_mode)
    return found


def _require_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {_kind(mode)}, not a regular file", str(path))


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFDIR: "a directory",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file, or create it; after a crash at any point the old or the new one is whole.

    Only this user may read it. It is written beside the old one and renamed over it.

    Raises:
        OSError: it could not be written; the old file is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    try:
        _write(draft, content)
    except OSError:
        # A full disk gets back what was written of it.
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself must reach the disk
    finally:
        os.close(directory)


def _write(draft: Path, content: bytes) -> None:
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def keep_aside(path: Path) -> str:
    """Copy a file that could not be parsed whole, before it is replaced; return where, in words."""
    aside = path.with_suffix(".unreadable")
    try:
        replace_file(aside, read_file(path, limit=ASIDE_LIMIT))
    except OSError as error:
        return f"it could not be set aside: {error.strerror}"
    return f"set aside as {aside.name}"
