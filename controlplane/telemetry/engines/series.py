"""Which series of a metric count, and what they amount to.

The same rules hold for all engines, whatever they call their metrics:

* a label may mark the rows of scrapes, health checks and documentation, which are no requests;
* workers of one engine (tensor, pipeline, expert and context parallel) each repeat its numbers;
* a row without a priority is the total of those that have one;
* pods that share an accelerator, and its slices, each repeat what the whole of it draws.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from fnmatch import fnmatchcase

from controlplane.telemetry.engines.dialect import Alias, Merge
from controlplane.telemetry.exposition import Sample
from controlplane.telemetry.limits import SENTINEL

_WORKER = re.compile(r"(?:(?:.*_)?(?:tp|pp|ep|cp|sp|pcp|dcp)|moe_.*)_rank")
_PARTS = frozenset({"priority", "priority_class", "priority_level", "request_priority", "dp_rank"})
"""Labels whose absence, or empty value, marks the total of the rows that have one."""
_HANDLERS = (
    *("handler", "path", "route", "endpoint", "uri", "url", "url_path", "http_route"),
    *("http_target", "target", "path_template", "request_path", "app_path"),
)
_NO_WORK = re.compile(
    r"""(?:https?://[^/]*)?/?(?:.*/)?
        (?:metrics|prometheus|health\w*|health[-_]?check|ready|readyz|readiness|live|livez|liveness
          |startup|startupz|ping|status|version|docs|redoc|openapi\.json|swagger(?:\.json)?
          |favicon\.ico)
        (?:/(?:ready|live|startup|started|generate|oauth2-redirect|[^/]*\.(?:js|css|json|html)))?
        /?(?:[?].*)?""",
    re.VERBOSE | re.IGNORECASE,
)
_METHODS = ("method", "http_method", "http_request_method")
_NO_REQUEST = frozenset({"OPTIONS", "HEAD"})
_MARKING = frozenset({*_HANDLERS, *_METHODS})
_DEVICE = ("UUID", "uuid", "gpu_uuid", "device_uuid", "gpu_id", "gpu", "minor_number", "device")
_NUMBER = re.compile(r"[0-9]{1,9}")

Series = list[Sample]


def select(series: Series, alias: Alias, labels: Mapping[str, str]) -> Series:
    """Return the series that *alias* asks for and that are of the instance.

    Args:
        series: of one metric.
        alias: with its filter.
        labels: label -> pattern with ``*``, of the instance among others on one page.
    """
    series = labelled(series, labels)
    if alias.where or alias.unless:
        series = [each for each in series if _matches(each, alias)]
    if alias.values or alias.but:
        series = [each for each in series if _wanted(each, alias)]
    return _totals(_leaders(series))


def labelled(series: Series, labels: Mapping[str, str]) -> Series:
    """Return the series that fit *labels*, label -> pattern with ``*``; all if there are none."""
    return [
        each
        for each in series
        if all(fnmatchcase(each.labels.get(k, ""), pattern) for k, pattern in labels.items())
    ]


def without_own_requests(series: Series) -> tuple[Series, list[str]]:
    """Leave out the rows of scrapes, health checks and documentation; also return their paths."""
    kept, paths = [], []
    for each in series:
        if _MARKING.isdisjoint(each.labels):
            kept.append(each)
            continue
        path = next((each.labels[name] for name in _HANDLERS if name in each.labels), None)
        method = next((each.labels[name] for name in _METHODS if name in each.labels), "")
        if path is not None and (path == "none" or _NO_WORK.fullmatch(path)):
            paths.append(path)
        elif method.upper() in _NO_REQUEST:
            paths.append(f"{method} {path or ''}".strip())
        else:
            kept.append(each)
    return kept, paths


def _matches(sample: Sample, alias: Alias) -> bool:
    def match(label: str, patterns: tuple[str, ...]) -> bool:
        value = sample.labels.get(label, "")
        return any(fnmatchcase(value, pattern) for pattern in patterns)

    return all(match(*each) for each in alias.where) and not any(
        match(*each) for each in alias.unless
    )


def _wanted(sample: Sample, alias: Alias) -> bool:
    value = next((sample.labels[name] for name in alias.labels if name in sample.labels), None)
    return (not alias.values or value in alias.values) and value not in alias.but


def _leaders(series: Series) -> Series:
    """Keep one worker of each engine: the one of the lowest ranks."""
    if len(series) < 2:
        return series
    groups: dict[Hashable, tuple[tuple[float, ...], Sample]] = {}
    for each in series:
        # An empty label is an absent one.
        labels = {name: value for name, value in each.labels.items() if value}
        ranks = sorted(filter(_is_worker, labels), key=_tensor_first)
        key = frozenset(pair for pair in labels.items() if pair[0] not in ranks)
        # Of equals, the order of the rows must not decide.
        order = (*(_rank(labels[name]) for name in ranks), -each.value)
        known = groups.get(key)
        if known is None or order < known[0]:
            groups[key] = (order, each)
    return [each for _, each in groups.values()]


@functools.lru_cache(maxsize=1024)
def _is_worker(label: str) -> bool:
    return _WORKER.fullmatch(label) is not None


def _tensor_first(name: str) -> tuple[bool, bool, str]:
    return (name != "tp_rank", name != "pp_rank", name)


def _rank(value: str) -> float:
    return float(value) if _NUMBER.fullmatch(value) else math.inf


def _totals(series: Series) -> Series:
    """Drop the rows whose total has a row of its own."""
    if len(series) < 2:
        return series
    for part in _PARTS:
        totals = {_rest(each, part) for each in series if not each.labels.get(part)}
        if totals:
            series = [
                each
                for each in series
                if not each.labels.get(part) or _rest(each, part) not in totals
            ]
    return series


def _rest(sample: Sample, part: str) -> Hashable:
    return frozenset(pair for pair in sample.labels.items() if pair[0] != part and pair[1])


def merge(series: Series, how: Merge) -> float:
    """Return the one value of *series*, which are not empty."""
    # One unreadable part makes the whole unreadable: a sum without it would be wrong.
    for each in series:
        if not 0 <= each.value < SENTINEL:
            return each.value
    if len(series) == 1:
        return series[0].value
    if how is Merge.MAX:
        return max(each.value for each in series)
    if how is Merge.SUM:
        return math.fsum(each.value for each in series)
    if how is Merge.DEVICE:
        return math.fsum(largest_by(series, device_of).values())
    totals: dict[str, float] = {}
    for each in series:
        model = each.labels.get("model", "")
        totals[model] = totals.get(model, 0.0) + each.value
    return max(totals.values())


def device_of(sample: Sample) -> Hashable:
    """Return what says the sample's accelerator from others, however often it is repeated."""
    for name in _DEVICE:
        if sample.labels.get(name):
            # Only an index needs its machine; a UUID is one everywhere.
            host = "" if "uuid" in name.lower() else sample.labels.get("Hostname", "")
            return (host, sample.labels[name])
    return ("", "")


def slice_of(sample: Sample) -> Hashable:
    """Return what says the sample's slice (MIG) of its accelerator from others."""
    return (device_of(sample), sample.labels.get("GPU_I_ID", ""))


def fullest(used: Series, free: Series) -> float | None:
    """Return the used fraction of the fullest slice of a device, 0 to 1; None if unknown."""
    fine = [[each for each in series if 0 <= each.value < SENTINEL] for series in (used, free)]
    taken, left = (largest_by(series, slice_of) for series in fine)
    whole = {key: taken[key] + left[key] for key in taken.keys() & left.keys()}
    return max((taken[key] / size for key, size in whole.items() if size > 0), default=None)


def largest_by(
    series: Iterable[Sample], key: Callable[[Sample], Hashable]
) -> dict[Hashable, float]:
    """Return the largest value of each key."""
    largest: dict[Hashable, float] = {}
    for each in series:
        name = key(each)
        largest[name] = max(largest.get(name, -math.inf), each.value)
    return largest
