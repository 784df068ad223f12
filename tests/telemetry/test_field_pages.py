"""Pages as engines write them in the field: each case stands for a kind."""

from __future__ import annotations

import itertools
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config import Engine
from controlplane.errors import ReportError
from controlplane.model import InstanceReport, Signal
from controlplane.telemetry.engines import parse_metrics


def read(text: str, engine: Engine = Engine.VLLM, **more: object) -> InstanceReport:
    """Read a page."""
    return parse_metrics(text, engine=engine, instance="a", at=1000.0, **more)  # type: ignore[arg-type]


def load(report: InstanceReport) -> tuple[float | None, float | None, float | None]:
    """Return running, waiting and the cache's use."""
    signals = report.signals
    cache = signals.get(Signal.KV_USE)
    return (
        signals.get(Signal.RUNNING),
        signals.get(Signal.WAITING),
        None if cache is None else round(cache, 9),
    )


def sglang(*rows: tuple[dict[str, str], float, float, float]) -> str:
    """Write a page of one row per worker: labels, running, waiting, cache."""
    lines = []
    for labels, *values in rows:
        names = ("num_running_reqs", "num_queue_reqs", "token_usage")
        for name, value in zip(names, values, strict=True):
            written = ",".join(f'{key}="{label}"' for key, label in labels.items())
            lines.append(f"sglang:{name}{{{written}}} {value}")
    return "\n".join(lines) + "\n"


def worker(**ranks: int | str) -> dict[str, str]:
    """Return the labels of a worker."""
    return {"model_name": "m", **{key: str(value) for key, value in ranks.items()}}


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param(
            sglang(
                (worker(dp_rank=0, tp_rank=0, pp_rank=0, moe_ep_rank=0), 3, 1, 0.1),
                (worker(dp_rank=1, tp_rank=1, pp_rank=0, moe_ep_rank=1), 20, 4, 0.7),
                (worker(dp_rank=2, tp_rank=2, pp_rank=0, moe_ep_rank=2), 22, 5, 0.9),
            ),
            (45, 10, 0.9),
            id="the leaders of data-parallel attention have tensor ranks 0 to n",
        ),
        pytest.param(
            sglang(
                *(
                    (worker(dp_rank=dp, tp_rank=2 * dp + tp, pp_rank=0), 10 + dp, dp, 0.2 + dp / 10)
                    for dp, tp in itertools.product(range(2), range(2))
                )
            ),
            (21, 1, 0.3),
            id="two workers of each data-parallel rank",
        ),
        pytest.param(
            sglang(*((worker(tp_rank=tp, pp_rank=0), 7, 2, 0.5) for tp in range(4))),
            (7, 2, 0.5),
            id="tensor parallel without a data-parallel rank",
        ),
        pytest.param(
            sglang(
                *((worker(tp_rank=0, pp_rank=pp), 7 if not pp else 6, 2, 0.5) for pp in range(3))
            ),
            (7, 2, 0.5),
            id="pipeline stages, a moment apart",
        ),
        pytest.param(
            sglang(*((worker(tp_rank=0, attn_cp_rank=cp), 9, 3, 0.4) for cp in range(4))),
            (9, 3, 0.4),
            id="context-parallel ranks repeat the same numbers",
        ),
        pytest.param(
            sglang(*((worker(dp_rank=dp, tp_rank=tp), 5, 1, 0.1 * dp)
                     for dp, tp in [(0, 10), (0, 9), (1, 2), (1, 11)])),
            (10, 2, 0.1),
            id="ranks are numbers, not words",
        ),
        pytest.param(
            sglang((worker(engine="0"), 4, 1, 0.2), (worker(engine="1"), 5, 2, 0.8)),
            (9, 3, 0.8),
            id="several engines without any rank",
        ),
        pytest.param(
            sglang((worker(priority=""), 12, 6, 0.4), (worker(priority=0), 8, 5, 0.4),
                   (worker(priority=10), 4, 1, 0.4)),
            (12, 6, 0.4),
            id="the total has an empty priority",
        ),
        pytest.param(
            sglang((worker(), 12, 6, 0.4), (worker(priority=0), 8, 5, 0.4)),
            (12, 6, 0.4),
            id="the total has no priority",
        ),
        pytest.param(
            sglang((worker(priority=0), 8, 5, 0.4), (worker(priority=10), 4, 1, 0.4)),
            (12, 6, 0.4),
            id="priorities without a total",
        ),
        pytest.param(
            sglang(
                *((worker(dp_rank=dp, tp_rank=dp, priority=p), n, 1, 0.1)
                  for dp in (0, 1) for p, n in [("", 5), ("0", 3), ("1", 2)])
            ),
            (10, 2, 0.1),
            id="priorities of each data-parallel rank",
        ),
    ],
)  # fmt: skip
def test_workers_and_parts_of_one_engine_are_counted_once(
    page: str, expected: tuple[float, float, float]
) -> None:
    """However many rows say it, in whichever order, of whichever engine."""
    lines = page.splitlines()
    for order in (lines, lines[::-1], random.Random(7).sample(lines, len(lines))):
        assert expected == load(read("\n".join(order), Engine.SGLANG))
    names = {"num_running_reqs": "num_requests_running", "num_queue_reqs": "num_requests_waiting",
             "token_usage": "kv_cache_usage_perc", "sglang:": "vllm:"}  # fmt: skip
    for own, other in names.items():
        page = page.replace(own, other)
    assert expected == load(read(page, Engine.VLLM))


