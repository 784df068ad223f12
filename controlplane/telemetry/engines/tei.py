"""Text Embeddings Inference, by its ``core/src`` and ``router/src/http``.

It has no gauge of the requests that it works on; Little's law over its durations stands in.
"""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Expected, mean, rule
from controlplane.telemetry.engines.machine import dialect

TEI = dialect(
    (
        rule(Signal.WAITING, "te_queue_size", expected=Expected.ALWAYS),
        rule(
            Signal.COMPLETED,
            "te_request_success",
            "te_request_success_total",
            expected=Expected.USED,
        ),
        rule(Signal.FAILED, "te_request_failure", "te_request_failure_total"),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "te_request_duration",
            expected=Expected.USED,
        ),
        *mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "te_request_queue_duration"),
        rule(Signal.PROMPT_TOKENS, "te_request_input_length_sum"),
    ),
    marks=("te_",),
)
