"""Ten updates a second of one cluster of a hundred endpoints to a thousand streams.

A stream's lag is from the publish to the arrival of that very version; an update that was joined
with the next one counts as not delivered. Run alone: ``python -m benchmarks.sustained``.
"""

from __future__ import annotations

import time

from benchmarks.figures import Row, Target, main, quantile
from benchmarks.served import SITE, ServerProcess
from benchmarks.streams import StreamFleet
from controlplane.xds.types import ENDPOINT

TITLE = "Sustained: 10 updates a second of one cluster of 100 endpoints"
RATE = 10.0
ENDPOINTS = 100


def run(*, streams: int = 1_000, seconds: float = 10.0, delta: bool = False) -> Row:
    """Measure one case."""
    with ServerProcess(clusters=1, endpoints=ENDPOINTS) as server:
        server.prepare(round(seconds * RATE), changed=1)
        wants = {ENDPOINT: server.names}
        with StreamFleet(server.address, streams, wants, delta=delta, site=SITE) as fleet:
            time.sleep(0.5)
            fleet.take()
            before = server.usage()
            published = server.sustain(RATE)
            tally = fleet.wait_for(published[-1].version, streams)
            after = server.usage()
    lags = [
        arrived - each.at for each in published for arrived in tally.arrivals.get(each.version, ())
    ]
    pushes = len(published) * streams
    return Row(
        f"{'delta' if delta else 'sotw'}, {streams} streams",
        {
            "delivered %": 100 * len(lags) / pushes,
            "lag p50 ms": 1000 * quantile(lags, 0.5),
            "lag p99 ms": 1000 * quantile(lags, 0.99),
            "lag max ms": 1000 * quantile(lags, 1.0),
            "server CPU s per 1,000 pushes": 1000 * (after.cpu - before.cpu) / pushes,
            "server CPU %": 100 * (after.cpu - before.cpu) / (published[-1].at - published[0].at),
            "clients' CPU s per 1,000 pushes": 1000 * tally.cpu / pushes,
            "server RSS MB": after.rss,
            "connect s": fleet.connected,
        },
        (Target("delivered %", 100.0, at_least=True), Target("lag p99 ms", 150.0)),
    )


def run_all(*, quick: bool = False) -> list[Row]:
    """Measure both modes."""
    streams, seconds = (200, 2.0) if quick else (1_000, 10.0)
    return [run(streams=streams, seconds=seconds, delta=delta) for delta in (False, True)]


if __name__ == "__main__":
    main(TITLE, run_all)