@pytest.mark.parametrize(
    ("role", "queues", "waiting"),
    [
        ("prefill", {"prefill_bootstrap": 40, "prefill_inflight": 12, "decode_prealloc": 0}, 53),
        ("prefill", {"prefill_prealloc": 40, "prefill_inflight": 12}, 53),
        (
            "decode",
            {"decode_prealloc": 5, "decode_transfer": 25, "decode_host_receive": 9,
             "prefill_bootstrap": 0},
            40,
        ),
        ("unified", {"grammar": 2}, 3),
    ],
)  # fmt: skip
def test_the_queues_of_prefill_and_decode_are_waits(
    role: str, queues: dict[str, int], waiting: float
) -> None:
    """A request whose cache is being moved waits like one that has not begun."""
    labels = f'{{engine_type="{role}",tp_rank="0"}}'
    page = sglang((worker(engine_type=role, tp_rank=0), 2, 1, 0.3)) + "".join(
        f"sglang:num_{name}_queue_reqs{labels} {count}\n" for name, count in queues.items()
    )

    assert (2, waiting, 0.3) == load(read(page, Engine.SGLANG))


TRITON = """\
nv_inference_request_success{model="llm",version="1"} 3000
nv_inference_request_failure{model="llm",reason="OTHER",version="1"} 4
nv_inference_request_duration_us{model="llm",version="1"} 840000
nv_inference_queue_duration_us{model="llm",version="1"} 3000000
nv_inference_pending_request_count{model="llm",version="1"} 0
"""


def test_what_tritons_backend_reports_itself_comes_first() -> None:
    """Triton counts a decoupled request as done once it is handed over."""
    page = (
        TRITON
        + """\
vllm:e2e_request_latency_seconds_sum{model="llm",version="1"} 9000
vllm:e2e_request_latency_seconds_count{model="llm",version="1"} 3000
vllm:num_requests_running{model="llm",version="1"} 40
vllm:num_requests_waiting{model="llm",version="1"} 12
vllm:generation_tokens_total{model="llm",version="1"} 5000
"""
    )
    signals = read(page, Engine.TRITON).signals

    assert (40, 12, 9000, 3000) == (
        signals[Signal.RUNNING], signals[Signal.WAITING],
        signals[Signal.LATENCY_SUM], signals[Signal.LATENCY_COUNT],
    )  # fmt: skip
    assert (3000, 4, 5000) == (
        signals[Signal.COMPLETED], signals[Signal.FAILED], signals[Signal.OUTPUT_TOKENS]
    )  # fmt: skip


def test_triton_alone_is_read_as_before() -> None:
    """Without a backend's families its own are all there is."""
    signals = read(TRITON, Engine.TRITON).signals

    assert (0.84, 3000, 0) == (
        signals[Signal.LATENCY_SUM], signals[Signal.COMPLETED], signals[Signal.WAITING]
    )  # fmt: skip


