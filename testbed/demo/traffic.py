"""An open-loop load generator that remembers every request.

Each stream is a Poisson process of its own seed: requests leave when they are due, whether or not
earlier ones were answered, as those of many independent users do, so a slow system is not spared
(no coordinated omission).
What one stream may have in flight is bounded; a request beyond that is recorded as not sent.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from testbed.demo.records import NO_ANSWER, NOT_SENT, Record
from testbed.fakes.kserve import KserveClient

MAX_RECORDS = 1_000_000
"""Oldest records go first beyond these; a minute at a hundred requests a second is 6,000."""
ERROR_LENGTH = 300
"""Bytes of a refusal that are remembered."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of prompts and answers: log-normal, like those of real conversations."""

    prompt: float = 30.0
    """Mean, in words."""
    output: float = 100.0
    """Mean, in tokens."""
    sigma: float = 0.4
    limit: int = 1000

    def draw(self, rng: random.Random) -> tuple[int, int]:
        """Return one prompt's and one answer's length."""
        return self._one(rng, self.prompt), self._one(rng, self.output)

    def _one(self, rng: random.Random, mean: float) -> int:
        drawn = rng.lognormvariate(math.log(mean) - self.sigma**2 / 2, self.sigma)
        return max(1, min(self.limit, round(drawn)))


@dataclass(frozen=True, slots=True)
class Swing:
    """A rate that rises and falls as a day's does: a cosine that begins at its least."""

    period: float
    """Seconds."""
    least: float
    """Part of the stream's rate, 0 to 1."""

    def part_at(self, offset: float) -> float:
        """Return the part of the rate that is sent *offset* seconds after the beginning."""
        risen = (1.0 - math.cos(2.0 * math.pi * offset / self.period)) / 2.0
        return self.least + (1.0 - self.least) * risen


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one service from one client site."""

    service: str
    site: str
    url: str
    """Where they go: path and all, at the site's Envoy."""
    rate: float
    """Requests a second, mean; with a swing the most."""
    model: str = "any"
    """The ``model`` member of the body."""
    headers: Mapping[str, str] = field(default_factory=dict)
    lengths: Lengths = Lengths()
    streaming: bool = False
    grpc: bool = False
    """Whether they are calls of KServe's `ModelInfer`, which carry the model alone."""
    timeout: float = 30.0
    """Seconds to the end of the answer."""
    in_flight: int = 256
    """At most."""
    swing: Swing | None = None


class Traffic:
    """Sends streams of requests while its context lasts.

    Attributes:
        records: every request that ended, in the order of their ends.
    """

    def __init__(
        self, streams: Sequence[Stream], *, seed: int = 1, length: float = math.inf
    ) -> None:
        """Set the streams to send.

        Args:
            streams: what to send.
            seed: the same seed gives the same arrivals and lengths.
            length: seconds of arrivals.
        """
        self.records: deque[Record] = deque(maxlen=MAX_RECORDS)
        self._streams = streams
        self._seed = seed
        self._length = length
        self._sending = True
        self._tasks: list[asyncio.Task[None]] = []
        self._requests: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._grpc = KserveClient()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        )
        for number, stream in enumerate(self._streams):
            rng = random.Random(f"{self._seed}/{number}/{stream.service}/{stream.site}")
            task = asyncio.create_task(self._send(stream, rng), name=f"traffic {number}")
            self._tasks.append(task)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.finish()
        for task in (*self._tasks, *self._requests):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._requests, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        await self._grpc.close()

    @property
    def in_flight(self) -> int:
        """Return the requests under way."""
        return len(self._requests)

    async def wait_sent(self) -> None:
        """Wait until every stream has sent what it has to send; for ever without a length."""
        await asyncio.gather(*self._tasks)

    async def finish(self, *, within: float = math.inf) -> None:
        """Send nothing more, and wait for what is under way.

        Args:
            within: seconds; what is not answered by then is cancelled and leaves no record.
        """
        self._sending = False
        for task in self._tasks:
            task.cancel()
        for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        if self._requests:
            timeout = None if math.isinf(within) else within
            done, late = await asyncio.wait(set(self._requests), timeout=timeout)
            for request in done:
                request.result()
            for request in late:
                request.cancel()

    def since(self, at: float) -> Iterator[Record]:
        """Return the records of requests that ended at *at* or later, newest first."""
        for record in reversed(self.records):
            if record.ended_at < at:
                return
            yield record

    async def _send(self, stream: Stream, rng: random.Random) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        offset = 0.0
        flying: set[asyncio.Task[None]] = set()
        while self._sending:
            offset += rng.expovariate(stream.rate)
            if offset >= self._length:
                return
            # Thinned, a Poisson process of the highest rate becomes one of the rate of now.
            if stream.swing is not None and rng.random() >= stream.swing.part_at(offset):
                continue
            due = began + offset
            await asyncio.sleep(max(0.0, due - loop.time()))
            lengths = stream.lengths.draw(rng)
            if len(flying) >= stream.in_flight:
                self.records.append(
                    Record(stream.service, stream.site, due, 0.0, 0.0, NOT_SENT, error="bound")
                )
                continue
            asked = self._call(stream, due) if stream.grpc else self._request(stream, due, *lengths)
            task = asyncio.create_task(asked)
            for group in (flying, self._requests):
                group.add(task)
                task.add_done_callback(group.discard)

    async def _request(self, stream: Stream, due: float, words: int, tokens: int) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() - due
        body = build_body(stream, words, tokens)
        status, error, first_at = NO_ANSWER, "", 0.0
        instance = at_site = ""
        assert self._session is not None
        try:
            async with self._session.post(
                stream.url,
                json=body,
                headers=stream.headers,
                timeout=aiohttp.ClientTimeout(total=stream.timeout),
            ) as answer:
                status = answer.status
                instance = answer.headers.get("x-cats-instance", "")
                at_site = answer.headers.get("x-cats-site", "")
                async for piece in answer.content.iter_any():
                    first_at = first_at or loop.time()
                    if status != 200 and not error:
                        error = f"{status} {piece[:ERROR_LENGTH].decode(errors='replace')}"
        except (aiohttp.ClientError, TimeoutError) as failure:
            error = type(failure).__name__
        ended_at = loop.time()
        self.records.append(
            Record(
                stream.service,
                stream.site,
                due,
                ended_at - due,
                (first_at or ended_at) - due,
                status,
                instance,
                at_site,
                error,
                late,
            )
        )

    async def _call(self, stream: Stream, due: float) -> None:
        loop = asyncio.get_running_loop()
        late = loop.time() - due
        status, error, said = await self._grpc.infer(
            urlsplit(stream.url).netloc,
            stream.model,
            metadata=stream.headers,
            patience=stream.timeout,
        )
        took = loop.time() - due
        instance, at_site = said.get("x-cats-instance", ""), said.get("x-cats-site", "")
        self.records.append(
            Record(
                *(stream.service, stream.site, due, took, took),
                *(status, instance, at_site, error, late),
            )
        )


def build_body(stream: Stream, words: int, tokens: int) -> dict[str, Any]:
    """Write the JSON of one request, in the form that the stream's path wants."""
    prompt = "word " * words
    if stream.url.endswith("/v1/chat/completions"):
        body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}]}
    elif stream.url.endswith("/v1/embeddings"):
        return {"model": stream.model, "input": prompt}
    elif stream.url.endswith("/v1/images/generations"):
        return {"model": stream.model, "prompt": prompt}
    else:
        body = {"prompt": prompt}
    body |= {"model": stream.model, "max_tokens": tokens}
    if stream.streaming:
        body["stream"] = True
    return body
