"""Measures the network to other sites: round trips always, bandwidth where asked for.

Small, jittered and bounded: a probe is a few handshakes or requests, and a download ends at its
size. The shortest of the samples counts, since everything that this machine adds is positive.
"""

from __future__ import annotations

import asyncio
import functools
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import aiohttp
import structlog

from controlplane.agent.settings import Bandwidth, Probe, ProbeKind, Probes
from controlplane.grpc_transport.client import split_address
from controlplane.sources.network_errors import reason_of

JITTER = 0.2
"""Part of the period by which a probe's instant varies."""
SAMPLE_PAUSE = 0.02
"""Seconds between the samples of one probe."""
MAX_ANSWER = 65_536
"""Bytes of an answer to a round-trip probe that are read."""
CHUNK = 65_536

log = structlog.get_logger(part="probes")


@dataclass(frozen=True, slots=True)
class Measured:
    """One measurement of a path."""

    site: str
    at: float
    rtt: float | None = None
    bandwidth: float | None = None


class Prober:
    """Probes while `run` runs.

    Args:
        settings: what is probed, and how often.
        on_measured: called with each measurement.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        settings: Probes,
        *,
        on_measured: Callable[[Measured], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._on_measured = on_measured
        self._clock = clock
        self._random = random.Random()  # noqa: S311 -- spreads probes
        self._silent: set[tuple[str, str]] = set()

    async def run(self) -> None:
        """Probe until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self._settings.timeout)
        async with (
            aiohttp.ClientSession(
                timeout=timeout,
                trust_env=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": "cats"},
                connector=aiohttp.TCPConnector(limit_per_host=1, keepalive_timeout=300),
            ) as session,
            asyncio.TaskGroup() as group,
        ):
            for probe in self._settings.targets:
                round_trip = functools.partial(self.round_trip, probe, session)
                group.create_task(self._again(probe, "rtt", self._settings.period, round_trip))
                wanted = probe.bandwidth
                if wanted is not None:
                    download = functools.partial(self.download, probe, wanted, session)
                    group.create_task(self._again(probe, "bandwidth", wanted.period, download))
            await asyncio.Event().wait()

    async def _again(
        self, probe: Probe, what: str, period: float, measure: Callable[[], Awaitable[Measured]]
    ) -> None:
        await asyncio.sleep(self._random.uniform(0, min(period, 1.0)))
        while True:
            try:
                self._on_measured(await measure())
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if (probe.address, what) not in self._silent:
                    self._silent.add((probe.address, what))
                    log.warning(
                        "site measurement failed", site=probe.site, address=probe.address,
                        what=what, reason=reason_of(error),
                        remedy="check probes.targets, and that the network lets probes through",
                    )  # fmt: skip
            else:
                if (probe.address, what) in self._silent:
                    self._silent.discard((probe.address, what))
                    log.info("site measurement restored", site=probe.site, what=what)
            await asyncio.sleep(period * self._random.uniform(1 - JITTER, 1 + JITTER))

    async def round_trip(self, probe: Probe, session: aiohttp.ClientSession) -> Measured:
        """Measure one round trip.

        Raises:
            OSError: no one answers within the time-out.
            aiohttp.ClientError: the answer is no HTTP.
        """
        once = self._connect if probe.kind is ProbeKind.TCP else self._ask
        if probe.kind is ProbeKind.HTTP:
            await self._ask(
                probe, session
            )  # opens the connection, which costs round trips of its own
        samples = []
        for _ in range(self._settings.samples):
            samples.append(await once(probe, session))
            await asyncio.sleep(SAMPLE_PAUSE)
        return Measured(probe.site, self._clock(), rtt=min(samples))

    async def _connect(self, probe: Probe, _: aiohttp.ClientSession) -> float:
        host, port = split_address(probe.address)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _name, where = found[0]
        with socket.socket(family, kind, protocol) as connection:
            connection.setblocking(False)
            started_at = time.perf_counter()
            async with asyncio.timeout(self._settings.timeout):
                await loop.sock_connect(connection, where)
            return time.perf_counter() - started_at

    async def _ask(self, probe: Probe, session: aiohttp.ClientSession) -> float:
        started_at = time.perf_counter()
        async with session.get(
            f"http://{probe.address}{probe.path}", allow_redirects=False
        ) as answer:
            elapsed = time.perf_counter() - started_at
            await answer.content.read(MAX_ANSWER)
        return elapsed

    async def download(
        self, probe: Probe, wanted: Bandwidth, session: aiohttp.ClientSession
    ) -> Measured:
        """Measure the bandwidth by a bounded download.

        Raises:
            OSError, aiohttp.ClientError: it does not work.
            ValueError: the answer is an error, or too short to say.
        """
        size = int(wanted.size)
        async with session.get(
            wanted.url, headers={"Range": f"bytes=0-{size - 1}", "Accept-Encoding": "identity"}
        ) as answer:
            if answer.status not in (200, 206):
                raise ValueError(f"status {answer.status}")
            # What the kernel already holds when the first bytes are read came before the clock.
            first = len(await answer.content.readany())
            started_at = time.perf_counter()
            read = 0
            async for chunk in answer.content.iter_chunked(CHUNK):
                read += len(chunk)
                if first + read >= size:
                    break
            elapsed = time.perf_counter() - started_at
            if not answer.content.at_eof():
                answer.close()
        if read < CHUNK or elapsed <= 0:
            raise ValueError(f"{first + read} bytes are too few to say a bandwidth")
        return Measured(probe.site, self._clock(), bandwidth=read / elapsed)
