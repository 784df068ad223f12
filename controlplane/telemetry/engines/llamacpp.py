"""llama.cpp, by its server's README."""

from __future__ import annotations

from controlplane.model import Signal
from controlplane.telemetry.engines.dialect import Alias, Expected, Merge, rule
from controlplane.telemetry.engines.machine import dialect

LLAMACPP = dialect(
    (
        rule(Signal.RUNNING, "llamacpp:requests_processing", expected=Expected.ALWAYS),
        rule(Signal.WAITING, "llamacpp:requests_deferred", expected=Expected.ALWAYS),
        rule(
            Signal.KV_USE,
            Alias("llamacpp:kv_cache_usage_ratio", was="before its removal in 2025"),
            merge=Merge.MAX,
        ),
        rule(Signal.PROMPT_TOKENS, "llamacpp:prompt_tokens_total", expected=Expected.ALWAYS),
        rule(Signal.OUTPUT_TOKENS, "llamacpp:tokens_predicted_total", expected=Expected.ALWAYS),
    ),
)