TRTLLM = """\
trtllm_num_requests_running{model_name="m"} 5
trtllm_num_requests_waiting{model_name="m"} 2
trtllm_max_num_active_requests{model_name="m"} 48
trtllm_kv_cache_utilization{model_name="m"} 0.3
trtllm_request_success_total{finished_reason="stop",model_name="m"} 10
trtllm_request_error_total{model_name="m"} 3
trtllm_prompt_tokens_total{model_name="m"} 900
trtllm_generation_tokens_total{model_name="m"} 450
"""
NIM = """\
num_requests_running{model_name="m"} 5
num_requests_waiting{model_name="m"} 2
num_request_max{model_name="m"} 48
gpu_cache_usage_perc{model_name="m"} 0.3
request_finish_total{finished_reason="stop",model_name="m"} 6
request_finish_total{finished_reason="length",model_name="m"} 4
request_finish_total{finished_reason="error",model_name="m"} 3
prompt_tokens_total{model_name="m"} 900
generation_tokens_total{model_name="m"} 450
"""


@pytest.mark.parametrize("page", [pytest.param(TRTLLM, id="trtllm"), pytest.param(NIM, id="nim")])
def test_tokens_errors_and_slots_of_tensorrt_llm_are_read(page: str) -> None:
    """Under today's names and NIM's bare ones."""
    assert {
        Signal.RUNNING: 5, Signal.WAITING: 2, Signal.SLOTS: 48, Signal.KV_USE: 0.3,
        Signal.COMPLETED: 10, Signal.FAILED: 3,
        Signal.PROMPT_TOKENS: 900, Signal.OUTPUT_TOKENS: 450,
    } == read(page, Engine.TRTLLM).signals  # fmt: skip


def dcgm(*rows: str) -> str:
    """Write a row of power, use, and memory for each of *rows* of labels."""
    return "".join(
        f"DCGM_FI_DEV_POWER_USAGE{{{row}}} 70\n"
        f"DCGM_FI_DEV_GPU_UTIL{{{row}}} 80\n"
        f"DCGM_FI_DEV_FB_USED{{{row}}} {9000 + 1000 * n}\nDCGM_FI_DEV_FB_FREE{{{row}}} 3000\n"
        for n, row in enumerate(rows)
    )


@pytest.mark.parametrize(
    ("page", "watts"),
    [
        pytest.param(
            dcgm(*(f'gpu="0",UUID="GPU-1",vgpu="{n}",pod="p{n}"' for n in range(4))), 70,
            id="pods that share a GPU in turns",
        ),
        pytest.param(
            dcgm(*(f'GPU_I_ID="{n}",GPU_I_PROFILE="1g.10gb",UUID="GPU-1",gpu="0"'
                   for n in range(4))), 70,
            id="slices of a GPU",
        ),
        pytest.param(dcgm(*(f'gpu="{n}",UUID="GPU-{n}"' for n in range(4))), 280, id="four GPUs"),
        pytest.param(dcgm(*(f'gpu="{n}"' for n in range(4))), 280, id="GPUs without a UUID"),
        pytest.param(
            dcgm(*(f'gpu="0",Hostname="h{n}"' for n in range(4))), 280, id="one GPU of each machine"
        ),
    ],
)  # fmt: skip
def test_power_counts_once_for_each_gpu_and_the_fullest_slice_for_memory(
    page: str, watts: float
) -> None:
    """What is shared is reported by each who shares it."""
    signals = read("x 1\n" + page, Engine.GENERIC).signals

    assert (watts, 0.8) == (signals[Signal.POWER], signals[Signal.UTILISATION])
    # Shared memory is repeated, each row a little later; the fullest counts.
    assert pytest.approx(12 / 15) == signals[Signal.MEMORY]


LATE = """\
vllm:num_requests_running{model_name="m"} 0
vllm:num_requests_waiting{model_name="m"} 0
vllm:kv_cache_usage_perc{model_name="m"} 0
"""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("", id="an empty page"),
        pytest.param("\n# EOF\n", id="nothing but its end"),
        pytest.param("# HELP a b\n# TYPE a gauge\n", id="nothing but comments"),
        pytest.param("python_info 1\nprocess_cpu_seconds_total 3\n", id="only its process"),
        pytest.param('vllm:lora_requests_info{max_lora="2"} 1.7e9\n', id="only what it has loaded"),
        pytest.param("vllm:num_preemptions_total 0\n", id="only a counter that never counted"),
        pytest.param(LATE, id="gauges, and no counter yet"),
    ],
)
def test_nothing_is_missing_before_the_first_request(page: str) -> None:
    """Some engines create each series with the first request that it counts."""
    report = read(page)

    assert ((), (), True) == (report.missing, report.refused, report.ready)


