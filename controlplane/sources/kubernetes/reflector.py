"""Follows the objects of one kind: lists them once, then takes every change from there on.

What is known stays known while the API is unreachable, and while a new list comes: objects are
replaced as a whole, so no one ever sees a part of a list.
A broken connection goes on from the last version that was heard of, which bookmarks keep young;
410 Gone, which says that the API has forgotten it, is answered with a new list.
So is a version that went back, as after a restore of etcd from a backup: a watch from a version
that is still to come stays silent for hours, so each watch begins with a look at the present one.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Any

import structlog

from controlplane.errors import ReportError
from controlplane.sources.kubernetes.api_answers import ApiError, Failure
from controlplane.sources.kubernetes.client import PAGE_LIMIT, ApiClient
from controlplane.sources.kubernetes.objects import KubernetesObject
from controlplane.sources.kubernetes.watches import Watch

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
RELIST_SECONDS = 600.0
"""After which everything is listed again, whatever the watches say: versions that went back and
have since passed ours look like progress."""
FORGIVEN = 1
"""Failures in a row that are not reported: an API server that restarts breaks every watch."""

Logger = structlog.typing.FilteringBoundLogger
Key = tuple[str, str]


class Reflector:
    """Follows what is *wanted* while `run` runs.

    Attributes:
        objects: what there is, by namespace and name.
        listed: whether it was ever known.
        failure: why the API does not answer now; None while it does.
        confirmed_at: when it last said how things are, on *clock*.
    """

    def __init__(
        self,
        wanted: Watch,
        client: ApiClient,
        *,
        on_change: Callable[[], None],
        count: Callable[[str, str], None] = lambda _verb, _outcome: None,
        clock: Callable[[], float] = time.monotonic,
        watch_seconds: float = WATCH_SECONDS,
        relist_seconds: float = RELIST_SECONDS,
        log: Logger | None = None,
    ) -> None:
        self.wanted = wanted
        self.objects: dict[Key, KubernetesObject] = {}
        self.listed = False
        self.failure: ApiError | None = None
        self.confirmed_at: float | None = None
        self._client = client
        self._on_change = on_change
        self._count = count
        self._clock = clock
        self._watch_seconds = watch_seconds
        # Followers that began together do not list together for ever.
        self._relist_seconds = relist_seconds * random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        self._listed_at = -math.inf
        self._log: Logger = structlog.get_logger(part="discovery") if log is None else log
        self._version = ""
        """Of what is known; empty where it has to be listed."""
        self._limit = PAGE_LIMIT
        self._failures = 0
        self._expired_at = -math.inf
        self._is_checked = False
        """Whether the next watch begins right after a list."""

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            if self._clock() - self._listed_at > self._relist_seconds:
                self._version = ""
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
                continue_token=rest,
            )
            for item in page.items:
                parsed = self._parse(item)
                if parsed is not None:
                    # What stayed the same stays the very same object, which is not read again.
                    known = self.objects.get(parsed.meta.key)
                    fresh[parsed.meta.key] = known if known == parsed else parsed
                    self._check_room(len(fresh))
            rest, version = page.continue_token, page.version
            if not rest:
                break
        else:
            raise ApiError(Failure.MALFORMED, f"a list of more than {MAX_PAGES} pages")
        changed = not self.listed or fresh != self.objects
        self.objects, self.listed, self._version = fresh, True, version
        self._listed_at, self._is_checked = self._clock(), True
        self._confirm(done=False)  # only a watch that goes on ends a row of failures
        if changed:
            self._on_change()

    async def _check_version(self) -> None:
        """Raise an `ApiError` if the API's version is older than ours."""
        page = await self._client.list_page(
            self.wanted.resource, self.wanted.namespace, selector=self.wanted.selector, limit=1
        )
        self._refuse_older(page.version)

    def _refuse_older(self, version: str) -> None:
        # They are numbers that grow, by the API's concepts since Kubernetes 1.35; before, in fact.
        if version.isdecimal() and self._version.isdecimal() and int(version) < int(self._version):
            raise ApiError(
                Failure.EXPIRED,
                f"the API's version went back from {self._version} to {version}",
            )

    async def _watch(self) -> None:
        if not self._is_checked:
            await self._check_version()
        self._is_checked = False
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
        if version:
            self._refuse_older(version)
        if kind != "BOOKMARK":
            before = self.objects.get(_key_of(document))
            parsed = None if kind == "DELETED" else self._parse(document)
            if kind == "DELETED":
                self.objects.pop(_key_of(document), None)
            elif parsed is not None:
                self._check_room(len(self.objects) + (before is None))
                self.objects[parsed.meta.key] = parsed
            if before != self.objects.get(_key_of(document)):
                self._on_change()
        if version:
            self._version = version

    def _parse(self, document: Any) -> KubernetesObject | None:
        try:
            return self.wanted.resource.parse(document)
        except ReportError as error:
            self._count("read", Failure.MALFORMED.value)
            self._log.warning(
                "Kubernetes object unreadable",
                kind=self.wanted.resource.name,
                reason=str(error),
                remedy="none needed; it is ignored",
            )
            return None

    def _check_room(self, count: int) -> None:
        if count > MAX_OBJECTS:
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
        if error.failure is Failure.EXPIRED and self._expire(str(error)):
            return
        if error.failure is Failure.TOO_LARGE and self._limit > 1:
            self._limit //= 2
            return
        self._failures += 1
        lasting = error.failure in (Failure.DENIED, Failure.UNKNOWN, Failure.REFUSED)
        if lasting or self._failures > FORGIVEN:
            reported = self.failure is not None
            self.failure = error
            if not reported:
                self._on_change()
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))
        # Replicas that lost the API together do not come back together.
        pause *= random.uniform(0.75, 1.25)  # noqa: S311 -- no secret
        await asyncio.sleep(max(pause, error.retry_after))

    def _expire(self, reason: str) -> bool:
        """Note that our version no longer counts; return whether to list again at once."""
        now = self._clock()
        if now - self._expired_at < LEAST_RELIST:
            return False
        self._expired_at = now
        self._log.info(
            "Kubernetes resource version expired; listing again",
            kind=self.wanted.resource.name,
            reason=reason,
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
