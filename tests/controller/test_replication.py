"""When a leader that hears no instance gives the lead up."""

from __future__ import annotations

import pytest

from controlplane.controller.replication import Deafness


@pytest.mark.parametrize(
    ("seen", "seconds"),
    [
        pytest.param([(0, "lead silent"), (4, "lead silent"), (9, "lead silent")], 9, id="deaf"),
        pytest.param([(0, "silent"), (30, "silent"), (31, "lead silent")], 0, id="has just begun"),
        pytest.param([(0, "lead silent"), (9, "lead")], 0, id="hears"),
        pytest.param([(0, "lead silent"), (8, "lead"), (9, "lead silent")], 0, id="heard again"),
        pytest.param([(0, "lead silent"), (8, "silent"), (9, "lead silent")], 0, id="leads again"),
    ],
)
def test_deafness_counts_from_when_a_replica_leads(
    seen: list[tuple[int, str]], seconds: int
) -> None:
    """What is silent when the lead is taken was not read by the last leader."""
    deafness = Deafness()
    for at, what in seen:
        deaf_for = deafness.observe(leads="lead" in what, silent="silent" in what, now=float(at))

    assert seconds == deaf_for
