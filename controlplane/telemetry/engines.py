"""The metric names of each inference engine, as tables, and how series become signals.

A rename in an engine must never turn steering off in silence: every signal has all the names it
ever had, newest first, and a signal that an engine should give and does not is named in the report.
Knows nothing of HTTP; the tables are the only place that spells an engine's metric.

Names come from the engines' own metric definitions: vLLM ``v1/metrics/loggers.py``, SGLang
``metrics_collector.py``, TensorRT-LLM's Prometheus page, Triton's metrics guide and the README of
its TensorRT-LLM backend, TGI's metrics reference, llama.cpp's server README, the DCGM exporter's
defaults.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controlplane.config.engine import Engine
from controlplane.model import COUNTERS, InstanceReport, Signal, Source
from controlplane.telemetry.exposition import Sample, parse_exposition
from controlplane.telemetry.limits import LIMITS, SENTINEL, SHARES

MAX_REFUSED = 16


class Merge(StrEnum):
    """How several series of one instance become one value."""

    SUM = "sum"
    """Requests of data parallel engines."""
    MAX = "max"
    """Shares: the fullest engine refuses first."""
    MODEL = "model"
    """Sums per label ``model``, of which the largest: in an ensemble every step counts the same
    request again."""


class Expected(StrEnum):
    """When the absence of a signal is a fault."""

    ALWAYS = "always"
    USED = "used"
    """Once the instance has answered anything: engines that create a series at its first use."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Alias:
    """One name under which a signal may come."""

    name: str
    was: str = ""
    """When it was the name, in words; empty for today's."""
    label: str = ""
    """Only series in which this label has one of *values* count; empty takes all."""
    values: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()
    """Only series in which *label* has none of these count."""
    scale: float = 1.0
    """Factor to SI units."""
    also: tuple[str, ...] = ()
    """Further metrics that are added where present."""
    times: str = ""
    """A metric that the value is multiplied by: a pool's average to its total."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one signal is read; the first alias that is present decides."""

    signal: Signal
    aliases: tuple[Alias, ...]
    merge: Merge = Merge.SUM
    expected: Expected = Expected.NEVER


@dataclass(frozen=True, slots=True)
class Readiness:
    """A metric by which an engine says that it must get nothing, by the value 0."""

    name: str
    reason: str
    label: str = ""
    value: str = ""
    every: bool = False
    """True when all series must be 0, false when one is enough."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Everything that is known of one engine's metrics."""

    rules: tuple[Rule, ...]
    readiness: tuple[Readiness, ...] = ()
    rank_labels: tuple[str, ...] = ()
    """Labels of workers that all report the same requests: only rank 0 counts."""
    names: frozenset[str] = frozenset()
    """Every name that the rules read."""
    distinct: bool = True
    """Whether the names tell this engine from all others."""


def _rule(
    signal: Signal,
    *aliases: Alias | str,
    merge: Merge = Merge.SUM,
    expected: Expected = Expected.NEVER,
) -> Rule:
    named = tuple(Alias(alias) if isinstance(alias, str) else alias for alias in aliases)
    # Collectors that speak OpenTelemetry or Ray turn the colon into an underscore.
    relayed = tuple(
        Alias(
            alias.name.replace(":", "_"),
            was=alias.was or "relayed by a collector",
            label=alias.label,
            values=alias.values,
            but=alias.but,
            scale=alias.scale,
            also=tuple(name.replace(":", "_") for name in alias.also),
        )
        for alias in named
        if ":" in alias.name
    )
    return Rule(signal, named + relayed, merge, expected)


def _mean(
    total: Signal,
    count: Signal,
    *names: Alias | str,
    scale: float = 1.0,
    expected: Expected = Expected.NEVER,
) -> tuple[Rule, Rule]:
    """Read the sum and the count of a histogram or summary."""
    named = [Alias(name) if isinstance(name, str) else name for name in names]
    return (
        _rule(
            total,
            *(Alias(f"{alias.name}_sum", alias.was, scale=scale) for alias in named),
            expected=expected,
        ),
        _rule(
            count,
            *(Alias(f"{alias.name}_count", alias.was) for alias in named),
            expected=expected,
        ),
    )


def _dialect(
    rules: Iterable[Rule],
    readiness: tuple[Readiness, ...] = (),
    rank_labels: tuple[str, ...] = (),
    *,
    distinct: bool = True,
) -> Dialect:
    # The engine's own rule first, then ours for machine metrics that an exporter may have added.
    own = tuple(rules)
    covered = {rule.signal for rule in own}
    every = own + tuple(rule for rule in _MACHINE if rule.signal not in covered)
    ready = (*readiness, _OUR_READINESS)
    names = {alias.name for rule in every for alias in rule.aliases}
    names |= {name for rule in every for alias in rule.aliases for name in alias.also}
    names |= {alias.times for rule in every for alias in rule.aliases if alias.times}
    names |= {name.name for name in ready}
    return Dialect(every, ready, rank_labels, frozenset(names), distinct)


