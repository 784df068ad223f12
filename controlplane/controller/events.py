"""Server-sent events for anyone who watches: bounded clients, bounded memory.

State events (a plan, the fleet) replace an unsent one of the same kind, since only the newest
matters; fault events are kept, the oldest dropped first. A watcher that does not read costs one
document of each kind and twice `FAULT_LIMIT` events, whatever time passes.
[HTML Living Standard, 9.2 Server-sent events]
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping

from controlplane.runtime.json_text import dump

CLIENT_LIMIT = 64
"""Watchers at a time; browsers and terminals of the people who operate one fleet."""
FAULT_LIMIT = 100
"""Unsent faults kept for one watcher, and faults remembered for the next."""
ALL_STATES = frozenset({"config", "fleet", "plan", "envoys"})
"""The states that a watcher gets who does not say which; faults come always."""


class WatcherReplaced(Exception):  # noqa: N818 -- says what is the case
    """The hub was full, and this watcher made room for a new one."""


class Watcher:
    """One client's unsent events.

    Attributes:
        kinds: the states it wants.
        peer: address of its machine.
    """

    def __init__(self, kinds: frozenset[str] = ALL_STATES, *, peer: str = "") -> None:
        self.kinds = kinds
        self.peer = peer
        self._replaced = False
        self._states: dict[str, bytes] = {}
        self._faults: deque[bytes] = deque(maxlen=2 * FAULT_LIMIT)
        self._wake = asyncio.Event()

    def put(self, kind: str, event: bytes, *, replace: bool) -> None:
        """Queue *event*."""
        if replace:
            self._states.pop(kind, None)
            self._states[kind] = event
        else:
            self._faults.append(event)
        self._wake.set()

    def replace(self) -> None:
        """End it, since another takes its seat."""
        self._replaced = True
        self._wake.set()

    async def next_bytes(self) -> bytes:
        """Wait for events and return all that are unsent.

        Raises:
            WatcherReplaced: it has no seat any more.
        """
        await self._wake.wait()
        if self._replaced:
            raise WatcherReplaced
        self._wake.clear()
        pending = b"".join([*self._faults, *self._states.values()])
        self._faults.clear()
        self._states.clear()
        return pending


class EventHub:
    """Passes events to every watcher, as bytes made once."""

    def __init__(self, *, client_limit: int = CLIENT_LIMIT) -> None:
        self._limit = client_limit
        self._watchers: dict[Watcher, None] = {}
        """The oldest first."""
        self._faults: deque[tuple[int, bytes]] = deque(maxlen=FAULT_LIMIT)
        self._infos: deque[tuple[int, bytes]] = deque(maxlen=FAULT_LIMIT)
        """Of level info, apart, so that moves push out no fault."""
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._watchers)

    def watch(self, kinds: frozenset[str] = ALL_STATES, *, peer: str = "") -> Watcher:
        """Add a watcher of some kinds of state, which first gets the previous faults.

        When all seats are taken, the oldest watcher of the machine that has most makes room:
        forgotten terminals must not keep out anyone who looks now.
        """
        if len(self._watchers) >= self._limit:
            counts = Counter(watcher.peer for watcher in self._watchers)
            most = max(counts.values())
            old = next(watcher for watcher in self._watchers if counts[watcher.peer] == most)
            self.forget(old)
            old.replace()
        watcher = Watcher(kinds, peer=peer)
        for _, fault in sorted((*self._faults, *self._infos)):
            watcher.put("fault", fault, replace=False)
        self._watchers[watcher] = None
        return watcher

    def forget(self, watcher: Watcher) -> None:
        """Remove a watcher that went away."""
        self._watchers.pop(watcher, None)

    def publish_state(self, kind: str, document: Callable[[], object]) -> None:
        """Send a state to everyone; *document* is only made when someone watches it."""
        watchers = [watcher for watcher in self._watchers if kind in watcher.kinds]
        if not watchers:
            return
        event = self._encode(kind, document())
        for watcher in watchers:
            watcher.put(kind, event, replace=True)

    def wants(self, kind: str) -> bool:
        """Return whether anyone watches a state."""
        return any(kind in watcher.kinds for watcher in self._watchers)

    def publish_encoded(self, kind: str, content: bytes) -> None:
        """Send a state that is JSON already to everyone who watches it."""
        event = self._frame(kind, content)
        for watcher in self._watchers:
            if kind in watcher.kinds:
                watcher.put(kind, event, replace=True)

    def wake(self, kind: str) -> None:
        """Wake everyone who watches a state that they fetch themselves."""
        for watcher in self._watchers:
            if kind in watcher.kinds:
                watcher.put(kind, b"", replace=True)

    def publish_fault(self, document: object) -> None:
        """Send a fault to everyone and remember it."""
        event = self._encode("fault", document)
        info = isinstance(document, Mapping) and document.get("level") == "info"
        (self._infos if info else self._faults).append((self._sequence, event))
        for watcher in self._watchers:
            watcher.put("fault", event, replace=False)

    def _encode(self, kind: str, document: object) -> bytes:
        return self._frame(kind, dump(document))

    def _frame(self, kind: str, content: bytes) -> bytes:
        self._sequence += 1
        return b"id: %d\nevent: %b\ndata: %b\n\n" % (self._sequence, kind.encode(), content)
