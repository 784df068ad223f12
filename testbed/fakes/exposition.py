"""What an emulated instance says of itself: vLLM's metrics, in Prometheus's text form.

Names, labels and buckets are those of vLLM's ``v1/metrics/loggers.py``; a counter carries the
``_total`` that the Prometheus client adds.
A training job is no business of vLLM's, so its share has a name of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from testbed.fakes.engine import BatchingEngine, Histogram


def build_exposition(engine: BatchingEngine, *, model: str) -> str:
    """Write the metrics page of one engine."""
    labels = f'engine="0",model_name="{model}"'
    lines: list[str] = []

    def scalar(name: str, kind: str, text: str, value: float, more: str = "") -> None:
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} {kind}")
        lines.append(f"{name}{{{more}{labels}}} {float(value)}")

    def histogram(name: str, text: str, seconds: Histogram) -> None:
        lines.append(f"# HELP {name} {text}")
        lines.append(f"# TYPE {name} histogram")
        counts = seconds.cumulative()
        for bound, count in zip(seconds.bounds, counts, strict=False):
            lines.append(f'{name}_bucket{{{labels},le="{bound}"}} {float(count)}')
        lines.append(f'{name}_bucket{{{labels},le="+Inf"}} {float(counts[-1])}')
        lines.append(f"{name}_count{{{labels}}} {float(counts[-1])}")
        lines.append(f"{name}_sum{{{labels}}} {seconds.total}")

    for name, kind, text, value in _scalars(engine):
        scalar(name, kind, text, value)
    scalar("vllm:request_success_total", "counter", "Count of successfully processed requests.",
           engine.completed, 'finished_reason="length",')  # fmt: skip
    for name, text, seconds in (
        ("time_to_first_token", "Histogram of time to first token in seconds.", engine.ttft),
        ("e2e_request_latency", "Histogram of e2e request latency in seconds.", engine.latency),
        ("request_queue_time", "Histogram of time spent in WAITING phase for request.",
         engine.queueing),
    ):  # fmt: skip
        histogram(f"vllm:{name}_seconds", text, seconds)
    return "\n".join(lines) + "\n"


def _scalars(engine: BatchingEngine) -> Iterator[tuple[str, str, str, float]]:
    """Yield name, type, text and value of what has one value."""
    gauge, counter = "gauge", "counter"
    yield ("vllm:num_requests_running", gauge,
           "Number of requests in model execution batches.", engine.running)  # fmt: skip
    yield ("vllm:num_requests_waiting", gauge,
           "Number of requests waiting to be processed.", engine.waiting)  # fmt: skip
    yield ("vllm:kv_cache_usage_perc", gauge,
           "KV-cache usage. 1 means 100 percent usage.", engine.kv_use)  # fmt: skip
    yield ("vllm:prompt_tokens_total", counter,
           "Number of prefill tokens processed.", engine.prompt_tokens)  # fmt: skip
    yield ("vllm:generation_tokens_total", counter,
           "Number of generation tokens processed.", engine.output_tokens)  # fmt: skip
    yield ("cats_training", gauge,
           "Share of the machine that a training job takes.", engine.training)  # fmt: skip
