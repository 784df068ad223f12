"""Several replicas joined without a broker: a Lease says who decides, and they ask the leader.

* the Lease: who decides (`lease`), where the leader is reached, operators' overrides;
* a follower asks the leader some times a second: its own reports and count of clients go there,
  the others' reports and the plan come back.

Envoys and agents may so dial any replica, every replica serves, and what one hears all know. The
alternative, agents that report to every replica, would leave out what Envoys report, each of which
has one stream. It is for a cluster's few replicas: all reports pass through the leader. Many sites,
or replicas in several clusters, want NATS.

While the API cannot be reached the leader gives up by its own clock, before another may begin, and
the last plan stays; nothing here ends a cycle with an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from controlplane.bus.lease import Lease
from controlplane.bus.leased import LeasedBus
from controlplane.bus.local import OTHER_OVERRIDES, SavedOverrides
from controlplane.bus.peer_messages import Answer, PeerError, Question
from controlplane.bus.peers import PeerClient
from controlplane.bus.relay import Relay
from controlplane.model import Report
from controlplane.sources.kubernetes.api_answers import ApiError, Failure
from controlplane.sources.kubernetes.leases import LeaseRecord, LeaseStore
from controlplane.steering.plan import Plan

DURATION = 10.0
"""Seconds that a leader decides after it asked for its last renewal."""
MARGIN = 2.0
"""Seconds more that others wait."""
LOOK_PERIOD = 1.0
"""Seconds between two looks at the Lease."""
ASK_PERIOD = 0.25
"""Seconds between two questions to the leader."""
ATTEMPTS = 5
"""Times that overrides are written again because someone else was first."""


class KubernetesBus(LeasedBus):
    """One replica's end of the bus.

    Args:
        store: the Lease.
        peers: asks the leader.
        me: this replica's name, unlike any other's, an earlier one of the same pod included.
        address: where this replica answers the others.
        on_report, on_change, count, clock: as `LeasedBus` takes them.
    """

    unreachable = (ApiError,)

    def __init__(
        self,
        store: LeaseStore,
        peers: PeerClient,
        *,
        me: str,
        address: str,
        on_report: Callable[[Report], None],
        on_change: Callable[[str], None],
        count: Callable[[str, int], None] = lambda _what, _number: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        lease = Lease(me, duration=DURATION, margin=MARGIN)
        super().__init__(lease, on_report=on_report, on_change=on_change, count=count, clock=clock)
        self.address = address
        self.overrides: SavedOverrides | None = None
        self._store = store
        self._peers = peers
        self._relay = Relay(me, self._presence, clock=clock)
        self._record: LeaseRecord | None = None
        self._reached = False

    # -- what the control plane asks ----------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Return whether the API, and the leader if that is another replica, answer."""
        return self._reached and (self.leads or self._peers.reached)

    @property
    def plan(self) -> Plan | None:
        """Return the plan that all serve."""
        return self._relay.plan

    def publish(self, report: Report) -> None:
        """Let the others hear a report, soon."""
        self._count("dropped", self._relay.add(report))

    async def offer(self, plan: Plan) -> bool:
        """Make *plan* the plan of all; false if this replica may not."""
        if not self.leads:
            return False
        await self._relay.set_plan(plan)
        return self.leads

    @property
    def shares_memory(self) -> bool:
        """Return whether replicas that join get what this one has learned."""
        return self.leads

    @property
    def memory(self) -> Mapping[str, Any] | None:
        """Return what the leader had learned when this replica joined; None if unknown."""
        return self._relay.memory

    async def share_memory(self, memory: Mapping[str, Any]) -> None:
        """Keep what was learned for replicas that join; the others hear every report."""
        await self._relay.set_memory(memory)

    async def update_overrides(
        self, change: Callable[[SavedOverrides | None], SavedOverrides]
    ) -> bool:
        """Replace the overrides of all by *change* of them; false if they cannot be written."""
        for _ in range(ATTEMPTS):
            try:
                seen = await self._store.read()
                if not seen.revision:
                    return False
                changed = change(seen.overrides)
                self._record = await self._store.share(seen, changed)
            except ApiError as error:
                if error.failure is Failure.CONFLICT:
                    continue
                return False
            except ValueError:
                return False
            self._adopt(self._record)
            return True
        return False

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep joined until cancelled."""
        self._joined_at = self._clock()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_on(), name="bus lease")
            tasks.create_task(self._ask_on(), name="bus reports")

    async def close(self) -> None:
        """Release the lease, so that no replica has to wait for its end."""
        if self.leads:
            self._lease.refused()
            with contextlib.suppress(ApiError):
                await self._release()

    def answer(self, question: Question) -> Answer | None:
        """Answer a follower; None if this replica does not lead, or is not the one it means."""
        if not self.leads or question.to != self.me:
            return None
        message, answer = self._relay.answer(question)
        if message is not None:
            self._receive_reports(message.reports, refused=message.refused)
        return answer

    # -- lease ----------------------------------------------------------------------------------

    async def _look_on(self) -> None:
        while True:
            try:
                await self._look()
            except ApiError as error:
                if error.failure is not Failure.CONFLICT and self._reached:
                    self._reached = False
                    self._on_change("the bus is unreachable")
            self._report_leadership()
            await self._wait_for_hint(LOOK_PERIOD)

    async def _look(self) -> None:
        record = await self._store.read()
        now = self._clock()
        if not self._reached:
            self._reached = True
            self._on_change("the bus is reached")
        self._heard_at = now
        if record.revision < self._lease.revision:
            # Deleted, or etcd was restored: reads are never older than what was read before.
            self._lease.forget(now=now)
        self._lease.observe(record.holder if record.revision else None, record.revision, now=now)
        self._adopt(record)
        if self._releasing and record.holder == self.me:
            await self._release()
        elif self.may_lead:
            self._releasing = False
            await self._ask_for_lease(record)
        if self.leads or self._record is None or not self._record.holder:
            self._known.set()

    async def _ask_for_lease(self, record: LeaseRecord) -> None:
        now = self._clock()
        attempt = self._lease.next_attempt(
            now=now, warm=self._is_warm(now), resigned=now < self._resigned_until
        )
        if attempt is None:
            return
        try:
            written = await self._store.hold(record, holder=self.me, address=self.address)
        except ApiError as error:
            if error.failure is Failure.CONFLICT:
                self._hint.set()  # an override, or another replica: the next look says which
            raise
        self._lease.granted(attempt, revision=written.revision)
        self._adopt(written)

    async def _release(self) -> None:
        record = await self._store.read()
        if record.holder == self.me:
            self._adopt(await self._store.hold(record, holder="", address=""))
        self._releasing = False

    def _adopt(self, record: LeaseRecord) -> None:
        self._record = record
        if record.overrides is not None and record.overrides != self.overrides:
            self.overrides = record.overrides
            self._on_change(OTHER_OVERRIDES)

    # -- leader ---------------------------------------------------------------------------------

    async def _ask_on(self) -> None:
        while True:
            await asyncio.sleep(ASK_PERIOD)
            record = self._record
            if self.leads:
                self._relay.trim()
                continue
            if record is None or not record.address or record.holder in ("", self.me):
                continue
            try:
                await self._ask(record)
            except PeerError:
                continue  # the Lease says how long that may last

    async def _ask(self, record: LeaseRecord) -> None:
        question, sent = self._relay.ask(record.holder)
        answer = await self._peers.ask(record.address, question)
        self._heard_at = self._clock()
        self._count("sent", sent)
        message, is_other = await self._relay.receive(record.holder, answer)
        self._receive_reports(message.reports, refused=message.refused)
        self._known.set()
        if is_other:
            self._on_change("another plan")
