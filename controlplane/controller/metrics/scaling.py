"""Families of metrics for autoscalers and batch systems, by site and model."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from controlplane.steering.plan import Plan


def scaling_families(plan: Plan | None) -> Iterator[Metric]:
    """Return what more replicas would win, how many are wanted, and what fits."""
    labels = ("site", "model")
    replicas = GaugeMetricFamily(
        "cats_replicas", "Instances that may get requests now.", labels=labels
    )
    wanted = GaugeMetricFamily(
        "cats_replicas_wanted",
        "Replicas that keep every promise (slo) at the work of the last minute, with sites that"
        " help each other out; without a promise, those with which requests wait no longer than"
        " they take. Absent where no number of them would do.",
        labels=labels,
    )
    gain = GaugeMetricFamily(
        "cats_replica_gain",
        "Seconds of delay that one more replica would save each second, over all requests: at"
        " least (bound=least) and at most (bound=most, its shadow price).",
        labels=(*labels, "bound"),
    )
    room = GaugeMetricFamily(
        "cats_room_requests",
        "Requests of ordinary size a second that still fit without delaying others by more than"
        " they take themselves.",
        labels=labels,
    )
    asleep = GaugeMetricFamily(
        "cats_replicas_asleep",
        "Instances that are asleep and could be started (instances[].wake).",
        labels=labels,
    )
    saves = GaugeMetricFamily(
        "cats_start_saves_seconds",
        "Seconds of waiting that a start of an instance which is asleep is expected to save while"
        " it runs, over all requests, by the gain of the last minute.",
        labels=("instance", *labels),
    )
    price = GaugeMetricFamily(
        "cats_start_price_seconds",
        "Seconds of waiting that such a start has to save (instances[].wake.price).",
        labels=("instance", *labels),
    )
    for start in () if plan is None else plan.cold_starts.values():
        own = (start.instance, start.site, start.model)
        saves.add_metric(own, start.saves)
        price.add_metric(own, start.price)
    for group in () if plan is None else plan.scaling:
        key = (group.site, group.model)
        replicas.add_metric(key, group.replicas)
        if group.wanted is not None:
            wanted.add_metric(key, group.wanted)
        gain.add_metric((*key, "least"), group.gain_least)
        gain.add_metric((*key, "most"), group.gain_most)
        room.add_metric(key, group.room_rate)
        if group.asleep:
            asleep.add_metric(key, group.asleep)
    yield from (replicas, wanted, gain, room, asleep, saves, price)
