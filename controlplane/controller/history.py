"""What the fleet was like over the last day, in bounded memory: shares, load, latency, demand.

Samples are kept compressed, one every five seconds for a quarter of an hour and one a minute for a
day; the oldest go when there are too many bytes of them. With a state directory they outlive the
process. Instants are Unix seconds, latencies seconds, rates requests a second.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any, ClassVar

from controlplane.fleet.view import FleetView
from controlplane.model import Signal
from controlplane.runtime.kept_files import KeptFile, inflate_json, instant_of
from controlplane.steering.outcomes import observed_latencies, predicted_latency
from controlplane.steering.plan import Plan

Sample = dict[str, Any]

FINE_STEP, FINE_SPAN = 5.0, 900.0
COARSE_STEP, COARSE_SPAN = 60.0, 86_400.0
"""Seconds between two samples, and that they are kept."""
MAX_BYTES = 16_000_000
"""Of compressed samples in each of the two series."""
MAX_PAIRS = 400
"""Pairs of service and client site beyond which only sums over the client sites are kept."""
MAX_INSTANCES = 2_000
MAX_POINTS = 720
"""Points of one answer; more are thinned."""
LEAST_SHARE = 0.005
_FORMAT = b"cats history 1\n"
_MAX_SAMPLE = 10_000_000
"""Bytes of one inflated sample."""


def make_sample(view: FleetView, plan: Plan, *, epoch: float) -> Sample:
    """Return what is kept of one instant."""
    observed = observed_latencies(view)
    failed: dict[tuple[str, str], float] = {}
    asked: dict[tuple[str, str], float] = {}
    for (site, service, _), seen in view.traffic.items():
        key = (service, site)
        asked[key] = asked.get(key, 0.0) + seen.rate.value
        failed[key] = failed.get(key, 0.0) + seen.rate.value * seen.failures
    pairs: dict[str, dict[str, list[float | None]]] = {}
    shares: dict[str, dict[str, float]] = {}
    for (service, site), assignment in plan.assignments.items():
        key = (service, site)
        seen_latency = observed[key].latency if key in observed else None
        failures = failed[key] / asked[key] if asked.get(key) else None
        pairs.setdefault(service, {})[site] = [
            _rounded(assignment.demand),
            _rounded(predicted_latency(assignment)),
            _rounded(seen_latency),
            _rounded(failures),
        ]
        parts = shares.setdefault(service, {})
        for item in assignment.allocations:
            if item.priority == 0:
                part = item.share * assignment.demand
                parts[item.instance] = parts.get(item.instance, 0.0) + part
    return {
        "at": round(view.at + epoch, 3),
        "plan": plan.version,
        "services": {
            service: {"sums": _sums(sites.values()), "shares": _fractions(shares[service])}
            for service, sites in pairs.items()
        },
        "pairs": pairs if len(plan.assignments) <= MAX_PAIRS else {},
        "instances": {
            name: [
                _signal(item.readings.get(Signal.RUNNING)),
                _signal(item.readings.get(Signal.WAITING)),
                item.phase.value,
            ]
            for name, item in view.instances.items()
        }
        if len(view.instances) <= MAX_INSTANCES
        else {},
    }


def _sums(rows: Iterable[Sequence[float | None]]) -> list[float | None]:
    """Return demand, and the means over requests of what is known beside it."""
    known = list(rows)
    means = []
    for column in (1, 2, 3):
        cells = [(row[0] or 0.0, row[column]) for row in known]
        found = [(rate, value) for rate, value in cells if value is not None]
        whole = fsum(rate for rate, _ in found)
        means.append(_rounded(fsum(r * v for r, v in found) / whole) if whole > 0 else None)
    return [_rounded(fsum(row[0] or 0.0 for row in known)), *means]


def _fractions(parts: Mapping[str, float]) -> dict[str, float]:
    whole = fsum(parts.values())
    return {
        name: round(part / whole, 4)
        for name, part in parts.items()
        if whole > 0 and part / whole >= LEAST_SHARE
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)


def _signal(reading: Any) -> float | None:
    return None if reading is None else round(float(reading.value), 2)


def pack_sample(sample: Sample) -> tuple[float, bytes]:
    """Return a sample's instant and its compressed content."""
    text = json.dumps(sample, separators=(",", ":")).encode()
    return float(sample["at"]), zlib.compress(text, 3)


@dataclass(frozen=True, slots=True)
class Query:
    """What of the history is wanted."""

    span: float = FINE_SPAN
    """Seconds before the newest sample."""
    service: str | None = None
    site: str | None = None
    """Client site; with a service only."""
    instance: str | None = None


