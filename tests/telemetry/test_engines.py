"""Each engine's metrics, of old versions and new, become the same signals."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.config import Engine
from controlplane.errors import ReportError
from controlplane.model import InstanceReport, Signal, Source
from controlplane.telemetry.engines import DIALECTS, parse_metrics
from controlplane.telemetry.limits import LIMITS, SHARES

M = 'model_name="llama",engine="0"'
VLLM_NEW = f"""\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{{M}}} 3.0
vllm:num_requests_waiting{{{M}}} 2.0
vllm:num_requests_waiting_by_reason{{{M},reason="capacity"}} 2.0
vllm:kv_cache_usage_perc{{{M}}} 0.25
vllm:engine_sleep_state{{{M},sleep_state="awake"}} 1.0
vllm:engine_sleep_state{{{M},sleep_state="discard_all"}} 0.0
vllm:prompt_tokens_total{{{M}}} 1000.0
vllm:generation_tokens_total{{{M}}} 500.0
vllm:request_success_total{{{M},finished_reason="stop"}} 7.0
vllm:request_success_total{{{M},finished_reason="length"}} 2.0
vllm:request_success_total{{{M},finished_reason="error"}} 1.0
vllm:e2e_request_latency_seconds_bucket{{{M},le="+Inf"}} 9.0
vllm:e2e_request_latency_seconds_count{{{M}}} 9.0
vllm:e2e_request_latency_seconds_sum{{{M}}} 18.0
vllm:time_to_first_token_seconds_count{{{M}}} 9.0
vllm:time_to_first_token_seconds_sum{{{M}}} 0.9
vllm:request_queue_time_seconds_count{{{M}}} 9.0
vllm:request_queue_time_seconds_sum{{{M}}} 0.45
vllm:prefix_cache_queries_total{{{M}}} 1000.0
vllm:prefix_cache_hits_total{{{M}}} 400.0
"""
VLLM_SIGNALS = {
    Signal.RUNNING: 3.0,
    Signal.WAITING: 2.0,
    Signal.KV_USE: 0.25,
    Signal.COMPLETED: 9.0,
    Signal.FAILED: 1.0,
    Signal.LATENCY_SUM: 18.0,
    Signal.LATENCY_COUNT: 9.0,
    Signal.TTFT_SUM: 0.9,
    Signal.TTFT_COUNT: 9.0,
    Signal.QUEUE_SUM: 0.45,
    Signal.QUEUE_COUNT: 9.0,
    Signal.PROMPT_TOKENS: 1000.0,
    Signal.OUTPUT_TOKENS: 500.0,
    Signal.PREFIX_QUERIES: 1000.0,
    Signal.PREFIX_HITS: 400.0,
}
VLLM_OLD = (
    VLLM_NEW.replace("kv_cache_usage_perc", "gpu_cache_usage_perc")
    .replace(',engine="0"', "")
    .replace("request_queue_time_seconds", "time_in_queue_requests")
)
VLLM_PARALLEL = VLLM_NEW + "\n".join(
    line.replace('engine="0"', 'engine="1"').replace("0.25", "0.75")
    for line in VLLM_NEW.splitlines()
    if not line.startswith("#")
)

S = 'model_name="llama",tp_rank="0",pp_rank="0"'
SGLANG = f"""\
sglang:num_running_reqs{{{S}}} 4
sglang:num_queue_reqs{{{S}}} 1
sglang:num_grammar_queue_reqs{{{S}}} 2
sglang:token_usage{{{S}}} 0.5
sglang:gen_throughput{{{S}}} 86.5
sglang:num_requests_total{{{S}}} 12
sglang:num_aborted_requests_total{{{S}}} 1
sglang:prompt_tokens_total{{{S}}} 300
sglang:generation_tokens_total{{{S}}} 200
sglang:cached_tokens_total{{{S}}} 120
sglang:e2e_request_latency_seconds_sum{{{S}}} 6
sglang:e2e_request_latency_seconds_count{{{S}}} 12
sglang:time_to_first_token_seconds_sum{{{S},is_streaming="true"}} 1
sglang:time_to_first_token_seconds_sum{{{S},is_streaming="false"}} 2
sglang:time_to_first_token_seconds_count{{{S},is_streaming="true"}} 4
sglang:time_to_first_token_seconds_count{{{S},is_streaming="false"}} 8
sglang:queue_time_seconds_sum{{{S}}} 0.5
sglang:queue_time_seconds_count{{{S}}} 12
"""
SGLANG_SIGNALS = {
    Signal.RUNNING: 4.0,
    Signal.WAITING: 3.0,
    Signal.KV_USE: 0.5,
    Signal.COMPLETED: 12.0,
    Signal.FAILED: 1.0,
    Signal.LATENCY_SUM: 6.0,
    Signal.LATENCY_COUNT: 12.0,
    Signal.TTFT_SUM: 3.0,
    Signal.TTFT_COUNT: 12.0,
    Signal.QUEUE_SUM: 0.5,
    Signal.QUEUE_COUNT: 12.0,
    Signal.PROMPT_TOKENS: 300.0,
    Signal.OUTPUT_TOKENS: 200.0,
    Signal.PREFIX_QUERIES: 300.0,
    Signal.PREFIX_HITS: 120.0,
}
SGLANG_RANKS = SGLANG + SGLANG.replace('tp_rank="0"', 'tp_rank="1"')

TRITON = """\
nv_inference_request_success{model="ensemble",version="1"} 10
nv_inference_request_success{model="preprocessing",version="1"} 10
nv_inference_request_success{model="tensorrt_llm",version="1"} 10
nv_inference_request_failure{model="ensemble",version="1",reason="OTHER"} 1
nv_inference_request_failure{model="ensemble",version="1",reason="BACKEND"} 2
nv_inference_request_duration_us{model="ensemble",version="1"} 5000000
nv_inference_request_duration_us{model="tensorrt_llm",version="1"} 4000000
nv_inference_queue_duration_us{model="ensemble",version="1"} 1000000
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-2"} 0.7
nv_gpu_power_usage{gpu_uuid="GPU-1"} 200
nv_gpu_power_usage{gpu_uuid="GPU-2"} 250
"""
TRITON_SIGNALS = {
    Signal.COMPLETED: 10.0,
    Signal.FAILED: 3.0,
    Signal.LATENCY_SUM: 5.0,
    Signal.LATENCY_COUNT: 10.0,
    Signal.QUEUE_SUM: 1.0,
    Signal.QUEUE_COUNT: 10.0,
    Signal.UTILISATION: 0.7,
    Signal.POWER: 450.0,
}
TRITON_LLM = (
    TRITON
    + """\
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="scheduled",version="1"} 6
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="waiting",version="1"} 2
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="max",version="1"} 64
nv_trt_llm_request_metrics{model="tensorrt_llm",request_type="active",version="1"} 8
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="tensorrt_llm"} 0.3
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm"} 300
"""
)

TRTLLM = """\
trtllm_num_requests_running{model_name="m",engine_type="trtllm"} 5
trtllm_num_requests_waiting{model_name="m",engine_type="trtllm"} 1
trtllm_kv_cache_utilization{model_name="m",engine_type="trtllm"} 0.4
trtllm_request_success_total{model_name="m",finished_reason="stop"} 3
trtllm_request_success_total{model_name="m",finished_reason="length"} 1
trtllm_e2e_request_latency_seconds_sum{model_name="m"} 8
trtllm_e2e_request_latency_seconds_count{model_name="m"} 4
trtllm_time_to_first_token_seconds_sum{model_name="m"} 0.4
trtllm_time_to_first_token_seconds_count{model_name="m"} 4
trtllm_request_queue_time_seconds_sum{model_name="m"} 0.2
trtllm_request_queue_time_seconds_count{model_name="m"} 4
"""
TRTLLM_SIGNALS = {
    Signal.RUNNING: 5.0,
    Signal.WAITING: 1.0,
    Signal.KV_USE: 0.4,
    Signal.COMPLETED: 4.0,
    Signal.LATENCY_SUM: 8.0,
    Signal.LATENCY_COUNT: 4.0,
    Signal.TTFT_SUM: 0.4,
    Signal.TTFT_COUNT: 4.0,
    Signal.QUEUE_SUM: 0.2,
    Signal.QUEUE_COUNT: 4.0,
}

TGI = """\
# TYPE tgi_request_success counter
tgi_request_success 20
tgi_request_failure{err="overloaded"} 1
tgi_request_failure{err="validation"} 2
tgi_batch_current_size 6
tgi_queue_size 3
tgi_batch_current_max_tokens 4096
tgi_request_duration_sum 40
tgi_request_duration_count 20
tgi_request_queue_duration_sum 4
tgi_request_queue_duration_count 20
tgi_request_input_length_sum 2000
tgi_request_generated_tokens_sum 3000
"""
TGI_SIGNALS = {
    Signal.RUNNING: 6.0,
    Signal.WAITING: 3.0,
    Signal.COMPLETED: 20.0,
    Signal.FAILED: 3.0,
    Signal.LATENCY_SUM: 40.0,
    Signal.LATENCY_COUNT: 20.0,
    Signal.QUEUE_SUM: 4.0,
    Signal.QUEUE_COUNT: 20.0,
    Signal.PROMPT_TOKENS: 2000.0,
    Signal.OUTPUT_TOKENS: 3000.0,
}

LLAMACPP_NEW = """\
llamacpp:prompt_tokens_total 100
llamacpp:tokens_predicted_total 50
llamacpp:predicted_tokens_seconds 33.1
llamacpp:requests_processing 2
llamacpp:requests_deferred 1
llamacpp:n_busy_slots_per_decode 1.5
"""
LLAMACPP_SIGNALS = {
    Signal.RUNNING: 2.0,
    Signal.WAITING: 1.0,
    Signal.PROMPT_TOKENS: 100.0,
    Signal.OUTPUT_TOKENS: 50.0,
}
LLAMACPP_OLD = LLAMACPP_NEW + "llamacpp:kv_cache_usage_ratio 0.125\n"

GENERIC = """\
cats_requests_running 2
cats_requests_waiting 1
cats_kv_use 0.5
cats_slots 8
cats_utilisation 0.6
cats_training_share 0.4
cats_power_watts 120
cats_requests_completed_total 5
cats_requests_failed_total 1
cats_request_latency_seconds_sum 2.5
cats_request_latency_seconds_count 5
cats_time_to_first_token_seconds_sum 0.5
cats_time_to_first_token_seconds_count 5
cats_queue_time_seconds_sum 0.25
cats_queue_time_seconds_count 5
cats_prompt_tokens_total 40
cats_output_tokens_total 60
"""
GENERIC_SIGNALS = {
    Signal.RUNNING: 2.0,
    Signal.WAITING: 1.0,
    Signal.KV_USE: 0.5,
    Signal.SLOTS: 8.0,
    Signal.UTILISATION: 0.6,
    Signal.TRAINING: 0.4,
    Signal.POWER: 120.0,
    Signal.COMPLETED: 5.0,
    Signal.FAILED: 1.0,
    Signal.LATENCY_SUM: 2.5,
    Signal.LATENCY_COUNT: 5.0,
    Signal.TTFT_SUM: 0.5,
    Signal.TTFT_COUNT: 5.0,
    Signal.QUEUE_SUM: 0.25,
    Signal.QUEUE_COUNT: 5.0,
    Signal.PROMPT_TOKENS: 40.0,
    Signal.OUTPUT_TOKENS: 60.0,
}
WEB_FRAMEWORK = """\
http_requests_inprogress{handler="/x"} 2
http_requests_total{handler="/x",status="2xx"} 8
http_requests_total{handler="/x",status="5xx"} 2
http_request_duration_seconds_sum{handler="/x"} 5
http_request_duration_seconds_count{handler="/x"} 10
"""

DOUBLED = {
    signal: 0.75 if signal is Signal.KV_USE else 2 * value for signal, value in VLLM_SIGNALS.items()
}


def read(text: str, engine: Engine) -> InstanceReport:
    """Read an exposition."""
    return parse_metrics(text, engine=engine, instance="a", at=5.0)


@pytest.mark.parametrize(
    ("engine", "text", "signals", "aliases"),
    [
        pytest.param(Engine.VLLM, VLLM_NEW, VLLM_SIGNALS, (), id="vllm"),
        pytest.param(
            Engine.VLLM, VLLM_OLD, VLLM_SIGNALS,
            ("vllm:gpu_cache_usage_perc (before 0.9)",
             "vllm:time_in_queue_requests_sum (before 0.7)",
             "vllm:time_in_queue_requests_count (before 0.7)"),
            id="vllm_old",
        ),
        pytest.param(Engine.VLLM, VLLM_PARALLEL, DOUBLED, (), id="vllm_data_parallel"),
        pytest.param(Engine.SGLANG, SGLANG, SGLANG_SIGNALS, (), id="sglang"),
        pytest.param(Engine.SGLANG, SGLANG_RANKS, SGLANG_SIGNALS, (), id="sglang_all_ranks"),
        pytest.param(Engine.TRTLLM, TRTLLM, TRTLLM_SIGNALS, (), id="trtllm"),
        pytest.param(
            Engine.TRITON, TRITON_LLM,
            TRITON_SIGNALS | {Signal.RUNNING: 6.0, Signal.WAITING: 2.0, Signal.SLOTS: 64.0,
                              Signal.KV_USE: 0.3},
            (), id="triton_trtllm",
        ),
        pytest.param(
            Engine.TRITON, TRITON + 'nv_inference_pending_request_count{model="m"} 4\n',
            TRITON_SIGNALS | {Signal.WAITING: 4.0}, (), id="triton",
        ),
        pytest.param(Engine.TGI, TGI, TGI_SIGNALS, (), id="tgi"),
        pytest.param(Engine.LLAMACPP, LLAMACPP_NEW, LLAMACPP_SIGNALS, (), id="llamacpp"),
        pytest.param(
            Engine.LLAMACPP, LLAMACPP_OLD, LLAMACPP_SIGNALS | {Signal.KV_USE: 0.125},
            ("llamacpp:kv_cache_usage_ratio (before its removal in 2025)",), id="llamacpp_old",
        ),
        pytest.param(Engine.GENERIC, GENERIC, GENERIC_SIGNALS, (), id="generic"),
        pytest.param(Engine.OLLAMA, GENERIC, GENERIC_SIGNALS, (), id="ollama_with_an_exporter"),
        pytest.param(
            Engine.GENERIC, WEB_FRAMEWORK,
            {Signal.RUNNING: 2.0, Signal.COMPLETED: 8.0, Signal.FAILED: 2.0,
             Signal.LATENCY_SUM: 5.0, Signal.LATENCY_COUNT: 10.0},
            (), id="web_framework",
        ),
    ],
)  # fmt: skip
def test_signals_are_read(
    engine: Engine, text: str, signals: dict[Signal, float], aliases: tuple[str, ...]
) -> None:
    """Complete, in SI units, merged over the instance's own parts."""
    expected = InstanceReport("a", Source.SCRAPE, 5.0, signals, aliases=aliases)

    # What was left out is in tests/telemetry/test_field_pages.py.
    assert expected == replace(read(text, engine), ignored=())


