"""A small Kubernetes API server over real HTTP(S): lists in pages, watches, bookmarks, 410 Gone.

It keeps objects as they are put, of any kind, and speaks what a client that follows them meets:
resource versions, ``limit`` and ``continue``, label selectors, bearer tokens, refusals, history
that is forgotten, and connections that break.
It follows kubernetes.io/docs/reference/using-api/api-concepts as far as it goes, and no further.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from testbed.fakes.label_selectors import selects
from testbed.fakes.web_servers import serving_routes

BOOKMARK_PERIOD = 0.2
"""Seconds; a real server takes a minute."""
_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/v1(?:alpha\d+|beta\d+)?)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[^/]+)"
    r"(?:/(?P<name>[^/]+))?"
)

Document = dict[str, Any]
Backup = tuple[int, dict[tuple[str, str, str], Document]]


@dataclass(slots=True)
class _Change:
    version: int
    kind: str
    resource: str
    document: Document


@dataclass
class KubernetesApiServer:
    """The objects and how the server behaves.

    Attributes:
        tokens: that are taken; none means that no one is asked.
        denied: resources that no one may read.
        absent: resources that are not installed.
        busy: answer 503 to everything.
        throttled: how many requests are answered 429, with *retry_after*.
        retry_after: seconds that a throttled client is asked to wait.
        lagging: say changes to the oldest watch of each kind only, as if others were far away.
        asked: (verb, resource, query) of every request, in order.
        events: Events that were created, in order.
        url: where it listens, once it does.
    """

    tokens: set[str] = field(default_factory=set)
    denied: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    busy: bool = False
    throttled: int = 0
    retry_after: int = 1
    lagging: bool = False
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)
    events: list[Document] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._version = 100
        self._objects: dict[tuple[str, str, str], Document] = {}
        self._history: list[_Change] = []
        self._oldest = 0
        """Versions before it are forgotten."""
        self._changed = asyncio.Condition()
        self._breaks = 0
        self._watches: dict[str, list[object]] = {}
        self._pages: dict[str, tuple[int, list[Document]]] = {}

    # What happens in the cluster.

    def put(self, resource: str, document: Document) -> None:
        """Add or replace an object."""
        meta = document["metadata"]
        key = resource, meta.get("namespace", ""), meta["name"]
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        kind = "MODIFIED" if key in self._objects else "ADDED"
        self._objects[key] = json.loads(json.dumps(document))
        self._note(kind, resource, self._objects[key])

    def delete(self, resource: str, name: str, *, namespace: str = "default") -> None:
        """Remove an object."""
        gone = self._objects.pop((resource, namespace, name))
        self._version += 1
        gone = {**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self._version)}}
        self._note("DELETED", resource, gone)

    def forget(self) -> None:
        """Forget history: versions and pages that clients hold are Gone."""
        self._version += 1
        self._oldest = self._version
        self._history.clear()
        self._pages.clear()

    def restart(self) -> None:
        """End every connection and lose the history, as an API server does that starts again."""
        self.forget()
        self.break_connections()

    def backup(self) -> Backup:
        """Return what `restore` brings back."""
        return self._version, dict(self._objects)

    def restore(self, backup: Backup) -> None:
        """Bring back objects and version of a backup of etcd; watches stay open and silent."""
        self._version, objects = backup
        self._objects = dict(objects)
        self._oldest = 0
        self._history.clear()
        self._pages.clear()

    def catch_up(self) -> None:
        """Report all watches what they missed."""
        self.lagging = False
        self._wake()

    def break_connections(self) -> None:
        """Cut every watch in the middle."""
        self._breaks += 1
        self._wake()

    def watches(self, resource: str) -> int:
        """Return how many watches of *resource* are open."""
        return len(self._watches.get(resource, ()))

    def _note(self, kind: str, resource: str, document: Document) -> None:
        self._history.append(_Change(self._version, kind, resource, document))
        self._wake()

    def _wake(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        with contextlib.suppress(RuntimeError):  # no one can be watching without a loop
            task = asyncio.get_running_loop().create_task(notify())
            self._notifying = task

    # What clients see.

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        matched = _PATH.fullmatch(request.path)
        if matched is None:
            return _status(404, "the server could not find the requested resource")
        resource, namespace = matched["resource"], matched["namespace"] or ""
        query = dict(request.query)
        verb = "watch" if query.get("watch") in ("1", "true") else "list"
        verb = {"POST": "create", "PUT": "update"}.get(request.method, verb)
        if verb == "list" and matched["name"]:
            verb = "get"
        self.asked.append((verb, resource, query))
        refusal = self._refusal(request, verb, resource)
        if refusal is not None:
            return refusal
        try:
            selector = query.get("labelSelector", "")
            selects(selector, {})
        except ValueError as error:
            return _status(400, f"unable to parse requirement: {error}")
        if verb in ("get", "create", "update"):
            return await self._one(request, verb, resource, namespace, matched["name"] or "")
        if verb == "watch":
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            response.enable_chunked_encoding()
            await response.prepare(request)
            me = object()
            self._watches.setdefault(resource, []).append(me)
            try:
                with contextlib.suppress(ConnectionResetError):  # a watcher that went away
                    await self._watch(request, response, me, resource, namespace)
            finally:
                self._watches[resource].remove(me)
            return response
        return self._list(resource, namespace, query)

    async def _one(
        self, request: web.Request, verb: str, resource: str, namespace: str, name: str
    ) -> web.Response:
        """Read, create or replace one object; a version that is not the present one is a 409."""
        if verb == "get":
            found = self._objects.get((resource, namespace, name))
            if found is None:
                return _status(404, f'{resource} "{name}" not found')
            return web.json_response(found)
        document = await request.json()
        meta = document["metadata"]
        if meta.get("namespace") != namespace or (verb == "update" and meta["name"] != name):
            return _status(400, "the namespace of the object does not match the request's")
        present = self._objects.get((resource, namespace, meta["name"]))
        if verb == "create":
            if present is not None:
                return _status(409, f'{resource} "{meta["name"]}" already exists')
            if resource == "events":
                self.events.append(document)
        elif present is None:
            return _status(404, f'{resource} "{name}" not found')
        elif meta.get("resourceVersion") not in (None, present["metadata"]["resourceVersion"]):
            return _status(409, "the object has been modified; please apply your changes to it")
        if resource != "events":
            self.put(resource, document)
        return web.json_response(document, status=201 if verb == "create" else 200)

    def _refusal(self, request: web.Request, verb: str, resource: str) -> web.Response | None:
        if self.busy:
            return _status(503, "the server is currently unable to handle the request")
        if self.throttled:
            self.throttled -= 1
            refusal = _status(429, "too many requests, please try again later")
            refusal.headers["Retry-After"] = str(self.retry_after)
            return refusal
        if self.tokens:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or token not in self.tokens:
                return _status(401, "Unauthorized")
        if resource in self.denied:
            return _status(403, f'{resource} is forbidden: cannot {verb} resource "{resource}"')
        if resource in self.absent:
            return _status(404, "the server could not find the requested resource")
        return None

    def _list(self, resource: str, namespace: str, query: Mapping[str, str]) -> web.Response:
        limit = int(query.get("limit", "0"))
        if token := query.get("continue"):
            page = self._pages.pop(token, None)
            if page is None:
                return _status(410, "The provided continue parameter is too old")
            version, items = page
        else:
            version = self._version
            selector = query.get("labelSelector", "")
            items = [
                document
                for (kind, space, _), document in sorted(self._objects.items())
                if kind == resource
                and namespace in ("", space)
                and selects(selector, document["metadata"].get("labels", {}))
            ]
        meta: Document = {"resourceVersion": str(version)}
        if limit and len(items) > limit:
            rest = f"page-{version}-{len(self._pages)}-{len(items)}"
            self._pages[rest] = version, items[limit:]
            meta |= {"continue": rest, "remainingItemCount": len(items) - limit}
            items = items[:limit]
        return web.json_response({"kind": "List", "metadata": meta, "items": items})

    async def _watch(
        self,
        request: web.Request,
        response: web.StreamResponse,
        me: object,
        resource: str,
        namespace: str,
    ) -> None:
        query = request.query
        at = int(query["resourceVersion"])
        breaks = self._breaks
        loop = asyncio.get_running_loop()
        until = loop.time() + float(query.get("timeoutSeconds", "300"))
        bookmark_at = loop.time() + BOOKMARK_PERIOD
        while (now := loop.time()) < until:
            if self._breaks != breaks:
                if request.transport is not None:
                    request.transport.abort()
                break
            if at < self._oldest:
                gone = _status_document(410, f"too old resource version: {at} ({self._oldest})")
                await _write(response, "ERROR", gone)
                break
            behind = self.lagging and self._watches[resource][0] is not me
            for change in [each for each in self._history if each.version > at and not behind]:
                at = change.version
                seen = self._seen(change, resource, namespace, query.get("labelSelector", ""))
                if seen is not None:
                    await _write(response, seen, change.document)
            if now >= bookmark_at:
                bookmark_at = now + BOOKMARK_PERIOD
                # From a version that is still to come the real server has nothing to say.
                if (
                    query.get("allowWatchBookmarks") == "true"
                    and not behind
                    and at <= self._version
                ):
                    at = max(at, self._version)
                    await _write(response, "BOOKMARK", {"metadata": {"resourceVersion": str(at)}})
            async with self._changed:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._changed.wait(), max(0.001, min(until, bookmark_at) - loop.time())
                    )

    def _seen(self, change: _Change, resource: str, namespace: str, selector: str) -> str | None:
        """Return the type of a change as a watcher with *selector* sees it."""
        meta = change.document["metadata"]
        if change.resource != resource or namespace not in ("", meta.get("namespace", "")):
            return None
        if selects(selector, meta.get("labels", {})):
            return change.kind
        # What no longer fits the selector has gone, for this watcher.
        return "DELETED" if change.kind == "MODIFIED" else None


async def _write(response: web.StreamResponse, kind: str, document: Document) -> None:
    await response.write(json.dumps({"type": kind, "object": document}).encode() + b"\n")


def _status_document(code: int, message: str) -> Document:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message}


def _status(code: int, message: str) -> web.Response:
    return web.json_response(_status_document(code, message), status=code)


@contextlib.asynccontextmanager
async def serving_kubernetes(
    server: KubernetesApiServer, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[KubernetesApiServer]:
    """Listen on a free port of loopback for the duration of the block."""
    routes = [make("/{path:.*}", server.answer) for make in (web.get, web.post, web.put)]
    async with serving_routes(*routes, tls=tls) as bound:
        server.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{bound}"
        yield server