_OUR_READINESS = Readiness("cats_ready", "cats_ready is 0")

_UTILISATION = (
    Alias("cats_utilisation"),
    Alias("cats_utilization"),
    Alias("DCGM_FI_PROF_GR_ENGINE_ACTIVE"),
    Alias("DCGM_FI_DEV_GPU_UTIL", scale=0.01),
    Alias("node_drm_gpu_busy_percent", scale=0.01),
)
_POWER = (Alias("cats_power_watts"), Alias("DCGM_FI_DEV_POWER_USAGE"))
_MACHINE = (
    _rule(Signal.UTILISATION, *_UTILISATION, merge=Merge.MAX),
    _rule(Signal.TRAINING, "cats_training_share", "cats_training", merge=Merge.MAX),
    _rule(Signal.POWER, *_POWER),
    _rule(Signal.SLOTS, "cats_slots"),
)

_VLLM = _dialect(
    (
        _rule(Signal.RUNNING, "vllm:num_requests_running", expected=Expected.ALWAYS),
        _rule(Signal.WAITING, "vllm:num_requests_waiting", expected=Expected.ALWAYS),
        _rule(
            Signal.KV_USE,
            "vllm:kv_cache_usage_perc",
            Alias("vllm:gpu_cache_usage_perc", was="before 0.9"),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.COMPLETED,
            Alias("vllm:request_success_total", label="finished_reason", but=frozenset({"error"})),
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.FAILED,
            Alias(
                "vllm:request_success_total", label="finished_reason", values=frozenset({"error"})
            ),
        ),
        *_mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "vllm:e2e_request_latency_seconds",
            expected=Expected.ALWAYS,
        ),
        *_mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            "vllm:time_to_first_token_seconds",
            expected=Expected.ALWAYS,
        ),
        *_mean(
            Signal.QUEUE_SUM,
            Signal.QUEUE_COUNT,
            "vllm:request_queue_time_seconds",
            Alias("vllm:time_in_queue_requests", was="before 0.7"),
        ),
        _rule(Signal.PROMPT_TOKENS, "vllm:prompt_tokens_total", expected=Expected.ALWAYS),
        _rule(Signal.OUTPUT_TOKENS, "vllm:generation_tokens_total", expected=Expected.ALWAYS),
    ),
    (
        Readiness("vllm:engine_healthy", "an engine of it is unhealthy"),
        Readiness("vllm:engine_sleep_state", "it sleeps", "sleep_state", "awake", every=True),
    ),
)

_SGLANG = _dialect(
    (
        _rule(Signal.RUNNING, "sglang:num_running_reqs", expected=Expected.ALWAYS),
        _rule(
            Signal.WAITING,
            Alias(
                "sglang:num_queue_reqs",
                also=(
                    "sglang:num_grammar_queue_reqs",
                    "sglang:num_prefill_prealloc_queue_reqs",
                    "sglang:num_decode_prealloc_queue_reqs",
                    "sglang:num_paused_reqs",
                ),
            ),
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.KV_USE,
            "sglang:token_usage",
            "sglang:full_token_usage",
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        _rule(Signal.COMPLETED, "sglang:num_requests_total", expected=Expected.USED),
        _rule(Signal.FAILED, "sglang:num_aborted_requests_total"),
        *_mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "sglang:e2e_request_latency_seconds",
            expected=Expected.USED,
        ),
        *_mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            "sglang:time_to_first_token_seconds",
            expected=Expected.USED,
        ),
        *_mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "sglang:queue_time_seconds"),
        _rule(Signal.PROMPT_TOKENS, "sglang:prompt_tokens_total", expected=Expected.USED),
        _rule(Signal.OUTPUT_TOKENS, "sglang:generation_tokens_total", expected=Expected.USED),
    ),
    rank_labels=("tp_rank", "pp_rank"),
)


def _request_type(value: str) -> Alias:
    return Alias("nv_trt_llm_request_metrics", label="request_type", values=frozenset({value}))


