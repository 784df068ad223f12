"""How well the control plane of a simulated fleet is informed."""

from __future__ import annotations

from dataclasses import dataclass, field

from controlplane.model import Signal

VLLM_SIGNALS = frozenset(
    {
        Signal.RUNNING,
        Signal.WAITING,
        Signal.COMPLETED,
        Signal.LATENCY_SUM,
        Signal.LATENCY_COUNT,
        Signal.QUEUE_SUM,
        Signal.QUEUE_COUNT,
        Signal.TTFT_SUM,
        Signal.TTFT_COUNT,
        Signal.KV_USE,
        Signal.PROMPT_TOKENS,
        Signal.OUTPUT_TOKENS,
        Signal.PREFIX_QUERIES,
        Signal.PREFIX_HITS,
        Signal.TRAINING,
        Signal.POWER,
    }
)
"""What a usual engine exports: neither its slots nor its utilisation."""


TARIFF_PERIOD = 5.0
"""Seconds between two readings of the prices of energy."""


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """How well the control plane is informed."""

    period: float = 1.0
    """Seconds between an engine's reports."""
    delay: float = 0.0
    """Seconds from measuring to arrival, of every report."""
    loss: float = 0.0
    """Part of the reports that never arrives."""
    noise: float = 0.0
    """Relative standard deviation of gauges and latencies."""
    traffic_period: float = 1.0
    """Seconds between an Envoy's reports."""
    envoy_latency: bool = True
    """Whether Envoys report the latencies that they saw, beside counts."""
    path_period: float = 5.0
    """Seconds between measurements of each network path."""
    spread: bool = True
    """Whether each sender has a phase of its own; else all report just before each period ends."""
    signals: frozenset[Signal] = field(default=VLLM_SIGNALS)
