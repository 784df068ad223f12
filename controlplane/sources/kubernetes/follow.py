"""Follows the objects of one kind: lists them once, then takes every change from there on.

What is known stays known while the API is away, and while a new list is on its way: objects are
replaced as a whole, so nobody ever sees a part of a list.
A broken connection goes on from the last version that was heard of, which bookmarks keep young;
410 Gone, which says that the API has forgotten it, is answered with a new list.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from controlplane.errors import ReportError
from controlplane.sources.kubernetes.client import PAGE_LIMIT, ApiClient, ApiError, Failure
from controlplane.sources.kubernetes.finding import Wanted
from controlplane.sources.kubernetes.objects import KubernetesObject

MAX_OBJECTS = 20_000
"""Objects of one kind that are kept; more are refused, and what was known stays."""
MAX_PAGES = 1000
WATCH_SECONDS = 60.0
"""How long one watch lasts, after which it goes on from where it was. A connection that died in
silence is noticed that late, and a rotated token is shown that early."""
FIRST_PAUSE = 0.5
"""Seconds before it is tried again; doubles up to `LONGEST_PAUSE`."""
LONGEST_PAUSE = 30.0
LEAST_WATCH = 1.0
"""Seconds; a watch that ended earlier is not begun again at once."""
LEAST_RELIST = 10.0
"""Seconds; a version that is forgotten again within them is a failure like any other."""
FORGIVEN = 1
"""Failures in a row that are not told: an API server that restarts breaks every watch."""

Logger = structlog.typing.FilteringBoundLogger
Key = tuple[str, str]


class Follower:
    """Follows what is *wanted* while `run` runs.

    Attributes:
        objects: what there is, by namespace and name.
        listed: whether it was ever known.
        failure: why the API does not answer now; none while it does.
        confirmed_at: when it last said how things are, on *clock*.
    """

    def __init__(
        self,
        wanted: Wanted,
        client: ApiClient,
        *,
        on_change: Callable[[], None],
        count: Callable[[str, str], None] = lambda _verb, _outcome: None,
        clock: Callable[[], float] = time.monotonic,
        watch_seconds: float = WATCH_SECONDS,
        log: Logger | None = None,
    ) -> None:
        self.wanted = wanted
        self.objects: Mapping[Key, KubernetesObject] = {}
        self.listed = False
        self.failure: ApiError | None = None
        self.confirmed_at: float | None = None
        self._client = client
        self._on_change = on_change
        self._count = count
        self._clock = clock
        self._watch_seconds = watch_seconds
        self._log: Logger = structlog.get_logger(part="discovery") if log is None else log
        self._version = ""
        """Of what is known; empty where it has to be listed."""
        self._limit = PAGE_LIMIT
        self._failures = 0
        self._expired_at = -math.inf

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            verb = "watch" if self._version else "list"
            began_at = self._clock()
            try:
                if self._version:
                    await self._watch()
                else:
                    await self._list()
            except ApiError as error:
                self._count(verb, error.failure.value)
                await self._fail(error)
            else:
                self._count(verb, "ok")
                if verb == "watch" and self._clock() - began_at < LEAST_WATCH:
                    await asyncio.sleep(LEAST_WATCH)

    async def _list(self) -> None:
        fresh: dict[Key, KubernetesObject] = {}
        rest = version = ""
        for _ in range(MAX_PAGES):
            page = await self._client.list_page(
                self.wanted.resource,
                self.wanted.namespace,
                selector=self.wanted.selector,
                limit=self._limit,
                rest=rest,
            )
            for item in page.items:
                self._put(fresh, item)
            rest, version = page.rest, page.version
            if not rest:
                break
        else:
            raise ApiError(Failure.MALFORMED, f"a list of more than {MAX_PAGES} pages")
        changed = not self.listed or fresh != self.objects
        self.objects, self.listed, self._version = fresh, True, version
        self._confirm(done=False)  # only a watch that goes on ends a row of failures
        if changed:
            self._on_change()

    async def _watch(self) -> None:
        async with self._client.watch(
            self.wanted.resource,
            self.wanted.namespace,
            version=self._version,
            seconds=self._watch_seconds,
            selector=self.wanted.selector,
        ) as changes:
            self._confirm(done=False)
            async for kind, document in changes:
                self._take(kind, document)
                self._confirm(done=True)
        self._confirm(done=True)

    def _take(self, kind: str, document: Any) -> None:
        version = _version_of(document)
        if kind != "BOOKMARK":
            changed = dict(self.objects)
            if kind == "DELETED":
                changed.pop(_key_of(document), None)
            else:
                self._put(changed, document)
            if changed != self.objects:
                self.objects = changed
                self._on_change()
        if version:
            self._version = version

    def _put(self, objects: dict[Key, KubernetesObject], document: Any) -> None:
        try:
            parsed = self.wanted.resource.parse(document)
        except ReportError as error:
            self._count("read", Failure.MALFORMED.value)
            self._log.warning(
                "an object of the Kubernetes API cannot be read",
                kind=self.wanted.resource.name,
                reason=str(error),
                remedy="none needed; it is left out",
            )
            return
        objects[parsed.meta.key] = parsed
        if len(objects) > MAX_OBJECTS:
            raise ApiError(
                Failure.REFUSED,
                f"more than {MAX_OBJECTS} {self.wanted.resource.name}",
                remedy="narrow the rule's selector",
            )

    def _confirm(self, *, done: bool) -> None:
        """Note that the API answers; *done* says that it also answers to the end."""
        self.confirmed_at = self._clock()
        if done:
            self._failures = 0
        if self.failure is not None:
            self.failure = None
            self._on_change()

    async def _fail(self, error: ApiError) -> None:
        if error.failure in (Failure.EXPIRED, Failure.MALFORMED, Failure.REFUSED):
            self._version = ""
        if error.failure is Failure.EXPIRED and self._expire():
            return
        if error.failure is Failure.TOO_LARGE and self._limit > 1:
            self._limit //= 2
            return
        self._failures += 1
        lasting = error.failure in (Failure.DENIED, Failure.UNKNOWN, Failure.REFUSED)
        if lasting or self._failures > FORGIVEN:
            told = self.failure is not None
            self.failure = error
            if not told:
                self._on_change()
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))
        # Replicas that lost the API together do not come back together.
        pause *= random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        await asyncio.sleep(max(pause, error.retry_after))

    def _expire(self) -> bool:
        """Note that our version is forgotten; tell whether a new list may be asked for at once."""
        now = self._clock()
        if now - self._expired_at < LEAST_RELIST:
            return False
        self._expired_at = now
        self._log.info(
            "the Kubernetes API has forgotten our version; listing anew",
            kind=self.wanted.resource.name,
        )
        return True


def _version_of(document: Any) -> str:
    meta = document.get("metadata")
    version = meta.get("resourceVersion") if isinstance(meta, dict) else None
    return version if isinstance(version, str) else ""


def _key_of(document: Any) -> Key:
    meta = document.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    return str(meta.get("namespace", "")), str(meta.get("name", ""))
