"""The last plan survives a restart, a crash and a broken file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.config import PolicyName
from controlplane.controller.state_file import StateError, StateFile, decode_state, encode_state
from controlplane.steering.plan import Allocation, Assignment, Plan

PLAN = Plan(
    version="v1",
    at=5.0,
    assignments={
        ("chat", "north"): Assignment(
            service="chat",
            client_site="north",
            policy=PolicyName.OPTIMAL,
            allocations=(
                Allocation(instance="a", site="north", share=0.25, weight=2500),
                Allocation(instance="b", site="cloud", share=0.75, weight=7500),
                Allocation(instance="c", site="north", share=1.0, weight=1, priority=1),
            ),
            demand=3.5,
            note="frozen",
        )
    },
    predicted_cost=1.5,
)


def test_what_is_saved_comes_back_dated_now(tmp_path: Path) -> None:
    """Shares, weights and priorities are those from before; the date is the restart's."""
    file = StateFile(tmp_path / "deep" / "er")
    file.save(PLAN, saved_at=1.7e9)

    state = file.load(now=9.0)

    assert state is not None
    assert PLAN.assignments == state.plan.assignments
    assert (PLAN.version, 9.0, PLAN.predicted_cost) == (
        state.plan.version,
        state.plan.at,
        state.plan.predicted_cost,
    )
    assert 1.7e9 == state.saved_at


def test_no_file_is_no_state(tmp_path: Path) -> None:
    """A first start is not a fault."""
    assert None is StateFile(tmp_path).load(now=0.0)


def damaged(**changes: object) -> bytes:
    """Return a saved plan whose first allocation is *changes*."""
    document = json.loads(encode_state(PLAN, saved_at=0.0))
    document["plan"]["assignments"][0].update(changes)
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(encode_state(PLAN, saved_at=0.0)[:-20], id="cut short"),
        pytest.param(b"[]", id="another document"),
        pytest.param(b'{"format": 99}', id="from the future"),
        pytest.param(b"\xff\xfe", id="not text"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(damaged(to=[["a", "north", 0.5, 0, 0]]), id="weight 0"),
        pytest.param(damaged(to=[["a", "north", 7, 5, 0]]), id="share 7"),
        pytest.param(damaged(policy="magic"), id="unknown policy"),
    ],
)
def test_a_broken_file_is_set_aside_with_a_reason(tmp_path: Path, content: bytes) -> None:
    """It is kept for anyone who wants to look, and does not stop the next start."""
    file = StateFile(tmp_path)
    file.path.write_bytes(content)

    with pytest.raises(StateError, match=r"plan\.json: .*set aside as plan\.unreadable"):
        file.load(now=0.0)

    assert content == (tmp_path / "plan.unreadable").read_bytes()
    assert None is file.load(now=0.0)


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    """A full disk costs the newest plan, never the last good one."""
    file = StateFile(tmp_path)
    file.save(PLAN, saved_at=1.0)
    file.path.with_suffix(".new").mkdir()  # the draft cannot be opened

    with pytest.raises(OSError, match="directory"):
        file.save(PLAN, saved_at=2.0)

    state = file.load(now=0.0)
    assert state is not None
    assert 1.0 == state.saved_at


def test_the_content_is_a_function_of_the_plan() -> None:
    """Equal plans give equal bytes."""
    assert encode_state(PLAN, saved_at=1.0) == encode_state(
        decode_state(encode_state(PLAN, saved_at=2.0), now=5.0).plan, saved_at=1.0
    )
