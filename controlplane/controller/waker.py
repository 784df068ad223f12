"""Calls the webhooks that start instances which are asleep; says what became of each call.

A call is tried a few times, follows no redirect, and reads nothing of the answer but its status.
What it came to is a report like any other, so that the fleet, other replicas and recordings know of
starts that are under way. Only the replica that decides calls, and only in ``mode: steer``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp

from controlplane.config import Config, Mode, Wake
from controlplane.errors import ReportError
from controlplane.model import WakeReport
from controlplane.runtime.log import Logger
from controlplane.runtime.throttle import LogLimit, TokenBucket
from controlplane.sources.http_session import plain_session
from controlplane.sources.network_errors import reason_of
from controlplane.sources.pages import build_trust
from controlplane.sources.tokens import read_token
from controlplane.steering.plan import StartWish

ATTEMPTS = 3
"""Times that one call is tried where the other side may be well a moment later."""
PAUSE = 1.0
"""Seconds before the second try; doubled for each further one."""
RATE = 0.2
"""Calls a second of all instances together, over time."""
BURST = 10.0
"""Calls at once."""


class Waker:
    """Calls webhooks while `run` runs.

    Args:
        on_report: takes what a call came to; may raise `ReportError`.
        on_outcome: takes ``accepted`` or ``failed`` for each call.
        clock: the fleet's.
        log: where calls that have to wait are reported.
        pause: seconds before the second try of a call.
    """

    def __init__(
        self,
        *,
        on_report: Callable[[WakeReport], None],
        on_outcome: Callable[[str], None],
        clock: Callable[[], float],
        log: Logger,
        pause: float = PAUSE,
    ) -> None:
        self._on_report = on_report
        self._on_outcome = on_outcome
        self._clock = clock
        self._log = log
        self._pause = pause
        self._logged: LogLimit[str] = LogLimit()
        self._bucket = TokenBucket(rate=RATE, burst=BURST, now=clock())
        self._due: dict[str, tuple[StartWish, Wake]] = {}
        self._calling: dict[str, asyncio.Task[None]] = {}
        self._ended_at: dict[str, float] = {}
        """Instance -> when its last call ended."""
        self._asked = asyncio.Event()

    def consider(self, wishes: Iterable[StartWish], config: Config, *, at: float) -> None:
        """Call for those of *wishes* that are wanted, unless a call for them is under way.

        Args:
            wishes: of a plan.
            config: whom to call.
            at: when the fleet was seen that the plan is for: one seen before a call ended does not
                know of the start, however late it was decided.
        """
        self._due = {}
        names = {instance.name for instance in config.instances}
        self._ended_at = {name: ended for name, ended in self._ended_at.items() if name in names}
        wanted = {each.instance: each for each in wishes if each.wanted}
        if not wanted or config.steering.mode is Mode.OBSERVE:
            return
        for instance in config.instances:
            wish, wake = wanted.get(instance.name), instance.wake
            if instance.name in self._calling or at <= self._ended_at.get(instance.name, -math.inf):
                continue
            if wish and wake and wake.url:
                self._due[instance.name] = (wish, wake)
        if self._due:
            self._asked.set()

    async def run(self) -> None:
        """Call until cancelled."""
        async with plain_session(accept="*/*", keep_alive=False) as session:
            try:
                while True:
                    await self._asked.wait()
                    self._asked.clear()
                    due, self._due = self._due, {}
                    for wish, wake in due.values():
                        self._start(wish, wake, session)
            finally:
                tasks = tuple(self._calling.values())
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, wish: StartWish, wake: Wake, session: aiohttp.ClientSession) -> None:
        if self._bucket.reserve(now=self._clock(), patience=0.0) is None:
            if self._logged.is_due("starts", now=self._clock()):
                self._log.warning(
                    "instance start postponed",
                    instance=wish.instance,
                    limit=f"{BURST:.0f} calls at once, then one in {1 / RATE:.0f} s",
                    remedy="none needed; to start more at once, let one instance stand for several",
                )
            return
        task = asyncio.create_task(self._call(wish, wake, session), name=f"wake {wish.instance}")
        self._calling[wish.instance] = task
        task.add_done_callback(lambda _: self._calling.pop(wish.instance, None))

    async def _call(self, wish: StartWish, wake: Wake, session: aiohttp.ClientSession) -> None:
        error = await self.call(wish, wake, session)
        self._calling.pop(wish.instance, None)  # at the outcome, it may be asked for again
        self._on_outcome("failed" if error else "accepted")
        now = self._ended_at[wish.instance] = self._clock()
        try:
            self._on_report(WakeReport(wish.instance, now, error))
        except ReportError as gone:
            self._log.debug("report rejected", reason=str(gone))

    async def call(self, wish: StartWish, wake: Wake, session: aiohttp.ClientSession) -> str:
        """Call the webhook of *wake*; return why that came to nothing, else nothing."""
        error = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self._pause * 2.0 ** (attempt - 1))
            try:
                status = await _post(wake, _document(wish), session)
            except (aiohttp.ClientError, OSError, ValueError, ReportError) as failure:
                # TimeoutError is an OSError; ValueError is what faulty URLs and files raise.
                error = reason_of(failure, timeout="wake.timeout")
                if not _may_pass(failure):
                    return error
                continue
            if 200 <= status < 300:
                return ""
            error = f"status {status}"
            if status < 500 and status != 429:
                return error
        return error


def _document(wish: StartWish) -> Mapping[str, Any]:
    """Return what a webhook is sent with the start that it is asked for."""
    return {
        "instance": wish.instance,
        "site": wish.site,
        "model": wish.model,
        "reason": str(wish),
        "unserved": list(wish.unserved),
        "saves": round(wish.saves, 3),
        "use": wish.use,
    }


async def _post(wake: Wake, document: Mapping[str, Any], session: aiohttp.ClientSession) -> int:
    assert wake.url is not None  # noqa: S101 -- else no one calls
    headers = {}
    if wake.token_file is not None:
        token = await asyncio.to_thread(read_token, wake.token_file)
        headers["Authorization"] = f"Bearer {token}"
    async with session.post(
        wake.url,
        json=document,
        headers=headers,
        ssl=await asyncio.to_thread(build_trust, wake),
        timeout=aiohttp.ClientTimeout(total=wake.timeout),
        allow_redirects=False,
    ) as response:
        return response.status


def _may_pass(failure: Exception) -> bool:
    """Return whether the same call may succeed a moment later."""
    if isinstance(failure, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL):
        return False
    return isinstance(failure, aiohttp.ClientError | TimeoutError)
