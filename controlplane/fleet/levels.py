"""Metric levels of the fleet's instances, from the views of the last seconds; pure.

Nothing is computed until someone asks: a cycle pays for keeping a reference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from controlplane.config import SiteKind
from controlplane.fleet.view import FleetView, InstanceView, Phase
from controlplane.model import Signal
from controlplane.telemetry.levels import WINDOW, Levels, grade

MOST_VIEWS = 20
"""Views of one window; more frequent cycles are thinned out."""

_GAUGES = {
    "utilisation": Signal.UTILISATION,
    "kv_use": Signal.KV_USE,
    "training": Signal.TRAINING,
}
_KNOWN = frozenset({Phase.STARTING, Phase.LIVE, Phase.STALE, Phase.NOT_READY})


class LevelBook:
    """The views of one window, and the levels that follow from them."""

    def __init__(self) -> None:
        self._views: deque[FleetView] = deque(maxlen=MOST_VIEWS)
        self._graded: tuple[FleetView, Mapping[str, Levels]] | None = None

    def observe(self, view: FleetView) -> None:
        """Keep *view*; forget what left the window."""
        if self._views and view.at - self._views[-1].at < WINDOW / MOST_VIEWS:
            self._views.pop()
        self._views.append(view)
        while view.at - self._views[0].at > WINDOW:
            self._views.popleft()

    def rest(self) -> None:
        """Keep the newest view alone, for a fleet in which nothing happens."""
        while len(self._views) > 1:
            self._views.popleft()

    def levels(self) -> Mapping[str, Levels]:
        """Return every instance's levels at the newest view; another thread may ask."""
        views = tuple(self._views)
        if not views:
            return {}
        newest = views[-1]
        if self._graded is None or self._graded[0] is not newest:
            away = {id(view): _network(view) for view in views}
            graded = {
                name: grade(
                    raw_metrics(view.instances[name], away[id(view)])
                    for view in views
                    if name in view.instances
                )
                for name in newest.instances
            }
            self._graded = (newest, graded)
        return self._graded[1]


def _network(view: FleetView) -> Mapping[str, tuple[float, float | None]]:
    """Return mean round trip and bandwidth from where clients are to each site."""
    places = [site for site in view.clients if view.clients[site] > 0]
    if not places:
        places = [s.name for s in view.config.sites if s.kind is not SiteKind.DEVICE]
    found: dict[str, tuple[float, float | None]] = {}
    for target in {item.instance.site for item in view.instances.values()}:
        paths = [view.paths[place, target] for place in places if (place, target) in view.paths]
        if not paths:
            continue
        widths = [path.bandwidth.value for path in paths if path.bandwidth is not None]
        found[target] = (
            sum(path.rtt.value for path in paths) / len(paths),
            sum(widths) / len(widths) if widths else None,
        )
    return found


def raw_metrics(
    item: InstanceView, away: Mapping[str, tuple[float, float | None]]
) -> dict[str, float]:
    """Return the raw (L0) values of one instance by their names in `telemetry.levels.METRICS`.

    Args:
        item: the instance.
        away: site -> round trip and bandwidth from where clients are.
    """
    raw: dict[str, float] = {}
    rtt, bandwidth = away.get(item.instance.site, (None, None))
    if rtt is not None:
        raw["rtt"] = rtt
    if bandwidth is not None:
        raw["bandwidth"] = bandwidth
    if item.phase not in _KNOWN:
        return raw
    readings = item.readings
    for name, signal in _GAUGES.items():
        if signal in readings:
            raw[name] = readings[signal].value
    if Signal.RUNNING in readings:
        inside = readings[Signal.RUNNING].value
        if Signal.WAITING in readings:
            inside += readings[Signal.WAITING].value
        slots = readings[Signal.SLOTS].value if Signal.SLOTS in readings else item.instance.slots
        raw["load"] = inside / max(slots, 1.0)
    _add_service(item, raw)
    if "latency" in raw:
        raw["delay"] = raw["latency"] + raw.get("rtt", 0.0)
    return raw


def _add_service(item: InstanceView, raw: dict[str, float]) -> None:
    latency = item.latency()
    if latency is not None:
        raw["latency"] = latency
    spent, count = item.rates.get(Signal.TTFT_SUM), item.rates.get(Signal.TTFT_COUNT)
    if spent is not None and count is not None and count.value > 0:
        raw["ttft"] = spent.value / count.value
    done, failed = item.rates.get(Signal.COMPLETED), item.rates.get(Signal.FAILED)
    if done is not None and failed is not None and done.value + failed.value > 0:
        raw["failures"] = failed.value / (done.value + failed.value)