def test_names_before_the_trtllm_prefix_and_behind_a_collector_are_known() -> None:
    """A relay turns colons into underscores."""
    bare = read(TRTLLM.replace("trtllm_", ""), Engine.TRTLLM)
    relayed = read(VLLM_NEW.replace("vllm:", "vllm_"), Engine.VLLM)

    assert (TRTLLM_SIGNALS, VLLM_SIGNALS) == (bare.signals, relayed.signals)
    assert "trtllm_num_requests_running" not in bare.aliases
    assert "num_requests_running (before the trtllm_ prefix)" in bare.aliases
    assert "vllm_num_requests_running (relayed by a collector)" in relayed.aliases


@pytest.mark.parametrize("engine", [one for one in Engine if one is not Engine.OLLAMA])
def test_a_renamed_signal_is_missing_loudly(engine: Engine) -> None:
    """However the next version calls it, its absence is in the report."""
    report = read("renamed_metric 1\n", engine)

    assert {} == report.signals
    assert report.missing
    assert report.ready


def test_what_an_engine_creates_at_first_use_is_missing_only_after_it() -> None:
    """A fresh engine is not a faulty one."""
    gauges = "\n".join(line for line in SGLANG.splitlines() if "_seconds" not in line)
    fresh = "\n".join(line for line in gauges.splitlines() if "_total" not in line)

    assert () == read(fresh, Engine.SGLANG).missing
    assert Signal.LATENCY_SUM in read(gauges, Engine.SGLANG).missing


