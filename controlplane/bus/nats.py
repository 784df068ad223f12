"""Several replicas joined over NATS: reports on a subject, lease and plan in a JetStream bucket.

* subject ``cats.reports``: everyone's reports and count of clients, at most once;
* key ``lease``: who decides (`lease`);
* key ``plan``: the plan of all, deflated; a long one in parts (`plan_key`);
* key ``memory``: what was learned, now and then, for replicas that join;
* key ``overrides``: the operators' overrides, which any replica may replace (`override_key`);
* subject ``cats.plan``: a hint that the plan is another one.

Every write of lease and plan names the revision it replaces, so that a replica which lost the lease
unnoticed cannot write over its successor's plan.
While NATS cannot be reached the last plan stays; nothing here ends a cycle with an exception.
Whether a plan fits the configuration is for anyone who serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import nats
from nats.errors import Error as NatsError
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
)

from controlplane.bus.codec import decode_message, encode_message
from controlplane.bus.lease import Attempt, Lease
from controlplane.bus.leased import LeasedBus
from controlplane.bus.local import OTHER_OVERRIDES, SavedOverrides
from controlplane.bus.override_key import OverrideKey
from controlplane.bus.packing import deflate, inflate_document
from controlplane.bus.plan_key import PART, UNREADABLE, PlanKey
from controlplane.errors import ReportError
from controlplane.model import Report
from controlplane.steering.plan import Plan

BUCKET = "cats"
REPORTS = "cats.reports"
HINTS = "cats.plan"

LOOK_PERIOD = 0.5
"""Seconds between two looks at lease and plan."""
FLUSH_PERIOD = 0.1
"""Seconds that reports are gathered."""
PRESENCE_PERIOD = 1.0
"""Seconds after which a replica without reports still says how many clients it has."""
REQUEST_TIMEOUT = 1.0
"""Seconds for one answer of JetStream."""
MAX_QUEUED = 50_000
"""Reports that wait to be sent; the oldest go first."""
MAX_IN_MESSAGE = 2_000
_FAULTS = (NatsError, TimeoutError, OSError)
"""What anything asked of NATS may end with."""


class NatsBus(LeasedBus):
    """One replica's end of the bus.

    Args:
        servers: ``nats://`` or ``tls://`` URLs.
        me: this replica's name, unlike any other's, an earlier one of the same machine included.
        tls: how to prove oneself, if not by the URL.
        on_report, on_change, count, clock: as `LeasedBus` takes them.
    """

    unreachable = _FAULTS

    def __init__(
        self,
        servers: list[str],
        *,
        me: str,
        on_report: Callable[[Report], None],
        on_change: Callable[[str], None],
        count: Callable[[str, int], None] = lambda _what, _number: None,
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            Lease(me), on_report=on_report, on_change=on_change, count=count, clock=clock
        )
        self.plan: Plan | None = None
        self.memory: Mapping[str, Any] | None = None
        self._servers = servers
        self._tls = tls
        self._overrides = OverrideKey()
        self._nats: Any = None
        self._bucket: Any = None
        self._lost = True
        """Whether the store has to be opened, since there is none or it may be another one."""
        self._queue: deque[Report] = deque(maxlen=MAX_QUEUED)
        self._stored = PlanKey()
        self._store_created: Any = None
        """When the store was made; another instant is another store."""

    # -- what the control plane asks ----------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Return whether NATS can be reached."""
        return self._nats is not None and bool(self._nats.is_connected)

    @property
    def shares_memory(self) -> bool:
        """Return whether what is learned can reach replicas that join."""
        return self.leads and self.connected

    def publish(self, report: Report) -> None:
        """Send a report to the others, soon."""
        if len(self._queue) == MAX_QUEUED:
            self._count("dropped", 1)
        self._queue.append(report)

    async def offer(self, plan: Plan) -> bool:
        """Make *plan* the plan of all; false if this replica may not, or cannot."""
        if not self.leads or self._lost:
            return False
        content = await asyncio.to_thread(deflate, plan)
        try:
            await self._stored.write(self._bucket, plan.version, content, by=self.me)
        except _FAULTS:
            # It may have been written for all that: the next look says.
            self._hint.set()
            return False
        self.plan = plan
        with contextlib.suppress(*_FAULTS):
            await self._nats.publish(HINTS, b"")
        return True

    async def share_memory(self, memory: Mapping[str, Any]) -> None:
        """Keep what was learned for replicas that join; too much of it is left out."""
        content = await asyncio.to_thread(lambda: zlib.compress(json.dumps(memory).encode(), 3))
        if not self._lost and len(content) <= PART:
            with contextlib.suppress(*_FAULTS):
                await self._bucket.put("memory", content)

    @property
    def overrides(self) -> SavedOverrides | None:
        """Return the overrides that all replicas have, as they were read last."""
        return self._overrides.entries

    @overrides.setter
    def overrides(self, entries: SavedOverrides | None) -> None:
        """Set those to begin with where the store has none."""
        self._overrides.entries = entries

    async def update_overrides(
        self, change: Callable[[SavedOverrides | None], SavedOverrides]
    ) -> bool:
        """Replace the overrides of all by *change* of them; false if the bus cannot be written."""
        try:
            if self._lost or not await self._overrides.update(self._bucket, change):
                return False
        except _FAULTS:
            return False
        self._on_change(OTHER_OVERRIDES)
        with contextlib.suppress(*_FAULTS):
            await self._nats.publish(HINTS, b"")
        return True

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect and keep joined until cancelled."""
        if self._nats is None:
            await self._connect()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_on(), name="bus lease")
            tasks.create_task(self._flush_on(), name="bus reports")

    async def close(self) -> None:
        """Release the lease, so that no replica has to wait for its end, and disconnect."""
        if self._nats is None:
            return
        if self.leads:
            with contextlib.suppress(*_FAULTS):
                await self._release()
        with contextlib.suppress(*_FAULTS, asyncio.CancelledError):
            async with asyncio.timeout(2.0):
                await self._nats.close()

    async def _connect(self) -> None:
        options: dict[str, Any] = {} if self._tls is None else {"tls": self._tls}
        self._nats = await nats.connect(
            self._servers,
            name=self.me,
            no_echo=True,
            connect_timeout=2,
            reconnect_time_wait=0.2,
            max_reconnect_attempts=-1,
            ping_interval=2,
            max_outstanding_pings=2,
            error_cb=_ignore,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            **options,
        )
        await self._nats.subscribe(REPORTS, cb=self._take_message)
        await self._nats.subscribe(HINTS, cb=self._take_hint)
        self._joined_at = self._clock()
        self._on_change("the bus is reached")

    async def _disconnected(self) -> None:
        self._on_change("the bus is unreachable")

    async def _reconnected(self) -> None:
        self._lost = True  # it may be another store, whose revisions start again
        self._hint.set()
        self._on_change("the bus is reached again")

    # -- lease and plan -------------------------------------------------------------------------

    async def _look_on(self) -> None:
        while not _must_end():
            try:
                await self._look()
            except _FAULTS:
                self._lost = True
            self._report_leadership()
            await self._wait_for_hint(LOOK_PERIOD)

    async def _look(self) -> None:
        if self._lost:
            await self._open_store()
        entry = await self._get("lease")
        if (0 if entry is None else entry.revision) < self._lease.revision:
            await self._open_store()  # of another node, which lags, or of another store
            entry = await self._get("lease")
        self._heard_at = self._clock()
        warm = self._is_warm(self._heard_at)
        now = self._clock()
        if entry is None:
            self._lease.observe(None, 0, now=now)
        else:
            self._lease.observe(_holder(entry.value), entry.revision, now=now)
        if self._releasing and self._lease.holder == self.me:
            await self._release()  # the store could not be reached when it was given up
        elif self.may_lead:
            self._releasing = False
            resigned = now < self._resigned_until
            await self._ask_for_lease(
                self._lease.next_attempt(now=now, warm=warm, resigned=resigned)
            )
        await self._read_plan()
        await self._read_overrides()
        if self.leads and self.plan is not None and self._stored.is_wanted:
            await self.offer(self.plan)
        if not self._known.is_set():
            await self._read_memory()
            self._known.set()

    async def _ask_for_lease(self, attempt: Attempt | None) -> None:
        if attempt is None:
            return
        try:
            revision = await self._bucket.update(
                "lease", _lease_value(self.me), last=attempt.revision
            )
        except KeyWrongLastSequenceError:
            self._lease.refused()
        else:
            self._lease.granted(attempt, revision=revision)

    async def _release(self) -> None:
        if self._lost:
            return
        await self._bucket.update("lease", _lease_value(""), last=self._lease.revision)
        self._releasing = False
        await self._nats.publish(HINTS, b"")

    async def _open_store(self) -> None:
        """Open the store, or make it; notice one that is not the previous store."""
        self._bucket = await _open_bucket(self._nats)
        self._lost = False
        info = await self._nats.jetstream(timeout=REQUEST_TIMEOUT).stream_info(f"KV_{BUCKET}")
        if self._store_created not in (None, info.created):
            self._lease.forget(now=self._clock())
            self._stored.forget()
            self._on_change("store of the bus lost; lease and plan written again")
        self._store_created = info.created

    async def _get(self, key: str) -> Any:
        try:
            return await self._bucket.get(key)
        except KeyNotFoundError:
            return None

    async def _read_plan(self) -> None:
        try:
            plan, torn = await self._stored.read(
                self._bucket,
                current=None if self.plan is None else self.plan.version,
                now=self._clock(),
            )
        except ReportError as error:
            self._count("refused", 1)
            self._on_change(str(error)[:200])
            return
        if torn:
            self._hint.set()
        if plan is not None:
            self.plan = plan
            self._on_change("another plan")

    async def _read_overrides(self) -> None:
        for change in await self._overrides.read(self._bucket, leads=self.leads):
            self._on_change(change)

    async def _read_memory(self) -> None:
        entry = await self._get("memory")
        if entry is not None:
            with contextlib.suppress(*UNREADABLE):
                self.memory = inflate_document(entry.value or b"")

    async def _take_hint(self, _message: Any) -> None:
        self._hint.set()

    # -- reports --------------------------------------------------------------------------------

    async def _flush_on(self) -> None:
        sent_at = 0.0
        while not _must_end():
            await asyncio.sleep(FLUSH_PERIOD)
            now = self._clock()
            if not self.connected:
                self._count("dropped", len(self._queue))
                self._queue.clear()
                continue
            while self._queue or now - sent_at >= PRESENCE_PERIOD:
                size = min(len(self._queue), MAX_IN_MESSAGE)
                reports = [self._queue.popleft() for _ in range(size)]
                content = encode_message(self.me, self._presence.own, reports, now=now)
                with contextlib.suppress(*_FAULTS):
                    await self._nats.publish(REPORTS, content)
                    self._count("sent", size)
                sent_at = now

    async def _take_message(self, message: Any) -> None:
        now = self._clock()
        try:
            heard = decode_message(message.data, now=now)
        except ReportError:
            self._count("refused", 1)
            return
        self._presence.hear(heard.sender[:256], heard.clients)
        self._receive_reports(heard.reports, refused=heard.refused)


async def _open_bucket(connection: Any) -> Any:
    stream = connection.jetstream(timeout=REQUEST_TIMEOUT)
    try:
        return await stream.key_value(BUCKET)
    except BucketNotFoundError:
        pass
    for replicas in (3, 1):
        config = KeyValueConfig(
            bucket=BUCKET, history=1, storage=StorageType.FILE, replicas=replicas
        )
        try:
            return await stream.create_key_value(config)
        except APIError as error:
            # A cluster of fewer nodes than copies; or another replica was first.
            if replicas == 1:
                raise error from None
    raise AssertionError("unreachable")


async def _ignore(_error: Exception) -> None:
    """Drop what the client library would log: connects and disconnects are reported by us, once."""


def _must_end() -> bool:
    """Return whether this task was cancelled, also where a library swallowed the cancellation.

    ``asyncio.wait_for`` of Python 3.11 loses a cancellation that meets its result
    (python/cpython#86296), and the NATS client waits with it throughout.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _lease_value(holder: str) -> bytes:
    return json.dumps({"holder": holder}).encode()


def _holder(value: bytes | None) -> str:
    try:
        return str(json.loads(value or b"{}")["holder"])
    except (ValueError, KeyError, TypeError):
        return ""