class _Series:
    """Compressed samples, the oldest first."""

    def __init__(self, step: float, span: float) -> None:
        self.step = step
        self._span = span
        self._samples: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def add(self, at: float, content: bytes) -> None:
        """Add a sample, unless the last one is too near; drop any that lie in the future."""
        while self._samples and self._samples[-1][0] > at + FINE_STEP:  # the clock was set back
            self._bytes -= len(self._samples.pop()[1])
        # Half a second of tolerance: cycles do not come exactly on time.
        if self._samples and at - self._samples[-1][0] < self.step - 0.5:
            return
        self._samples.append((at, content))
        self._bytes += len(content)
        while self._samples and (self._samples[0][0] < at - self._span or self._bytes > MAX_BYTES):
            self._bytes -= len(self._samples.popleft()[1])

    def since(self, at: float) -> list[tuple[float, bytes]]:
        """Return the samples from *at* on."""
        return [each for each in self._samples if each[0] >= at]


class History:
    """The samples of one control plane. `add` and `query` belong to the event loop's thread."""

    file: ClassVar = KeptFile("history.bin", max_bytes=4 * MAX_BYTES, save_period=60.0)

    def __init__(self) -> None:
        self._fine = _Series(FINE_STEP, FINE_SPAN)
        self._coarse = _Series(COARSE_STEP, COARSE_SPAN)
        self._last = 0.0

    def due(self, at: float) -> bool:
        """Return whether a sample of the Unix time *at* would be kept."""
        # A clock that was set back is no reason to wait until it is there again.
        return not -FINE_STEP <= at - self._last < FINE_STEP - 0.5

    def add(self, at: float, content: bytes) -> None:
        """Keep what `pack_sample` returned."""
        self._last = at
        self._fine.add(at, content)
        self._coarse.add(at, content)

    def query(self, query: Query) -> Callable[[], dict[str, Any]]:
        """Return what makes the answer; it may be called in another thread."""
        fine = query.span <= FINE_SPAN
        series = self._fine if fine else self._coarse
        samples = series.since(self._last - query.span)
        stride = -(-len(samples) // MAX_POINTS) or 1
        # Counted from the newest, so that it is always there.
        chosen = samples[::-1][::stride][::-1]
        step = series.step * stride
        return lambda: {"step": step, **_answer(chosen, query)}

    def nearest(self, at: float) -> Callable[[], Sample | None]:
        """Return what gives the whole sample nearest to the Unix time *at*."""
        samples = [*self._coarse.since(0.0), *self._fine.since(0.0)]
        if not samples:
            return lambda: None
        content = min(samples, key=lambda each: abs(each[0] - at))[1]
        return lambda: _inflate(content)

    def encode(self) -> Callable[[], bytes]:
        """Return what makes the file's content; it may be called in another thread."""
        fine, coarse = self._fine.since(0.0), self._coarse.since(0.0)
        return lambda: (
            _FORMAT
            + b"".join(
                bytes([kind]) + len(content).to_bytes(4, "big") + content
                for kind, samples in ((0, fine), (1, coarse))
                for _, content in samples
            )
        )

    def restore(self, content: bytes) -> str:
        """Restore what `encode` made, as far as it can be read.

        Returns:
            What is wrong with the rest; empty if nothing is.
        """
        if not content.startswith(_FORMAT):
            return "not a history of this format"
        at = len(_FORMAT)
        while at < len(content):
            kind, size = content[at], int.from_bytes(content[at + 1 : at + 5], "big")
            piece = content[at + 5 : at + 5 + size]
            at += 5 + size
            try:
                if len(piece) < size or kind > 1:
                    raise ValueError("cut")  # noqa: TRY301
                instant = instant_of(_inflate(piece))
            except (ValueError, KeyError, TypeError, zlib.error) as error:
                return f"sample unreadable: {error}"
            (self._fine, self._coarse)[kind].add(instant, piece)
            self._last = max(self._last, instant)
        return ""


def _inflate(content: bytes) -> Sample:
    sample: Sample = inflate_json(content, _MAX_SAMPLE)
    return sample


def _answer(samples: Sequence[tuple[float, bytes]], query: Query) -> dict[str, Any]:
    points = [_inflate(content) for _, content in samples]
    services = dict.fromkeys(name for point in points for name in point["services"])
    wanted = [name for name in services if query.service in (None, name)]
    answer: dict[str, Any] = {
        "at": [point["at"] for point in points],
        "services": {name: _service(points, name, query) for name in wanted},
    }
    if query.instance is not None:
        rows = [point["instances"].get(query.instance, (None, None, None)) for point in points]
        answer["instance"] = {
            name: [row[column] for row in rows]
            for column, name in enumerate(("running", "waiting", "phase"))
        }
    return answer


def _service(points: Sequence[Sample], name: str, query: Query) -> dict[str, Any]:
    nothing = [None, None, None, None]
    entries = [point["services"].get(name, {"sums": nothing, "shares": {}}) for point in points]
    if query.service is not None and query.site is not None:
        rows = [point["pairs"].get(name, {}).get(query.site, nothing) for point in points]
    else:
        rows = [entry["sums"] for entry in entries]
    document: dict[str, Any] = {
        field: [row[column] for row in rows]
        for column, field in enumerate(("demand", "predicted", "observed", "failures"))
    }
    if query.service is not None:
        used = dict.fromkeys(instance for entry in entries for instance in entry["shares"])
        document["shares"] = {
            instance: [entry["shares"].get(instance, 0.0) for entry in entries] for instance in used
        }
    return document
