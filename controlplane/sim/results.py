"""Figures of a run: latency by window and service, shares and load over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from controlplane.sim.tariffs import Spent
from controlplane.sim.true_fleet import Fleet, Record

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the requests that arrived in one window met; seconds."""

    requests: int
    mean: float
    p50: float
    p90: float
    p99: float
    failed: float
    """Part that failed, timed out, or was not answered by the end of the simulation, 0 to 1."""
    goodput: float
    """Answers a second that came within the window, in time (the service's SLO, if it has one)."""
    kept: float = 1.0
    """Of a service: part of the requests that were answered well and within ``slo.latency``."""
    first_p99: float = float("nan")
    """Seconds to the first token, where engines count tokens; the time waited so far of those that
    got none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's run of one scenario with one seed."""

    policy: str
    seed: int
    windows: Mapping[str, Figures]
    """Window -> figures over all services."""
    services: Mapping[tuple[str, str], Figures]
    """(window, service) -> figures."""
    pushes: tuple[float, ...]
    """Instants at which weights changed somewhere."""
    gains: tuple[float, ...] = ()
    """Predicted gain of each push of the control plane, as a part of the cost."""
    undone: tuple[float, ...] = ()
    """Instants of the control plane's pushes that took back most of the push before."""
    attainment: Mapping[str, float] = field(default_factory=dict)
    """Service -> the part of the requests that kept its ``slo.latency``, as the control plane
    counted it over the last five minutes."""
    refused: int = 0
    """Reports that the fleet did not believe."""
    predicted_error: float | None = None
    """Mean absolute error of the predicted mean latency, as a part of the observed."""
    solve_times: tuple[float, ...] = ()
    """Seconds of processor time each decision took, where a clock was given."""
    latencies: Floats = field(default_factory=lambda: np.empty(0))
    """Of every request, by arrival; unanswered ones count the time they waited so far."""
    arrivals: Floats = field(default_factory=lambda: np.empty(0))
    shares: Mapping[str, Floats] = field(default_factory=dict)
    """Site -> part of the requests of each second that went there."""
    load: Mapping[str, Floats] = field(default_factory=dict)
    """Site -> requests inside at each second."""
    loadings: Floats = field(default_factory=lambda: np.empty(0))
    """Models that engines had loaded by the end of each second, since the beginning."""
    warm: Mapping[str, float] = field(default_factory=dict)
    """Window -> part of the turns of sessions that went to the site of the turn before."""
    warm_instance: Mapping[str, float] = field(default_factory=dict)
    """Window -> the same of the very instance."""
    instance_hours: float = float("nan")
    """Hours that machines were in use from the first window on, started ones included, where pools
    are scaled."""
    on_battery: Mapping[str, float] = field(default_factory=dict)
    """Window -> part of the requests that devices' own models got on battery."""
    spent: Mapping[tuple[str, str], Spent] = field(default_factory=dict)
    """(window, service) -> what the mean request came to, where energy has tariffs."""
    predicted_spent: Mapping[str, Spent] = field(default_factory=dict)
    """Service -> the same as plans said it, from the first window's start on."""
    limits_broken: int = 0
    """Requests that a device's own model got below its battery's floor, long enough after that was
    so, with a link, and before anything else was asked."""
    crowded: float = float("nan")
    """Most requests that an instance got over those of its shares; instances of a hundredth of
    the requests or more."""


def measure(
    fleet: Fleet,
    record: Record,
    windows: Sequence[tuple[str, float, float]],
    *,
    ended: float,
) -> tuple[dict[str, Figures], dict[tuple[str, str], Figures], Floats]:
    """Return the figures by window and by window and service, and every latency."""
    unanswered = np.isnan(record.latency)
    latency = np.where(unanswered, ended - record.times, record.latency)
    failed = record.failed | unanswered
    slo = {item.name: item.slo.latency or np.inf for item in fleet.config.services}
    names = [stream.service for stream in fleet.streams]
    limit = np.array([slo[name] for name in names])[record.stream]
    good = ~failed & (latency <= limit)
    finished = record.times + latency
    first = np.where(np.isnan(record.first), latency, record.first) if len(record.first) else None
    by_window: dict[str, Figures] = {}
    by_service: dict[tuple[str, str], Figures] = {}
    owner = np.array(names)[record.stream]
    for name, start, end in windows:
        inside = (record.times >= start) & (record.times < end)
        answered = good & (finished >= start) & (finished < end)
        by_window[name] = _figures(latency[inside], failed[inside], answered, end - start)
        if first is not None and inside.any():
            p99 = float(np.percentile(first[inside], 99))
            by_window[name] = replace(by_window[name], first_p99=p99)
        for service in dict.fromkeys(names):
            mine = inside & (owner == service)
            figures = _figures(
                latency[mine], failed[mine], answered & (owner == service), end - start
            )
            kept = float(good[mine].mean()) if mine.any() else 1.0
            by_service[name, service] = replace(figures, kept=kept)
    return by_window, by_service, latency


