"""Free ports of the loopback interface; knows nothing of who will listen on them."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack

_RANGE = range(20_000, 32_000)
"""Below the range from which Linux takes the ports of outgoing connections, so that a port
found free is not taken by a client before its server binds it."""


def free_ports(count: int, *, host: str = "127.0.0.1") -> tuple[int, ...]:
    """Find *count* different TCP ports that no one listens on.

    Raises:
        OSError: there are not that many.
    """
    found: list[int] = []
    with ExitStack() as held:
        for port in random.SystemRandom().sample(_RANGE, len(_RANGE)):
            if len(found) == count:
                break
            bound = held.enter_context(socket.socket())
            try:
                bound.bind((host, port))
            except OSError:
                continue
            found.append(port)
    if len(found) < count:
        raise OSError(f"only {len(found)} of {count} ports are free on {host}")
    return tuple(found)


def free_port(*, host: str = "127.0.0.1") -> int:
    """Find one TCP port that no one listens on."""
    return free_ports(1, host=host)[0]