def test_a_page_in_use_without_any_known_name_is_loud() -> None:
    """A rename shows where something counts."""
    assert Signal.RUNNING in read('vllm:renamed_total{model_name="m"} 5\n').missing


def test_a_simulators_reasons_of_an_end_are_read() -> None:
    """The label has two names in the field."""
    signals = read(
        LATE
        + 'vllm:request_success_total{finish_reason="stop"} 4\n'
        + 'vllm:request_success_total{finish_reason="error"} 1\n'
    ).signals

    assert (4, 1) == (signals[Signal.COMPLETED], signals[Signal.FAILED])


def ray(replica: str, running: int, done: int, total: str = "_total") -> str:
    """Write the rows of one replica of Ray Serve."""
    labels = f'{{ReplicaId="{replica}",WorkerId="w{replica}",model_name="m"}}'
    return (
        f"ray_vllm_num_requests_running{labels} {running}\n"
        f"ray_vllm_num_requests_waiting{labels} 1\n"
        f"ray_vllm_kv_cache_usage_perc{labels} 0.{running}\n"
        f"ray_vllm_request_success{total}{labels} {done}\n"
    )


@pytest.mark.parametrize("total", ["_total", ""])
def test_ray_serve_writes_its_own_prefix(total: str) -> None:
    """All replicas of a node are on one page; a filter names one."""
    page = ray("x1", 2, 10, total) + ray("x2", 5, 30, total)

    assert (7, 2, 0.5) == load(read(page))
    assert (2, 1, 0.2) == load(read(page, labels={"ReplicaId": "x1"}))
    assert (5, 1, 0.5) == load(read(page, labels={"ReplicaId": "*2", "WorkerId": "wx2"}))
    assert 30 == read(page, labels={"ReplicaId": "x2"}).signals[Signal.COMPLETED]
    assert (None, None, None) == load(read(page, labels={"ReplicaId": "gone"}))


HANDLERS = """\
http_requests_total{{{label}="/v1/chat/completions",method="POST",status="2xx"}} 50
http_requests_total{{{label}="{own}",method="GET",status="2xx"}} 950
http_request_duration_seconds_sum{{{label}="/v1/chat/completions",method="POST"}} 100
http_request_duration_seconds_count{{{label}="/v1/chat/completions",method="POST"}} 50
http_request_duration_seconds_sum{{{label}="{own}",method="GET"}} 1
http_request_duration_seconds_count{{{label}="{own}",method="GET"}} 950
http_requests_inprogress 1
"""


@pytest.mark.parametrize("label", ["handler", "path", "route", "endpoint", "uri", "http_route"])
@pytest.mark.parametrize(
    "own",
    ["/metrics", "/health", "/healthz", "/health/", "/v1/health/ready", "/v2/health/live", "/ping",
     "/ready", "/livez", "/docs", "/openapi.json", "/prometheus/metrics", "/health_check", "none",
     "/favicon.ico", "http://10.0.0.1:8000/metrics?x=1"],
)  # fmt: skip
def test_scrapes_and_health_checks_are_no_requests(label: str, own: str) -> None:
    """They are fast and many, and would make the instance look so."""
    report = read(HANDLERS.format(label=label, own=own), Engine.GENERIC)

    assert (50, 100, 50) == tuple(
        report.signals[each]
        for each in (Signal.COMPLETED, Signal.LATENCY_SUM, Signal.LATENCY_COUNT)
    )
    assert any(own in line for line in report.ignored)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/generate", "/healthcare/predict", "/metricset", "/", "/v1"]
)
def test_other_paths_are_requests(path: str) -> None:
    """A name that only resembles one counts."""
    report = read(f'http_requests_total{{handler="{path}",status="200"}} 5\n', Engine.GENERIC)

    assert (5, ()) == (report.signals[Signal.COMPLETED], report.ignored)


def test_a_page_of_nothing_but_scrapes_counts_no_request() -> None:
    """An idle server is idle."""
    page = 'http_requests_total{handler="/metrics",status="200"} 9\n'

    assert 0 == read(page, Engine.GENERIC).signals[Signal.COMPLETED]