_TRITON = _dialect(
    (
        _rule(Signal.RUNNING, _request_type("scheduled"), _request_type("active")),
        _rule(
            Signal.WAITING,
            _request_type("waiting"),
            Alias("nv_inference_pending_request_count"),
            expected=Expected.ALWAYS,
        ),
        _rule(Signal.SLOTS, _request_type("max")),
        _rule(
            Signal.KV_USE,
            Alias(
                "nv_trt_llm_kv_cache_block_metrics",
                label="kv_cache_block_type",
                values=frozenset({"fraction"}),
            ),
            merge=Merge.MAX,
        ),
        _rule(
            Signal.COMPLETED,
            "nv_inference_request_success",
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        _rule(Signal.FAILED, "nv_inference_request_failure", merge=Merge.MODEL),
        _rule(
            Signal.LATENCY_SUM,
            Alias("nv_inference_request_duration_us", scale=1e-6),
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.LATENCY_COUNT,
            "nv_inference_request_success",
            merge=Merge.MODEL,
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.QUEUE_SUM,
            Alias("nv_inference_queue_duration_us", scale=1e-6),
            merge=Merge.MODEL,
        ),
        _rule(Signal.QUEUE_COUNT, "nv_inference_request_success", merge=Merge.MODEL),
        _rule(
            Signal.TTFT_SUM,
            Alias("nv_inference_first_response_histogram_ms_sum", scale=1e-3),
            merge=Merge.MODEL,
        ),
        _rule(
            Signal.TTFT_COUNT,
            "nv_inference_first_response_histogram_ms_count",
            merge=Merge.MODEL,
        ),
        _rule(Signal.UTILISATION, "nv_gpu_utilization", *_UTILISATION, merge=Merge.MAX),
        _rule(Signal.POWER, "nv_gpu_power_usage", *_POWER),
    ),
)

_UNPREFIXED = "before the trtllm_ prefix"
_TRTLLM = _dialect(
    (
        _rule(
            Signal.RUNNING,
            "trtllm_num_requests_running",
            Alias("num_requests_running", was=_UNPREFIXED),
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.WAITING,
            "trtllm_num_requests_waiting",
            Alias("num_requests_waiting", was=_UNPREFIXED),
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.KV_USE,
            "trtllm_kv_cache_utilization",
            Alias("kv_cache_utilization", was=_UNPREFIXED),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
        _rule(
            Signal.COMPLETED,
            "trtllm_request_success_total",
            Alias("request_success_total", was=_UNPREFIXED),
            Alias("trtllm_e2e_request_latency_seconds_count"),
            expected=Expected.USED,
        ),
        *_mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "trtllm_e2e_request_latency_seconds",
            Alias("e2e_request_latency_seconds", was=_UNPREFIXED),
            expected=Expected.USED,
        ),
        *_mean(
            Signal.TTFT_SUM,
            Signal.TTFT_COUNT,
            "trtllm_time_to_first_token_seconds",
            Alias("time_to_first_token_seconds", was=_UNPREFIXED),
        ),
        *_mean(
            Signal.QUEUE_SUM,
            Signal.QUEUE_COUNT,
            "trtllm_request_queue_time_seconds",
            Alias("request_queue_time_seconds", was=_UNPREFIXED),
        ),
    ),
)

_TGI = _dialect(
    (
        _rule(Signal.RUNNING, "tgi_batch_current_size", expected=Expected.ALWAYS),
        _rule(Signal.WAITING, "tgi_queue_size", expected=Expected.ALWAYS),
        _rule(
            Signal.COMPLETED,
            "tgi_request_success",
            "tgi_request_success_total",
            expected=Expected.USED,
        ),
        _rule(Signal.FAILED, "tgi_request_failure", "tgi_request_failure_total"),
        *_mean(
            Signal.LATENCY_SUM,
            Signal.LATENCY_COUNT,
            "tgi_request_duration",
            expected=Expected.USED,
        ),
        *_mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "tgi_request_queue_duration"),
        _rule(Signal.PROMPT_TOKENS, "tgi_request_input_length_sum"),
        _rule(Signal.OUTPUT_TOKENS, "tgi_request_generated_tokens_sum"),
    ),
)

_LLAMACPP = _dialect(
    (
        _rule(Signal.RUNNING, "llamacpp:requests_processing", expected=Expected.ALWAYS),
        _rule(Signal.WAITING, "llamacpp:requests_deferred", expected=Expected.ALWAYS),
        _rule(
            Signal.KV_USE,
            Alias("llamacpp:kv_cache_usage_ratio", was="before its removal in 2025"),
            merge=Merge.MAX,
        ),
        _rule(Signal.PROMPT_TOKENS, "llamacpp:prompt_tokens_total", expected=Expected.ALWAYS),
        _rule(Signal.OUTPUT_TOKENS, "llamacpp:tokens_predicted_total", expected=Expected.ALWAYS),
    ),
)

