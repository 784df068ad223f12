"""How many files this process may have open, and so how many clients it can take.

A soft limit of 1024 is usual, and stands for programs that cannot count further (select); ours can.
"""

from __future__ import annotations

import resource

RESERVED = 512
"""Files for everything but clients: scrapes of instances, the bus, the admin port, state."""
_LEAST = 64


def take_files(wanted: int) -> int:
    """Raise the soft limit so that *wanted* clients fit, if it may be; return how many do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + RESERVED
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections_within(soft, wanted)


def connections_within(files: int, wanted: int) -> int:
    """Return how many of *wanted* connections fit into *files* beside what else is open."""
    if files == resource.RLIM_INFINITY:
        return wanted
    return max(min(_LEAST, wanted), min(wanted, files - RESERVED))
