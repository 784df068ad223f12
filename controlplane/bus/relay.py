"""What one replica knows of the others without a broker: as a follower, and as the leader."""

from __future__ import annotations

import asyncio
import base64
import itertools
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from controlplane.bus.codec import Message, decode_message, encode_message
from controlplane.bus.packing import deflate, deflate_document, inflate, inflate_document
from controlplane.bus.peer_messages import Answer, PeerError, Question
from controlplane.bus.presence import Presence
from controlplane.errors import ReportError
from controlplane.model import Report
from controlplane.steering.plan import Plan

MAX_MEMORY = 16_000_000
"""Bytes of the deflated estimates that a follower gets when it joins."""
MAX_QUEUED = 50_000
"""Reports that wait; the oldest go first."""
MAX_IN_MESSAGE = 5_000
KEPT = 5.0
"""Seconds that the leader keeps reports for followers that have not asked yet."""
MAX_FOLLOWERS = 1_000
"""Replicas whose last question is remembered, those that ended among them."""


class Relay:
    """What one replica knows of the others: as a follower, and as the leader that they ask."""

    def __init__(self, me: str, presence: Presence, *, clock: Callable[[], float]) -> None:
        self.plan: Plan | None = None
        self.memory: Mapping[str, Any] | None = None
        """What the leader had learned when this replica joined."""
        self._shared_memory = ""
        self._me = me
        self._clock = clock
        self._content = b""
        """The plan, deflated."""
        self._presence = presence
        self._counts: dict[str, int] = {}
        """Follower -> its last question."""
        self._kept: deque[tuple[int, float, str, Report]] = deque(maxlen=MAX_QUEUED)
        """Number, instant, sender and report, in order."""
        self._numbers = itertools.count(1)
        self._last = 0
        self._questions = itertools.count(1)
        self._leader = ""
        self._since = -1
        self._pending = 0
        self._sent = 0
        """Number of the last own report that a leader has."""

    def add(self, report: Report, sender: str = "") -> int:
        """Keep a report for the others; return how many were dropped for it."""
        is_full = len(self._kept) == MAX_QUEUED
        self._last = next(self._numbers)
        self._kept.append((self._last, self._clock(), sender or self._me, report))
        return int(is_full)

    def trim(self) -> None:
        """Forget what every follower that asks has heard by now."""
        limit = self._clock() - KEPT
        while self._kept and self._kept[0][1] < limit:
            self._kept.popleft()

    async def set_plan(self, plan: Plan) -> None:
        """Make *plan* what followers get."""
        content = await asyncio.to_thread(deflate, plan)
        self.plan, self._content = plan, content

    async def set_memory(self, memory: Mapping[str, Any]) -> None:
        """Make *memory* what followers that join get; too much of it is left out."""
        content = await asyncio.to_thread(deflate_document, memory)
        self._shared_memory = (
            base64.b64encode(content).decode() if len(content) <= MAX_MEMORY else ""
        )

    # As a follower.

    def ask(self, leader: str) -> tuple[Question, int]:
        """Return the question that is due, and how many reports it carries."""
        if leader != self._leader:
            self._leader, self._since = leader, -1
        self.trim()
        own = [
            (number, report)
            for number, _, sender, report in self._kept
            if sender == self._me and number > self._sent
        ][:MAX_IN_MESSAGE]
        self._pending = own[-1][0] if own else self._sent
        reports = [report for _, report in own]
        message = encode_message(self._me, self._presence.own, reports, now=self._clock()).decode()
        have = "" if self.plan is None else self.plan.version
        question = Question(leader, self._me, next(self._questions), have, self._since, message)
        return question, len(own)

    async def receive(self, leader: str, answer: Answer) -> tuple[Message, bool]:
        """Receive an answer; return what the others reported, and whether the plan is another.

        Raises:
            PeerError: it cannot be read.
        """
        try:
            message = decode_message(answer.message.encode(), now=self._clock())
            plan = self.plan
            if answer.plan:
                content = base64.b64decode(answer.plan, validate=True)
                plan = await asyncio.to_thread(inflate, content, self._clock())
                self._content = content
            if answer.memory:
                shared = base64.b64decode(answer.memory, validate=True)
                self.memory = await asyncio.to_thread(inflate_document, shared)
        except (ReportError, ValueError, KeyError, TypeError, zlib.error) as error:
            raise PeerError(f"an answer that cannot be read: {error}"[:200]) from error
        self._sent, self._since = self._pending, answer.until
        self._presence.hear_only(leader, message.clients)
        before, self.plan = self.plan, plan
        is_other = plan is not None and (before is None or before.version != plan.version)
        return message, is_other

    # As the leader.

    def answer(self, question: Question) -> tuple[Message | None, Answer]:
        """Return what a follower reports, None if that was heard already, and the answer to it."""
        now = self._clock()
        message: Message | None = None
        if question.count > self._counts.get(question.sender, 0):
            try:
                message = decode_message(question.message.encode(), now=now)
            except ReportError:
                message = Message(question.sender, {}, (), refused=1)
            self._counts[question.sender] = question.count
            while len(self._counts) > MAX_FOLLOWERS:
                del self._counts[next(iter(self._counts))]
            self._presence.hear(question.sender, message.clients)
            for report in message.reports:
                self.add(report, question.sender)
        fresh = [
            report
            for number, _, sender, report in self._kept
            if number > question.since and sender != question.sender
        ]
        if question.since < 0:
            fresh = []  # one that joins begins with what comes
        clients = self._presence.clients(apart=question.sender)
        version = "" if self.plan is None else self.plan.version
        plan = "" if version == question.have else base64.b64encode(self._content).decode()
        text = encode_message(self._me, clients, fresh[-MAX_IN_MESSAGE:], now=now).decode()
        joins = question.since < 0 and not question.have
        memory = self._shared_memory if joins else ""
        return message, Answer(version, plan, self._last, text, memory)