_SERVER_ERRORS = frozenset(str(code) for code in range(500, 600)) | {"5xx"}
_CATS = (
    _rule(
        Signal.RUNNING,
        "cats_requests_running",
        "requests_running",
        "num_requests_running",
        "http_requests_in_progress",
        "http_requests_inprogress",
        "http_requests_in_flight",
        expected=Expected.ALWAYS,
    ),
    _rule(
        Signal.WAITING,
        "cats_requests_waiting",
        "requests_waiting",
        "num_requests_waiting",
        "queue_size",
    ),
    _rule(Signal.KV_USE, "cats_kv_use", merge=Merge.MAX),
    _rule(
        Signal.THROUGHPUT,
        "cats_requests_per_second",
    ),
    _rule(
        Signal.COMPLETED,
        "cats_requests_completed_total",
        "cats_request_latency_seconds_count",
        Alias("http_requests_total", label="status", but=_SERVER_ERRORS),
        "http_request_duration_seconds_count",
        expected=Expected.USED,
    ),
    _rule(
        Signal.FAILED,
        "cats_requests_failed_total",
        Alias("http_requests_total", label="status", values=_SERVER_ERRORS),
    ),
    *_mean(
        Signal.LATENCY_SUM,
        Signal.LATENCY_COUNT,
        "cats_request_latency_seconds",
        "http_request_duration_seconds",
        expected=Expected.USED,
    ),
    *_mean(Signal.TTFT_SUM, Signal.TTFT_COUNT, "cats_time_to_first_token_seconds"),
    *_mean(Signal.QUEUE_SUM, Signal.QUEUE_COUNT, "cats_queue_time_seconds"),
    _rule(Signal.PROMPT_TOKENS, "cats_prompt_tokens_total"),
    _rule(Signal.OUTPUT_TOKENS, "cats_output_tokens_total"),
)
_GENERIC = _dialect(_CATS, distinct=False)
# Ollama writes no metrics of its own; an exporter beside it may use our names.
_OLLAMA = _dialect((Rule(rule.signal, rule.aliases, rule.merge) for rule in _CATS), distinct=False)

_EPP_PREFIXES = ("llm_d_epp", "llm_d_router_epp", "inference_pool")


def _pool(name: str) -> tuple[Alias, ...]:
    """Give the aliases of a pool's average, times the endpoints that it is of."""
    return tuple(
        Alias(
            f"{prefix}_{name}",
            was="" if prefix == _EPP_PREFIXES[0] else "an older prefix",
            times=f"{prefix}_ready_endpoints"
            if prefix != "inference_pool"
            else "inference_pool_ready_pods",
        )
        for prefix in _EPP_PREFIXES
    )


# A pool behind an endpoint picker is one instance here: its averages times its endpoints.
_EPP = _dialect(
    (
        _rule(Signal.RUNNING, *_pool("average_running_requests"), expected=Expected.ALWAYS),
        _rule(Signal.WAITING, *_pool("average_queue_size"), expected=Expected.ALWAYS),
        _rule(
            Signal.KV_USE,
            *(Alias(alias.name, was=alias.was) for alias in _pool("average_kv_cache_utilization")),
            merge=Merge.MAX,
            expected=Expected.ALWAYS,
        ),
    ),
    (
        Readiness("llm_d_epp_ready_endpoints", "its pool has no ready endpoint", every=True),
        Readiness("inference_pool_ready_pods", "its pool has no ready endpoint", every=True),
    ),
)

DIALECTS: Mapping[Engine, Dialect] = {
    Engine.VLLM: _VLLM,
    Engine.SGLANG: _SGLANG,
    Engine.TRITON: _TRITON,
    Engine.TRTLLM: _TRTLLM,
    Engine.TGI: _TGI,
    Engine.LLAMACPP: _LLAMACPP,
    Engine.OLLAMA: _OLLAMA,
    Engine.EPP: _EPP,
    Engine.GENERIC: _GENERIC,
}


