"""What the latest reports say an instance did since the ones before: occupancy and completions.

Every engine reports something else, so each quantity is taken from the best source there is:
the instance's own gauges and counters, else Little's law, else what Envoys saw, else what our own
weights must have sent. Nothing is remembered here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from controlplane.fleet.traffic_view import TrafficView
from controlplane.fleet.view import FleetView, InstanceView
from controlplane.model import Signal
from controlplane.steering.layout import Layout

_DISTRUSTED = 0.5
"""Trust below which an instance's claims are not used."""


_UNANSWERED = 1.5
"""Requests that wait at an instance over those that its answers' latencies explain, from which
some are taken not to be answered at all."""

_FEW = 0.5
"""Attempts, decayed, from which some were cut lately."""

REPORTED = "reports"
"""Source of a gauge that is the instance's own word."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """How full an instance was at one instant."""

    at: float
    running: float
    waiting: float
    source: str

    @property
    def number(self) -> float:
        """Return the requests inside."""
        return self.running + self.waiting


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one instance in this cycle."""

    gauge: Gauge | None
    completed: float | None
    """Requests a second, of ordinary size, over the interval that ends at *completed_at*."""
    completed_at: float
    residence: float | None
    """Mean requests inside over that interval by Little's law: latency sum a second."""
    observed: float | None
    """Mean requests inside as Envoys' latencies imply."""
    slots: float | None
    """As the engine says."""
    training: float
    """Share of the machine that training takes."""
    size: float
    """Mean size of its requests."""
    output: float | None = None
    """Output tokens a second over the interval that ends at *completed_at*."""
    prompt: float = 0.0
    """Prompt tokens a second, those whose first output came in it."""


@dataclass(frozen=True, slots=True)
class Sightings:
    """Envoys' observations of one instance, added up over client sites and services."""

    rate: float = 0.0
    """Requests a second sent."""
    answered: float = 0.0
    """Requests a second that succeeded."""
    size: float = 1.0
    number: float | None = None
    """Mean requests inside: rate times (latency less round trip)."""
    in_progress: float = 0.0
    at: float = 0.0


def sum_traffic(
    view: FleetView, layout: Layout, sizes: Mapping[str, float]
) -> dict[str, Sightings]:
    """Add up what Envoys saw of each instance; *sizes* are those of the services' requests."""
    sites = {instance.name: instance.site for instance in layout.instances}
    grouped: dict[str, list[tuple[str, str, TrafficView]]] = {}
    for (client, service, instance), seen in view.traffic.items():
        if instance in sites and service in sizes:
            grouped.setdefault(instance, []).append((client, service, seen))
    return {
        name: _one_of(_sum(name, seen, view, sites[name], sizes), view.instances[name].copies)
        for name, seen in grouped.items()
    }


def _one_of(whole: Sightings, copies: int) -> Sightings:
    """Return what was seen of one of *copies* like instances, of what was seen of all."""
    if copies == 1:
        return whole
    return replace(
        whole,
        rate=whole.rate / copies,
        answered=whole.answered / copies,
        number=None if whole.number is None else whole.number / copies,
        in_progress=whole.in_progress / copies,
    )


def _sum(
    name: str,
    seen: list[tuple[str, str, TrafficView]],
    view: FleetView,
    site: str,
    sizes: Mapping[str, float],
) -> Sightings:
    rate = sum(traffic.rate.value for _, _, traffic in seen)
    answered = sum(traffic.answered for _, _, traffic in seen)
    work = sum(traffic.answered * sizes[service] for _, service, traffic in seen)
    if answered <= 0:
        answered = rate
        work = sum(traffic.rate.value * sizes[service] for _, service, traffic in seen)
    number: float | None = None
    waiting, cut = 0.0, False
    for client, service, traffic in seen:
        outcome = view.outcomes.get((name, service))
        cut = cut or (
            outcome is not None and outcome.recent.late + outcome.recent.unanswered > _FEW
        )
        path = view.paths.get((client, site))
        away = path.rtt.value if path is not None else 0.0
        waiting += max(traffic.in_progress - traffic.rate.value * away, 0.0)
        if traffic.latency is None:
            continue
        inside = traffic.rate.value * max(traffic.latency.value - away, 0.0)
        number = inside if number is None else number + inside
    if number is not None and waiting > _UNANSWERED * number + 1.0 and not cut:
        # Latencies are of answers: what is not answered shows only in what waits. Where Envoys cut
        # it, it is a failure and priced as one, and says nothing of how fast answers are.
        number = waiting
    return Sightings(
        rate=rate,
        answered=sum(traffic.rate.value * (1.0 - traffic.failures) for _, _, traffic in seen),
        size=work / answered if answered > 0 else 1.0,
        number=number,
        in_progress=sum(traffic.in_progress for _, _, traffic in seen),
        at=max((t.rate.at for _, _, t in seen if t.rate.at is not None), default=view.at),
    )


def read_instance(shown: InstanceView, sightings: Sightings | None) -> Seen:
    """Return what is known of one instance, each quantity from its best source."""
    trusted = shown.trust >= _DISTRUSTED
    readings = shown.readings if trusted else {}
    rates = shown.rates if trusted else {}
    envoys = sightings or Sightings()
    completed = rates.get(Signal.COMPLETED) or rates.get(Signal.LATENCY_COUNT)
    completed = completed or readings.get(Signal.THROUGHPUT)
    residence = rates.get(Signal.LATENCY_SUM)
    running, waiting = readings.get(Signal.RUNNING), readings.get(Signal.WAITING)
    gauge: Gauge | None = None
    if running is not None and running.at is not None:
        gauge = Gauge(running.at, running.value, waiting.value if waiting else 0.0, REPORTED)
    elif residence is not None and residence.at is not None:
        gauge = Gauge(residence.at, residence.value, 0.0, "latencies")
    elif sightings is not None and (envoys.number is not None or envoys.in_progress > 0):
        inside = envoys.in_progress if envoys.number is None else envoys.number
        gauge = Gauge(envoys.at, inside, 0.0, "envoys")
    rate: float | None = None
    rate_at = 0.0
    if completed is not None and completed.at is not None:
        rate, rate_at = completed.value, completed.at
    elif sightings is not None and envoys.rate > 0:
        rate, rate_at = envoys.answered, envoys.at
    slots, training = readings.get(Signal.SLOTS), readings.get(Signal.TRAINING)
    output, prompt = rates.get(Signal.OUTPUT_TOKENS), rates.get(Signal.PROMPT_TOKENS)
    return Seen(
        gauge=gauge,
        completed=None if rate is None else rate * envoys.size,
        completed_at=rate_at,
        residence=None if residence is None else residence.value,
        observed=envoys.number,
        slots=slots.value if slots is not None and slots.value >= 1 else None,
        training=min(max(training.value, 0.0), 0.95) if training is not None else 0.0,
        size=envoys.size,
        output=None if output is None or output.at != rate_at else output.value,
        prompt=0.0 if prompt is None else prompt.value,
    )
