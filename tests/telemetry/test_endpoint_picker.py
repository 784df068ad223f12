"""A pool behind an endpoint picker, old prefixes included."""

from __future__ import annotations

import pytest

from controlplane.config import Engine
from controlplane.model import Signal
from controlplane.telemetry.engines import parse_metrics, recognise_engine

PAGE = """\
llm_d_epp_average_kv_cache_utilization{name="pool"} 0.25
llm_d_epp_average_queue_size{name="pool"} 1.5
llm_d_epp_average_running_requests{name="pool"} 3
llm_d_epp_ready_endpoints{name="pool"} 4
"""


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(PAGE, id="today"),
        pytest.param(PAGE.replace("llm_d_epp", "llm_d_router_epp"), id="router"),
        pytest.param(
            PAGE.replace("llm_d_epp", "inference_pool").replace("ready_endpoints", "ready_pods"),
            id="inference_pool",
        ),
    ],
)
def test_averages_times_endpoints_are_what_the_pool_holds(page: str) -> None:
    """A site fronted by a picker is one instance here."""
    report = parse_metrics(page, engine=Engine.EPP, instance="pool", at=1.0)

    assert {Signal.RUNNING: 12.0, Signal.WAITING: 6.0, Signal.KV_USE: 0.25} == report.signals
    assert report.ready
    assert () == report.missing


def test_a_pool_without_ready_endpoints_gets_nothing() -> None:
    """And says why."""
    page = PAGE.replace('ready_endpoints{name="pool"} 4', 'ready_endpoints{name="pool"} 0')

    report = parse_metrics(page, engine=Engine.EPP, instance="pool", at=1.0)

    assert (False, "its pool has no ready endpoint") == (report.ready, report.not_ready_reason)


def test_an_average_without_its_number_of_endpoints_is_missing() -> None:
    """Half a product is no load."""
    page = "\n".join(line for line in PAGE.splitlines() if "ready" not in line) + "\n"

    report = parse_metrics(page, engine=Engine.EPP, instance="pool", at=1.0)

    assert (Signal.RUNNING, Signal.WAITING) == report.missing


def test_an_endpoint_picker_is_recognised() -> None:
    """By its names, as the agent's discovery does."""
    assert Engine.EPP is recognise_engine(PAGE)
    assert recognise_engine("node_load1 1\n") is None