def test_the_wrong_engine_is_named() -> None:
    """The commonest mistake in the configuration."""
    report = read(SGLANG, Engine.VLLM)

    assert ("these are metrics of sglang, not of vllm",) == report.refused
    assert Signal.RUNNING in report.missing


@pytest.mark.parametrize(
    ("written", "words"),
    [
        pytest.param("NaN", "is nan", id="nan"),
        pytest.param("+Inf", "is inf", id="infinity"),
        pytest.param("-1", "is negative: -1", id="negative"),
        pytest.param("25", "must lie between 0 and 1, is 25", id="per_cent"),
        pytest.param("9223372036854775794", "is a sentinel", id="sentinel"),
    ],
)
def test_a_value_that_cannot_be_is_refused_alone(written: str, words: str) -> None:
    """Its signal is missing; the others count."""
    report = read(VLLM_PARALLEL.replace("} 0.75", f"}} {written}"), Engine.VLLM)

    assert DOUBLED.items() > report.signals.items()
    assert (Signal.KV_USE,) == report.missing
    assert words in report.refused[0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(
            VLLM_NEW.replace('"awake"} 1', '"awake"} 0').replace('_all"} 0', '_all"} 1'),
            "it sleeps", id="asleep",
        ),
        pytest.param(
            VLLM_PARALLEL.replace('engine="1",sleep_state="awake"} 1',
                                  'engine="1",sleep_state="awake"} 0'),
            "", id="one_of_two_asleep",
        ),
        pytest.param(VLLM_NEW + "cats_ready 0\n", "cats_ready is 0", id="ours"),
    ],
)  # fmt: skip
def test_an_engine_may_say_that_it_is_not_ready(text: str, reason: str) -> None:
    """And why."""
    report = read(text, Engine.VLLM)

    assert (not reason, reason) == (report.ready, report.not_ready_reason)


