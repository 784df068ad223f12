"""ORCA load reports (``xds.data.orca.v3.OrcaLoadReport``) to reports of ours, and back.

Two forms carry them: the out-of-band service, and the metrics that Envoy sums up in its load
reports. Envoy itself reads those in response headers.
Names inside are not agreed between engines, so every signal has all the names seen in the wild.

Sources: the proto in cncf/xds;
gRPC proposal A51; Triton's ``orca_http.cc``; vLLM's ``orca_metrics.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from xds.data.orca.v3.orca_load_report_pb2 import OrcaLoadReport

from controlplane.errors import ReportError
from controlplane.model import InstanceReport, Signal, Source
from controlplane.telemetry.limits import LIMITS, SHARES

MAX_METRICS = 256
"""Named values of one report."""
MAX_REFUSED = 16

_MAPS = ("named_metrics", "utilization", "request_cost")

_NAMES: Mapping[str, Signal] = {
    "kv_cache_utilization": Signal.KV_USE,  # Triton
    "kv_cache_usage_perc": Signal.KV_USE,  # vLLM; a share in spite of its name
    "gpu_cache_usage_perc": Signal.KV_USE,
    "kv_cache_usage": Signal.KV_USE,
    "token_usage": Signal.KV_USE,
    "kv_use": Signal.KV_USE,
    "num_requests_running": Signal.RUNNING,
    "requests_running": Signal.RUNNING,
    "running": Signal.RUNNING,
    "num_requests_waiting": Signal.WAITING,
    "num_queue_reqs": Signal.WAITING,
    "queue_size": Signal.WAITING,
    "queue_depth": Signal.WAITING,
    "waiting": Signal.WAITING,
    "slots": Signal.SLOTS,
    "gpu_utilization": Signal.UTILISATION,
    "utilisation": Signal.UTILISATION,
    "power": Signal.POWER,
    "power_watts": Signal.POWER,
    "training": Signal.TRAINING,
    "throughput": Signal.THROUGHPUT,
}
"""Name without the engine's prefix -> signal."""
_PREFIXES = ("vllm:", "vllm_", "sglang:", "trtllm_", "nv_", "cats.", "cats_")

MIN_UTILISATION = 0.01
"""What an idle instance says: Envoy drops reports without utilisation, and an idle instance would
be the one that gets nothing."""
LONGEST_ANSWER = 3600.0
"""Seconds; whatever takes longer has stopped."""
RATE_SCALE = 1000.0
"""Factor on the rate in our own reports. Envoy cuts its weight to a whole number, so that two
instances of less than a request a second, which language models often are, would be equal."""


def _require_bounded(report: OrcaLoadReport) -> None:
    if sum(len(getattr(report, name)) for name in _MAPS) > MAX_METRICS:
        raise ReportError(f"more than {MAX_METRICS} metrics in a load report")


def parse_orca_report(report: OrcaLoadReport, *, instance: str, at: float) -> InstanceReport:
    """Return what an instance said in an ORCA report.

    Args:
        report: from the out-of-band service, or from a header.
        instance: name in the configuration.
        at: when it came.

    Raises:
        ReportError: it is beyond its bounds.
    """
    _require_bounded(report)
    # More specific names come first, and the first that is there decides.
    values: list[tuple[str, float]] = [*report.named_metrics.items(), *report.utilization.items()]
    found = [(signal, name, value) for name, value in values if (signal := _signal(name))]
    busy = report.application_utilization or report.cpu_utilization
    if busy > 0:
        # Above one means overloaded; the share of the machine that is busy ends at one.
        found.append((Signal.UTILISATION, "application_utilization", min(busy, 1.0)))
    if report.mem_utilization > 0:
        found.append((Signal.MEMORY, "mem_utilization", report.mem_utilization))
    rate = report.rps_fractional or float(report.rps)
    if rate > 0:
        found.append((Signal.THROUGHPUT, "rps_fractional", rate))
    return _build(found, instance=instance, at=at)


def parse_metric_means(
    means: Iterable[tuple[str, float]], *, instance: str, at: float
) -> InstanceReport:
    """Return what an instance said in the headers of its answers, as an Envoy averaged it.

    Args:
        means: name and mean value over the interval; ``named_metrics.`` may stand before the name.
        instance: name in the configuration.
        at: end of the interval.
    """
    found = []
    for name, value in means:
        bare = name.removeprefix("named_metrics.").removeprefix("utilization.")
        if bare in ("cpu_utilization", "application_utilization"):
            found.append((Signal.UTILISATION, name, min(value, 1.0)))
        elif bare == "mem_utilization":
            found.append((Signal.MEMORY, name, value))
        elif signal := _signal(bare):
            found.append((signal, name, value))
    return _build(found, instance=instance, at=at)


def _signal(name: str) -> Signal | None:
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return _NAMES.get(name)


def _build(
    found: Iterable[tuple[Signal, str, float]], *, instance: str, at: float
) -> InstanceReport:
    signals: dict[Signal, float] = {}
    refused: list[str] = []
    for signal, name, value in found:
        if not 0 <= value <= LIMITS[signal]:
            if len(refused) < MAX_REFUSED:
                refused.append(f"{signal.value} ({name[:60]}) is {value:g}")
        elif signal not in signals:
            signals[signal] = min(value, 1.0) if signal in SHARES else value
    return InstanceReport(instance, Source.ORCA, at, signals, refused=tuple(refused))


def build_orca_report(
    signals: Mapping[Signal, float],
    *,
    slots: float,
    rate: float,
    service_time: float | None,
) -> OrcaLoadReport:
    """Return the normalised report by which Envoy's weighted round robin can spread requests.

    Envoy's weight is ``rps / utilization`` (client_side_weighted_round_robin), so the two are
    reported such that it is proportional to what the instance can serve at its present crowding:
    *slots* over the time that a request spends inside, which by Little's law is the number inside
    over *rate*. The rate itself, for others than Envoy, is the metric ``cats.throughput``.
    An idle instance has no rate; its service time stands for it, and a small utilisation keeps the
    report valid, so that it attracts traffic.

    Args:
        signals: of the instance now.
        slots: requests it works on at once.
        rate: requests a second that it answers.
        service_time: seconds that a request takes there without crowding; None if not known yet,
            which counts as a second.
    """
    inside = signals.get(Signal.RUNNING, 0.0) + signals.get(Signal.WAITING, 0.0)
    load = inside / max(slots, 1.0)
    spent = service_time if service_time is not None else 1.0
    if rate > 0:
        spent = max(spent, inside / rate)
    weight = max(slots, 1.0) / min(max(spent, 1e-6), LONGEST_ANSWER)
    reported = max(MIN_UTILISATION, load)
    report = OrcaLoadReport(
        application_utilization=reported,
        rps_fractional=RATE_SCALE * weight * reported,
        cpu_utilization=signals.get(Signal.UTILISATION, 0.0),
        mem_utilization=signals.get(Signal.MEMORY, 0.0),
    )
    for signal in (Signal.RUNNING, Signal.WAITING, Signal.KV_USE, Signal.TRAINING, Signal.POWER):
        if signal in signals:
            report.named_metrics[f"cats.{signal.value}"] = signals[signal]
    report.named_metrics["cats.throughput"] = rate
    return report
