"""Ports of the loopback interface for servers that start later; knows nothing of who will listen.

Between the moment a port is found free and the moment its server binds it, no one else may get it:

* not another test process: a process takes ports from blocks of its own, each held by a lock on a
  file for as long as the process lives;
* not this process again: it goes through its blocks in turn;
* not a client: the blocks lie outside the range from which Linux takes ports of outgoing
  connections.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

FIRST, LAST = 20_000, 65_024
"""The ports that may be used, above what programs and documentation name by default."""
BLOCK = 128
"""Ports that one lock holds."""
MAX_BLOCKS = 6
"""Blocks of one process; with all of them used once it begins again with its first."""
_OUTGOING = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortBlocks:
    """Ports of this process.

    Args:
        directory: holds the lock files; the same for all processes of a machine.
        ports: whose whole blocks may be taken.
    """

    def __init__(self, directory: Path, ports: range) -> None:
        self._directory = directory
        self._free_blocks = [
            range(start, start + BLOCK) for start in range(ports.start, ports.stop - BLOCK, BLOCK)
        ]
        random.SystemRandom().shuffle(self._free_blocks)
        self._held = 0
        self._unused: list[int] = []
        self._used: list[int] = []
        self._locks = ExitStack()

    def take(self, count: int, *, host: str) -> tuple[int, ...]:
        """Take *count* different ports that no one listens on.

        Raises:
            OSError: there are not that many.
        """
        found: list[int] = []
        ports = self._next_ports(count)
        while len(found) < count:
            port = next(ports, None)
            if port is None:
                raise OSError(f"only {len(found)} of {count} ports are free on {host}")
            self._used.append(port)
            if _is_free(host, port):
                found.append(port)
        return tuple(found)

    def close(self) -> None:
        """Let other processes have the blocks."""
        self._locks.close()

    def _next_ports(self, count: int) -> Iterator[int]:
        """Yield ports, those first that were not yielded for longest, each once."""
        most = max(MAX_BLOCKS, -(-2 * count // BLOCK))
        while self._unused or (self._held < most and self._lock_block()):
            yield self._unused.pop(0)
        again, self._used = self._used, []
        for number, port in enumerate(again):
            self._unused = again[number + 1 :]
            yield port

    def _lock_block(self) -> bool:
        while self._free_blocks:
            block = self._free_blocks.pop()
            lock = os.open(self._directory / str(block.start), os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            self._locks.callback(os.close, lock)
            self._held += 1
            self._unused.extend(block)
            return True
        return False


def free_ports(count: int, *, host: str = "127.0.0.1") -> tuple[int, ...]:
    """Reserve *count* different TCP ports that no one listens on.

    Raises:
        OSError: there are not that many.
    """
    global _blocks  # noqa: PLW0603 -- one for the process, and another one after a fork
    with _lock:
        if _blocks is None or _blocks[0] != os.getpid():
            directory = Path(tempfile.gettempdir(), f"cats-ports-{os.getuid()}")
            directory.mkdir(exist_ok=True)
            _blocks = os.getpid(), PortBlocks(directory, outside(_read_outgoing()))
        return _blocks[1].take(count, host=host)


def free_port(*, host: str = "127.0.0.1") -> int:
    """Reserve one TCP port that no one listens on."""
    return free_ports(1, host=host)[0]


def outside(outgoing: range) -> range:
    """Return the larger run of usable ports below or above those of *outgoing* connections.

    All usable ones where neither run has room for two blocks.
    """
    below = range(FIRST, min(LAST, max(FIRST, outgoing.start)))
    above = range(max(FIRST, min(LAST, outgoing.stop)), LAST)
    larger = max(below, above, key=len)
    return larger if len(larger) > 2 * BLOCK else range(FIRST, LAST)


_lock = threading.Lock()
_blocks: tuple[int, PortBlocks] | None = None


def _read_outgoing() -> range:
    try:
        first, last = map(int, _OUTGOING.read_text().split())
    except FileNotFoundError:
        return range(32_768, 61_000)
    return range(first, last + 1)


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as bound:
        try:
            bound.bind((host, port))
        except OSError:
            return False
    return True
