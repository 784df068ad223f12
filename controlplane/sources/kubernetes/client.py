"""Asks the Kubernetes API: one page of a list, or the changes since a version of it.

The API's concepts are reported at kubernetes.io/docs/reference/using-api/api-concepts; a general
client library would bring hundreds of types for the five that are read here, and its own idea of
when to try again. What follows from an answer is `reflector`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from controlplane.config import KubernetesApi, KubernetesCluster
from controlplane.errors import ReportError
from controlplane.sources.http_session import plain_session
from controlplane.sources.kubernetes.access import Access, AccessError
from controlplane.sources.kubernetes.api_answers import (
    CHUNK,
    MAX_CHANGE,
    ApiError,
    Failure,
    parse_answer,
    read_changes,
    read_error,
    unreachable_error,
)
from controlplane.sources.kubernetes.objects import EVENTS, Resource

PAGE_LIMIT = 250
"""Objects asked for at once."""
MAX_PAGE = 16_000_000
"""Bytes of a page; read, they take some eight times as much. Pods have about 10 kB each; of larger
objects fewer are asked for at once."""
LIST_TIMEOUT = 30.0
"""Seconds that a page may take."""
CONNECT_TIMEOUT = 5.0
WATCH_GRACE = 10.0
"""Seconds that a watch may outlast the time it was asked to end after. What stands silent for
longer is a connection that no one serves any more."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    items: list[Any]
    version: str
    """Of the whole list; changes after it are what a watch is asked for."""
    continue_token: str
    """Token for the next page; empty at the end."""


def new_session() -> aiohttp.ClientSession:
    """Return a session for one API server or several; without cookies, proxies or redirects."""
    return plain_session(accept="application/json")


class ApiClient:
    """Asks one API server.

    Args:
        cluster: from the configuration.
        session: `new_session`.
    """

    def __init__(
        self, cluster: KubernetesApi | KubernetesCluster, session: aiohttp.ClientSession
    ) -> None:
        self._access = Access(cluster)
        self._session = session

    async def list_page(
        self,
        resource: Resource,
        namespace: str,
        *,
        selector: str = "",
        limit: int = PAGE_LIMIT,
        continue_token: str = "",
    ) -> Page:
        """Ask for a page of a list.

        Args:
            resource: what.
            namespace: where.
            selector: of labels.
            limit: most objects.
            continue_token: of the page before.

        Raises:
            ApiError: there is none.
        """
        query = (
            {"limit": str(limit)}
            | _selected(selector)
            | ({"continue": continue_token} if continue_token else {})
        )
        try:
            async with await self._ask(
                resource, namespace, query, timeout=aiohttp.ClientTimeout(
                    total=LIST_TIMEOUT, sock_connect=CONNECT_TIMEOUT
                )
            ) as answer:  # fmt: skip
                body = bytearray()
                async for chunk in answer.content.iter_chunked(CHUNK):
                    body += chunk
                    if len(body) > MAX_PAGE:
                        raise ApiError(Failure.TOO_LARGE, f"a page of more than {MAX_PAGE} bytes")
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable_error(error) from error
        # A page of some MB takes the parser long enough for an Envoy to wait.
        document = await asyncio.to_thread(parse_answer, bytes(body))
        items, meta = document.get("items"), document.get("metadata")
        # Go's empty list is null where it was never made.
        if not isinstance(items, list | None) or not isinstance(meta, dict):
            raise ApiError(Failure.MALFORMED, "an answer that is no list")
        version, continue_token = meta.get("resourceVersion"), meta.get("continue") or ""
        if not isinstance(version, str) or not version or not isinstance(continue_token, str):
            raise ApiError(Failure.MALFORMED, "a list without its version")
        return Page(items or [], version, continue_token)

    async def create_event(self, namespace: str, event: Mapping[str, Any]) -> None:
        """Create an Event of the core API.

        Raises:
            ApiError: it was not created.
        """
        timeout = aiohttp.ClientTimeout(total=LIST_TIMEOUT, sock_connect=CONNECT_TIMEOUT)
        try:
            answer = await self._ask(EVENTS, namespace, {}, timeout=timeout, content=event)
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable_error(error) from error
        answer.release()

    async def read_object(
        self, resource: Resource, namespace: str, name: str, *, within: float = LIST_TIMEOUT
    ) -> dict[str, Any]:
        """Return one object.

        Raises:
            ApiError: there is none (`Failure.UNKNOWN`), or it cannot be read.
        """
        return await self._exchange(resource, namespace, name=name, within=within)

    async def write_object(
        self,
        resource: Resource,
        namespace: str,
        document: Mapping[str, Any],
        *,
        replace: bool,
        within: float = LIST_TIMEOUT,
    ) -> dict[str, Any]:
        """Create an object, or replace the one whose ``resourceVersion`` *document* has.

        Raises:
            ApiError: someone else was first (`Failure.CONFLICT`), or it was not written.
        """
        name = str(document["metadata"]["name"]) if replace else ""
        return await self._exchange(resource, namespace, name=name, within=within, content=document)

    async def _exchange(
        self,
        resource: Resource,
        namespace: str,
        *,
        name: str,
        within: float,
        content: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=within, sock_connect=CONNECT_TIMEOUT)
        try:
            async with await self._ask(
                resource, namespace, {}, timeout=timeout, content=content, name=name
            ) as answer:
                return parse_answer(await answer.content.read(MAX_CHANGE))
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable_error(error) from error

    @contextlib.asynccontextmanager
    async def watch(
        self,
        resource: Resource,
        namespace: str,
        *,
        version: str,
        seconds: float,
        selector: str = "",
    ) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
        """Return changes after *version* as they come, as (type, object), for some *seconds*.

        Inside the block the API has agreed to say them.

        Raises:
            ApiError: it cannot be watched, or no longer from *version*.
        """
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(max(1, round(seconds))),
        } | _selected(selector)
        timeout = aiohttp.ClientTimeout(
            total=seconds + WATCH_GRACE, sock_connect=CONNECT_TIMEOUT
        )  # fmt: skip
        try:
            async with await self._ask(resource, namespace, query, timeout=timeout) as answer:
                yield read_changes(answer)
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable_error(error) from error

    async def _ask(
        self,
        resource: Resource,
        namespace: str,
        query: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- aiohttp's own
        content: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> aiohttp.ClientResponse:
        try:
            place = self._access.place()
            headers = self._access.headers(place)
            context = self._access.trust(place)
        except OSError as error:
            raise ApiError(
                Failure.DENIED, f"{error.filename or 'discovery.api'}: {error.strerror or error}",
                remedy="mount the token and the CA, or fix discovery.api or its cluster",
            ) from error  # fmt: skip
        except AccessError as error:
            raise ApiError(Failure.UNREACHABLE, str(error), remedy=error.remedy) from error
        except ReportError as error:
            raise ApiError(Failure.DENIED, str(error), remedy="fix the token file") from error
        answer = await self._session.request(
            "GET" if content is None else ("PUT" if name else "POST"),
            place.url + resource.path(namespace) + (f"/{name}" if name else ""),
            params=query,
            json=content,
            headers=headers,
            ssl=context,
            server_hostname=place.server_name,
            timeout=timeout,
            allow_redirects=False,
        )
        if answer.status in (200, 201):
            return answer
        try:
            verbs = "get, list and watch" if content is None else "update" if name else "create"
            raise await read_error(answer, resource, namespace, verbs=verbs)
        finally:
            answer.close()


def _selected(selector: str) -> dict[str, str]:
    return {"labelSelector": selector} if selector else {}