def parse_metrics(
    text: str, *, engine: Engine, instance: str, at: float, source: Source = Source.SCRAPE
) -> InstanceReport:
    """Read what *engine* says in *text*.

    Args:
        text: Prometheus exposition, 0.0.4 or OpenMetrics.
        engine: whose names are expected.
        instance: name in the configuration.
        at: when it was read.
        source: who read it.

    Returns:
        The signals found; ``missing`` names those that the engine should have given, ``aliases``
        the outdated names that matched, ``refused`` the values that cannot be.

    Raises:
        ReportError: the text is no exposition, or a wanted line of it is faulty.
    """
    dialect = DIALECTS[engine]
    samples = parse_exposition(text, dialect.names)
    signals: dict[Signal, float] = {}
    refused: list[str] = []
    aliases: list[str] = []
    for rule in dialect.rules:
        alias, value = _read(rule, samples, dialect.rank_labels)
        if alias is None:
            continue
        fault = _fault(rule.signal, value)
        if fault:
            if len(refused) < MAX_REFUSED:
                refused.append(f"{rule.signal.value} ({alias.name}) {fault}")
            continue
        signals[rule.signal] = min(value, 1.0) if rule.signal in SHARES else value
        if alias.was:
            aliases.append(f"{alias.name} ({alias.was})")
    used = any(value > 0 for signal, value in signals.items() if signal in COUNTERS)
    missing = tuple(
        rule.signal
        for rule in dialect.rules
        if rule.signal not in signals
        and (rule.expected is Expected.ALWAYS or (used and rule.expected is Expected.USED))
    )
    if not samples:
        others = [other.value for other, its in DIALECTS.items() if _speaks(text, its)]
        if others:
            refused.append(f"these are metrics of {others[0]}, not of {engine.value}")
    not_ready = _not_ready(dialect.readiness, samples)
    return InstanceReport(
        instance=instance,
        source=source,
        at=at,
        signals=signals,
        ready=not not_ready,
        missing=missing,
        refused=tuple(refused),
        aliases=tuple(aliases),
        not_ready_reason=not_ready,
    )


def _read(
    rule: Rule, samples: Mapping[str, list[Sample]], rank_labels: tuple[str, ...]
) -> tuple[Alias | None, float]:
    for alias in rule.aliases:
        series = samples.get(alias.name)
        if series is None:
            continue
        chosen = _select(series, alias, rank_labels)
        if not chosen:
            # A counter creates its labelled series when it first counts: no series means none yet.
            if rule.signal in COUNTERS:
                return alias, 0.0
            continue
        for name in alias.also:
            chosen = chosen + _select(samples.get(name, []), alias, rank_labels)
        value = _merge(chosen, rule.merge)
        if alias.times:
            factor = samples.get(alias.times)
            if not factor:
                continue
            value *= _merge(factor, Merge.SUM)
        return alias, value * alias.scale if value < SENTINEL else value
    return None, math.nan


def _select(series: list[Sample], alias: Alias, rank_labels: tuple[str, ...]) -> list[Sample]:
    if alias.label:
        series = [
            sample
            for sample in series
            if (not alias.values or sample.labels.get(alias.label) in alias.values)
            and sample.labels.get(alias.label) not in alias.but
        ]
    if rank_labels:
        series = [
            sample
            for sample in series
            if all(sample.labels.get(label, "0") == "0" for label in rank_labels)
        ]
    return series


def _merge(series: list[Sample], merge: Merge) -> float:
    values = [sample.value for sample in series]
    # One unreadable part makes the whole unreadable: a sum without it would be a lie.
    for value in values:
        if not 0 <= value < SENTINEL:
            return value
    if len(values) == 1:
        return values[0]
    if merge is Merge.MAX:
        return max(values)
    if merge is Merge.SUM:
        return math.fsum(values)
    totals: dict[str, float] = {}
    for sample in series:
        model = sample.labels.get("model", "")
        totals[model] = totals.get(model, 0.0) + sample.value
    return max(totals.values())


def _fault(signal: Signal, value: float) -> str:
    """Say why *value* cannot be; empty if it can."""
    if math.isnan(value) or math.isinf(value):
        return f"is {value}"
    if value < 0:
        return f"is negative: {value:g}"
    if value >= SENTINEL:
        return f"is a sentinel: {value:g}"
    if value > LIMITS[signal]:
        return f"must lie between 0 and {1 if signal in SHARES else LIMITS[signal]:g}, is {value:g}"
    return ""


def _not_ready(rules: tuple[Readiness, ...], samples: Mapping[str, list[Sample]]) -> str:
    for rule in rules:
        values = [
            sample.value
            for sample in samples.get(rule.name, ())
            if not rule.label or sample.labels.get(rule.label) == rule.value
        ]
        if values and (max(values) if rule.every else min(values)) == 0:
            return rule.reason
    return ""


def recognise_engine(text: str) -> Engine | None:
    """Give the engine whose metrics *text* holds; none if nobody's here, or only generic ones."""
    for engine, dialect in DIALECTS.items():
        if dialect.distinct and _speaks(text, dialect):
            return engine
    return None


def _speaks(text: str, dialect: Dialect) -> bool:
    return any(
        f"\n{rule.aliases[0].name}" in text or text.startswith(rule.aliases[0].name)
        for rule in dialect.rules
        if rule.expected is Expected.ALWAYS
    )