@pytest.mark.parametrize("label", ["status", "code", "status_code"])
def test_only_what_was_answered_well_is_completed(label: str) -> None:
    """A client's error is neither an answer nor the server's failure."""
    page = "".join(
        f'http_requests_total{{{label}="{code}"}} {count}\n'
        for code, count in {"200": 5, "204": 1, "404": 40, "422": 7, "500": 2, "503": 1}.items()
    )
    signals = read(page, Engine.GENERIC).signals

    assert (6, 3) == (signals[Signal.COMPLETED], signals[Signal.FAILED])


def test_a_series_that_comes_again_is_read_once() -> None:
    """Equal values are one; of different ones the first counts, and it is said."""
    row = 'vllm:num_requests_running{model_name="m",engine="0"} '
    swapped = 'vllm:num_requests_running{engine="0",model_name="m"} '
    equal = read(f"{LATE}{row}4\n{row}4.0\n{swapped}4\n")
    other = read(f"{row}4\n{swapped}9\n{row}8\n")

    assert (4, ()) == (equal.signals[Signal.RUNNING], equal.ignored)
    assert 4 == other.signals[Signal.RUNNING]
    assert "repeats a series that was 4" in other.ignored[0]


WALL = 1_764_000_000.0


def stamped(*ages: float | None, unit: float = 1000.0) -> str:
    """Write running and waiting with timestamps."""
    names = ("vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc")
    return "".join(
        f"{name} 0.5"
        + ("" if age is None else f" {(WALL - age) * unit:.3f}".rstrip("0").rstrip("."))
        + "\n"
        for name, age in zip(names, ages, strict=True)
    )


@pytest.mark.parametrize("unit", [1.0, 1000.0])
@pytest.mark.parametrize(
    ("ages", "at", "read_signals"),
    [
        pytest.param((20, 21, 22), 980.0, 3, id="a relay's are as old as they say"),
        pytest.param((-60, -60, -60), 1000.0, 3, id="a clock ahead of ours makes nothing newer"),
        pytest.param((None, None, None), 1000.0, 3, id="without timestamps it is of now"),
        pytest.param((None, 3, None), 1000.0, 3, id="a little apart is one page"),
        pytest.param((None, 3e7, None), 1000.0, 2, id="one of last year is left out"),
        pytest.param((5, 100, 6), 995.0, 2, id="one that is no longer relayed is left out"),
    ],
)
def test_a_page_is_as_old_as_it_says(
    ages: tuple[float | None, ...], at: float, read_signals: int, unit: float
) -> None:
    """In milliseconds or seconds, as the two formats have it."""
    report = read(stamped(*ages, unit=unit), wall=WALL)

    assert pytest.approx(at, abs=0.01) == report.at
    assert read_signals == len(report.signals)
    assert (read_signals < 3) == bool(report.ignored)


def test_a_page_of_last_year_is_refused_with_its_age() -> None:
    """A relay that lost its source goes on serving what it had."""
    with pytest.raises(ReportError, match="samples are 31536000 s old by their own timestamps"):
        read(stamped(31_536_000, 31_536_000, 31_536_100), wall=WALL)


def test_without_a_clock_timestamps_say_nothing() -> None:
    """A file that is checked is read as of now."""
    assert 1000.0 == read(stamped(3e7, 3e7, 3e7)).at


EPP = """\
llm_d_epp_average_running_requests{name="p"} 3
llm_d_epp_average_queue_size{name="p"} 2
llm_d_epp_average_kv_cache_utilization{name="p"} 0.4
llm_d_epp_ready_endpoints{name="p"} 4
llm_d_epp_request_total{model_name="m"} 100
llm_d_epp_request_error_total{model_name="m",error_code="Internal"} 7
llm_d_epp_request_duration_seconds_sum{model_name="m"} 180
llm_d_epp_request_duration_seconds_count{model_name="m"} 90
llm_d_epp_request_ttft_seconds_sum{model_name="m"} 9
llm_d_epp_request_ttft_seconds_count{model_name="m"} 90
llm_d_epp_request_running{model_name="m"} 11
llm_d_epp_flow_control_queue_size{fairness_id="f",priority="0"} 5
"""