def test_machine_metrics_count_beside_any_engines() -> None:
    """Utilisation is that of the busiest accelerator, power that of all."""
    machine = """\
DCGM_FI_DEV_GPU_UTIL{gpu="0"} 40
DCGM_FI_DEV_GPU_UTIL{gpu="1"} 90
DCGM_FI_DEV_POWER_USAGE{gpu="0"} 100.5
DCGM_FI_DEV_POWER_USAGE{gpu="1"} 200.5
cats_training_share 0.25
"""
    expected = {Signal.UTILISATION: 0.9, Signal.POWER: 301.0, Signal.TRAINING: 0.25}

    assert VLLM_SIGNALS | expected == pytest.approx(read(VLLM_NEW + machine, Engine.VLLM).signals)


VALUES = st.one_of(st.floats(), st.sampled_from([2.0**63, -1.0, 0.0, 1e308]))


@given(
    st.sampled_from(list(Engine)).flatmap(
        lambda engine: st.tuples(
            st.just(engine),
            st.lists(
                st.tuples(
                    st.sampled_from(sorted(DIALECTS[engine].names)),
                    st.sampled_from(["", '{model="a"}', '{tp_rank="1"}', '{status="500"}']),
                    VALUES,
                ),
                max_size=12,
            ),
        )
    )
)
@settings(max_examples=150)
def test_whatever_an_engine_writes_a_report_holds_only_what_can_be(
    case: tuple[Engine, list[tuple[str, str, float]]],
) -> None:
    """Finite, not negative, shares within 0 and 1."""
    engine, series = case
    text = "x 1\n" + "".join(f"{name}{labels} {value!r}\n" for name, labels, value in series)
    try:
        report = read(text, engine)
    except ReportError:
        return

    for signal, value in report.signals.items():
        assert 0 <= value <= (1.0 if signal in SHARES else LIMITS[signal])
