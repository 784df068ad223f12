"""What may lie where a file is expected: left by a mistake, a failed mount or someone who tries."""

from __future__ import annotations

import os
import socket
from pathlib import Path

KINDS = (
    *("FIFO", "directory", "socket", "device", "dangling link", "loop of links", "link to a FIFO"),
    "file of the kernel",
)


def put_odd(path: Path, kind: str) -> None:
    """Replace what is at *path* by something that is no file with a text."""
    remove(path)
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "socket":
            # The name may be longer than the address of a socket may be.
            with socket.socket(socket.AF_UNIX) as bound:
                descriptor = os.open(path.parent, os.O_RDONLY)
                bound.bind(f"/proc/self/fd/{descriptor}/{path.name}")
                os.close(descriptor)
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling link":
            path.symlink_to(path.with_name("nothing"))
        case "loop of links":
            path.symlink_to(path)
        case "link to a FIFO":
            os.mkfifo(target := path.with_suffix(".fifo"))
            path.symlink_to(target)
        case "file of the kernel":
            path.symlink_to("/proc/self/mem")
        case _:
            raise ValueError(kind)


def remove(path: Path) -> None:
    """Remove what `put_odd` put there, or a file."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