def test_an_endpoint_pickers_own_requests_are_read() -> None:
    """A pool is one instance: what the picker holds back waits there."""
    signals = read(EPP, Engine.EPP).signals
    bare = read(re.sub("llm_d_epp_average.*\n", "", EPP), Engine.EPP).signals

    assert (12, 13, 0.4) == load(read(EPP, Engine.EPP))
    assert (90, 7, 180, 90, 9) == tuple(
        signals[each]
        for each in (Signal.COMPLETED, Signal.FAILED, Signal.LATENCY_SUM, Signal.LATENCY_COUNT,
                     Signal.TTFT_SUM)
    )  # fmt: skip
    assert (11, 5) == (bare[Signal.RUNNING], bare[Signal.WAITING])


OTHERS = {
    "lmdeploy": (
        """\
lmdeploy:num_requests_running{model_name="m",engine="0"} 4
lmdeploy:num_requests_waiting{model_name="m",engine="0"} 3
lmdeploy:gpu_cache_usage_perc{model_name="m",engine="0"} 0.6
lmdeploy:prompt_tokens_total{model_name="m",engine="0"} 70
lmdeploy:generation_tokens_total{model_name="m",engine="0"} 80
lmdeploy:e2e_request_latency_seconds_sum{model_name="m",engine="0"} 18
lmdeploy:e2e_request_latency_seconds_count{model_name="m",engine="0"} 9
""",
        {Signal.RUNNING: 4, Signal.WAITING: 3, Signal.KV_USE: 0.6, Signal.COMPLETED: 9,
         Signal.LATENCY_SUM: 18, Signal.LATENCY_COUNT: 9, Signal.PROMPT_TOKENS: 70,
         Signal.OUTPUT_TOKENS: 80},
    ),
    "dynamo": (
        """\
dynamo_frontend_inflight_requests{model="m"} 12
dynamo_frontend_queued_requests{model="m"} 3
dynamo_frontend_requests_total{model="m",status="success"} 90
dynamo_frontend_requests_total{model="m",status="error"} 2
dynamo_frontend_request_duration_seconds_sum{model="m"} 180
dynamo_frontend_request_duration_seconds_count{model="m"} 92
dynamo_frontend_time_to_first_token_seconds_sum{model="m"} 9
dynamo_frontend_time_to_first_token_seconds_count{model="m"} 92
""",
        {Signal.RUNNING: 9, Signal.WAITING: 3, Signal.COMPLETED: 90, Signal.FAILED: 2,
         Signal.LATENCY_SUM: 180, Signal.LATENCY_COUNT: 92, Signal.TTFT_SUM: 9,
         Signal.TTFT_COUNT: 92},
    ),
    "tei": (
        """\
te_queue_size 4
te_request_success{method="single"} 30
te_request_success{method="batch"} 10
te_request_failure{err="overloaded"} 2
te_request_duration_sum 8
te_request_duration_count 40
te_request_queue_duration_sum 1
te_request_queue_duration_count 40
""",
        {Signal.WAITING: 4, Signal.COMPLETED: 40, Signal.FAILED: 2, Signal.LATENCY_SUM: 8,
         Signal.LATENCY_COUNT: 40, Signal.QUEUE_SUM: 1, Signal.QUEUE_COUNT: 40},
    ),
}  # fmt: skip


@pytest.mark.parametrize("engine", sorted(OTHERS))
def test_further_engines_are_read(engine: str) -> None:
    """Each has a table of its own."""
    page, signals = OTHERS[engine]

    assert signals == read(page, Engine(engine)).signals


def test_lmdeploy_may_write_vllms_names() -> None:
    """Both are read, its own first."""
    page = LATE.replace("running{", 'running{engine="0",').replace("} 0", "} 0.5")

    assert (0.5, 0.5, 0.5) == load(read(page, Engine.LMDEPLOY))


LABELS = st.dictionaries(
    st.sampled_from(["tp_rank", "pp_rank", "dp_rank", "priority", "model_name", "handler", "x"]),
    st.sampled_from(["", "0", "1", "2", "/metrics"]),
    max_size=4,
)


@given(st.lists(st.tuples(LABELS, st.integers(0, 50)), min_size=1, max_size=12))
def test_the_order_of_rows_changes_nothing(rows: list[tuple[dict[str, str], int]]) -> None:
    """Exporters write them as they please."""
    once = {frozenset(labels.items()): (labels, value) for labels, value in rows}
    lines = [
        "vllm:num_requests_running{"
        + ",".join(f'{key}="{label}"' for key, label in labels.items())
        + f"}} {value}"
        for labels, value in once.values()
    ]

    assert load(read("\n".join(lines)))[0] == load(read("\n".join(lines[::-1])))[0]
