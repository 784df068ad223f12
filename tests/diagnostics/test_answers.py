"""An instance that answers far faster than all others is conspicuous, and no more than that."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.diagnostics.answers import TIMES_FASTER, examine_answers


def traffic(instance: str, latency: float | None, **fields: Any) -> dict[str, Any]:
    """Return one row of what Envoys see, as ``/api/v1/fleet`` has it."""
    reading = None if latency is None else {"value": latency, "source": "envoy", "age": 1.0}
    rate = {"value": fields.pop("rate", 10.0), "source": "envoy", "age": 1.0}
    return {"from": "north", "service": "chat", "instance": instance, "rate": rate,
            "latency": reading} | fields  # fmt: skip


def test_errors_that_are_answered_with_200_are_hinted_at() -> None:
    """As measured before Envoys: all requests went to a, whose engine had none of them."""
    (finding,) = examine_answers(
        {"traffic": [traffic("b", 0.104, rate=0.04), traffic("a", 0.0013, rate=20.0)]}
    )

    assert "warning" == finding.level
    assert "a answers chat in 1.3 ms, where all others need 104 ms or more" == finding.what
    assert "body of one of its answers" in finding.remedy


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([], id="no traffic"),
        pytest.param([traffic("a", 0.001)], id="one that cannot be compared"),
        pytest.param([traffic("a", 0.001), traffic("b", None)], id="of one nothing is known"),
        pytest.param(
            [traffic("a", 0.1), traffic("b", 0.1 * TIMES_FASTER * 0.9)], id="a faster machine"
        ),
        pytest.param(
            [traffic("a", 0.001), traffic("b", 0.002), traffic("c", 5.0)], id="one that is slow"
        ),
        pytest.param([traffic("a", 0.001, rate=0.01), traffic("b", 0.1)], id="one answer"),
        pytest.param(
            [traffic("a", 0.001), traffic("b", 0.1, service="paint")], id="of another service"
        ),
        pytest.param([traffic("a", 0.0), traffic("b", 0.1)], id="nothing measured"),
    ],
)
def test_what_differs_for_other_reasons_is_no_finding(rows: list[dict[str, Any]]) -> None:
    """Machines, queues and single answers differ too."""
    assert [] == [*examine_answers({"traffic": rows})]
    assert [] == [*examine_answers({})]


def test_client_sites_are_weighed_by_their_requests() -> None:
    """A far site's few requests do not hide what the near ones' show."""
    rows = [
        traffic("a", 0.001, rate=99.0), traffic("a", 0.2, rate=1.0, **{"from": "far"}),
        traffic("b", 0.1), traffic("b", 0.3, rate=0.0, **{"from": "far"}),
    ]  # fmt: skip

    (finding,) = examine_answers({"traffic": rows})

    assert "a answers chat in 3.0 ms" in finding.what
