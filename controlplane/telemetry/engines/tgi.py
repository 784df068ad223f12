"""Text Generation Inference, by its metrics reference."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import (
    Expected,
    mean,
    rule,
)
from controlplane.telemetry.engines.machine import dialect

TGI = dialect(
    (
        rule(Signal.RUNNING, "tgi_batch_current_size", expected=Expected.ALWAYS),
        rule(Signal.WAITING, "tgi_queue_size", expected=Expected.ALWAYS),
        rule(
            Signal.COMPLETED,
            "tgi_request_success",
            "tgi_request_success_total",
            expected=Expected.USED,
        ),
        rule(Signal.FAILED, "tgi_request_failure", "tgi_request_failure_total"),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "tgi_request_duration",
            expected=Expected.USED,
        ),
        *mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "tgi_request_queue_duration"),
        rule(Signal.PROMPT_TOKENS, "tgi_request_input_length_sum"),
        rule(Signal.OUTPUT_TOKENS, "tgi_request_generated_tokens_sum"),
    ),
)
