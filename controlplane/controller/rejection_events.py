"""Events on Kubernetes objects for what discovery rejects, where `kubectl describe` shows them.

They are a courtesy: written one by one and seldom, dropped when there are too many, and what keeps
them from being written is reported once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from controlplane.config import ObjectRef, RejectedInstance
from controlplane.runtime.log import Logger
from controlplane.sources.kubernetes.api_answers import ApiError
from controlplane.sources.kubernetes.client import ApiClient

PERIOD = 1.0
"""Seconds between two Events."""
MAX_WAITING = 100
"""Events that wait to be written; more are dropped, and the log has them all."""
MAX_KNOWN = 2_000
"""Rejections that are remembered as written."""
MAX_MESSAGE = 1024
"""Characters that the API takes."""
COMPONENT = "cats"
OF_FILE = ""
"""In place of a rule: the configuration itself was rejected."""


class RejectionEvents:
    """Writes an Event for each new rejection.

    Args:
        clients: returns the client of a rule's cluster; None where there is none.
        unix_time: seconds.
        log: where a failure is reported.
    """

    def __init__(
        self,
        clients: Callable[[str], ApiClient | None],
        *,
        unix_time: Callable[[], float],
        log: Logger,
    ) -> None:
        self._clients = clients
        self._unix_time = unix_time
        self._log = log
        self._waiting: asyncio.Queue[RejectedInstance] = asyncio.Queue(MAX_WAITING)
        self._known: dict[tuple[ObjectRef, str], None] = {}
        self._failed = False

    def note(self, refused: Iterable[RejectedInstance]) -> None:
        """Have Events written for those of *refused* that are new."""
        for each in refused:
            if each.about is None or self._waiting.full():
                continue
            key = each.about, each.message
            if key in self._known:
                continue
            self._known[key] = None
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._waiting.put_nowait(each)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            each = await self._waiting.get()
            client = self._clients(each.rule)
            if client is None or each.about is None:
                continue
            event = build_event(each.about, each, unix_time=self._unix_time())
            try:
                await client.create_event(event["metadata"]["namespace"], event)
            except ApiError as error:
                if not self._failed:
                    self._log.warning(
                        "Kubernetes Event not written",
                        rule=each.rule, reason=str(error), remedy=error.remedy,
                    )  # fmt: skip
                self._failed = True
            else:
                self._failed = False
            await asyncio.sleep(PERIOD)


def build_event(
    about: ObjectRef, refused: RejectedInstance, *, unix_time: float
) -> Mapping[str, Any]:
    """Return an Event of the core API on *about*; the same rejection has the same name."""
    at = dt.datetime.fromtimestamp(unix_time, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    message = f"{refused.name}: {refused.message}"[:MAX_MESSAGE]
    text = f"{about.uid} {refused.rule} {message} {at}"
    mark = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about.name[:200]}.{mark}", "namespace": about.namespace},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": about.kind,
            "namespace": about.namespace,
            "name": about.name,
            **({"uid": about.uid} if about.uid else {}),
        },
        "type": "Warning",
        "reason": "InstanceRejected" if refused.rule != OF_FILE else "FleetRejected",
        "message": message,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": f"{COMPONENT}-{refused.rule or 'fleet'}",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