def _figures(
    latency: Floats, failed: NDArray[np.bool_], good: NDArray[np.bool_], length: float
) -> Figures:
    if not len(latency):
        nan = float("nan")
        return Figures(0, nan, nan, nan, nan, 0.0, 0.0)
    p50, p90, p99 = (float(value) for value in np.percentile(latency, (50, 90, 99)))
    return Figures(
        len(latency),
        float(latency.mean()),
        p50,
        p90,
        p99,
        float(failed.mean()),
        float(good.sum()) / length,
    )


def measure_batteries(
    record: Record, on_battery: Sequence[int], windows: Sequence[tuple[str, float, float]]
) -> dict[str, float]:
    """Return the part of each window's requests that are *on_battery*, by number."""
    times = record.times[np.array(sorted(on_battery), dtype=np.int64)]
    return {
        name: float(((times >= start) & (times < end)).sum())
        / max(1, int(((record.times >= start) & (record.times < end)).sum()))
        for name, start, end in windows
    }


def measure_sessions(
    fleet: Fleet, record: Record, windows: Sequence[tuple[str, float, float]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the part of each window's turns at the site, and at the instance, of those before."""
    if not len(record.session):
        return {}, {}
    sites = [item.site for item in fleet.config.instances]
    number = np.array([sites.index(site) for site in sites] + [-1])
    order = np.argsort(record.session, kind="stable")
    order = order[record.session[order] >= 0]
    before, after = order[:-1], order[1:]
    same = record.session[before] == record.session[after]
    before, after = before[same], after[same]
    one, other = record.instance[before], record.instance[after]
    by_site, by_instance = {}, {}
    for name, start, end in windows:
        inside = (record.times[after] >= start) & (record.times[after] < end)
        if inside.any():
            by_site[name] = float((number[one] == number[other])[inside].mean())
            by_instance[name] = float((one == other)[inside].mean())
    return by_site, by_instance


def crowding(record: Record) -> float:
    """Return the most requests of sessions that an instance got, over those of its shares."""
    expected = record.expected
    if not expected.sum() > 0:
        return float("nan")
    got = np.bincount(record.instance[record.instance >= 0], minlength=len(expected))
    large = expected >= 0.01 * expected.sum()
    return float((got[large] / expected[large]).max())


def shares_over_time(fleet: Fleet, record: Record, *, duration: float) -> dict[str, Floats]:
    """Return each site's part of the requests of each second."""
    sites = [item.site for item in fleet.config.instances]
    seconds = int(np.ceil(duration))
    second = np.minimum(record.times.astype(int), seconds - 1)
    total = np.maximum(np.bincount(second, minlength=seconds), 1)
    result = {site: np.zeros(seconds) for site in dict.fromkeys(sites)}
    for index, site in enumerate(sites):
        counts = np.bincount(second[record.instance == index], minlength=seconds)
        result[site] += counts / total
    return result


def prediction_error(
    predictions: Sequence[tuple[float, float]], record: Record, *, period: float, after: float
) -> float | None:
    """Compare each predicted mean latency with what requests of the following ten seconds met."""
    errors = []
    order = record.times
    answered = ~np.isnan(record.latency) & ~record.failed
    total = np.concatenate([[0.0], np.cumsum(np.where(answered, record.latency, 0.0))])
    count = np.concatenate([[0], np.cumsum(answered)])
    span = max(10.0, period)
    last = float(order[-1]) if len(order) else 0.0
    for at, predicted in predictions:
        if at < after or at + span > last:
            continue
        low, high = np.searchsorted(order, (at, at + span))
        if count[high] > count[low]:
            observed = (total[high] - total[low]) / (count[high] - count[low])
            errors.append(abs(predicted - observed) / observed)
    return float(np.mean(errors)) if errors else None
