"""Text Generation Inference, by its metrics reference."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Expected, Rule, mean, rule
from controlplane.telemetry.engines.machine import dialect


def router_rules(prefix: str) -> tuple[Rule, ...]:
    """Return what Hugging Face's routers for text and for embeddings share, under *prefix*."""
    return (
        rule(Signal.WAITING, f"{prefix}_queue_size", expected=Expected.ALWAYS),
        rule(
            Signal.COMPLETED,
            f"{prefix}_request_success",
            f"{prefix}_request_success_total",
            expected=Expected.USED,
        ),
        rule(Signal.FAILED, f"{prefix}_request_failure", f"{prefix}_request_failure_total"),
        *mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            f"{prefix}_request_duration",
            expected=Expected.USED,
        ),
        *mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, f"{prefix}_request_queue_duration"),
        rule(Signal.PROMPT_TOKENS, f"{prefix}_request_input_length_sum"),
    )


TGI = dialect(
    (
        rule(Signal.RUNNING, "tgi_batch_current_size", expected=Expected.ALWAYS),
        *router_rules("tgi"),
        rule(Signal.OUTPUT_TOKENS, "tgi_request_generated_tokens_sum"),
    ),
)
