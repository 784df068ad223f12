"""When a leader that hears no instance, or no Kubernetes API, gives the lead up."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.config import BusTls
from controlplane.controller.discovery_status import RuleStatus
from controlplane.controller.replication import (
    BLIND_AFTER,
    Blindness,
    Deafness,
    build_context,
)
from controlplane.errors import StartError
from testbed.fakes.certificates import Authority


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


def test_the_bus_is_spoken_to_with_the_certificate_and_its_key(tmp_path: Path) -> None:
    """They are read when it starts; a key of another certificate is an error."""
    authority = Authority(tmp_path)
    pair, other = authority.issue("127.0.0.1"), authority.issue("127.0.0.1")
    build_context(BusTls(ca=str(authority.ca), cert=str(pair.cert), key=str(pair.key)))

    with pytest.raises(StartError, match="use PEM files, and the private key of that certificate"):
        build_context(BusTls(ca=str(authority.ca), cert=str(pair.cert), key=str(other.key)))


def rules(*reasons: str) -> tuple[RuleStatus, ...]:
    """Return rules of discovery, each with why its API does not answer."""
    return tuple(
        RuleStatus(str(number), "pods", listed=True, age=1.0, reason=reason)
        for number, reason in enumerate(reasons)
    )


LATER = BLIND_AFTER + 1


@pytest.mark.parametrize(
    ("seen", "is_due"),
    [
        pytest.param([(0, rules("away")), (LATER, rules("away"))], True, id="away"),
        pytest.param([(0, rules("away")), (5, rules("away"))], False, id="away for a moment"),
        pytest.param([(0, rules("away")), (LATER, rules(""))], False, id="is back"),
        pytest.param(
            [(0, rules("away", "away")), (LATER, rules("away", "denies"))], True, id="all clusters"
        ),
        pytest.param(
            [(0, rules("away", "")), (LATER, rules("away", ""))], False, id="one cluster of two"
        ),
        pytest.param([(0, ()), (LATER, ())], False, id="no discovery"),
    ],
)
def test_a_leader_is_blind_when_no_cluster_answers(
    seen: list[tuple[float, tuple[RuleStatus, ...]]], is_due: bool
) -> None:
    """One cluster that answers is worth more than a change of leaders."""
    blindness = Blindness()
    due = [blindness.is_due(status, leads=True, now=at) for at, status in seen]

    assert is_due == due[-1]


def test_the_lead_is_given_up_once_in_an_outage() -> None:
    """Where no replica has an answer, the lead does not go round and round."""
    blindness = Blindness()
    due = []
    for at, reason in (
        (0, "away"),
        (20, "away"),
        (90, "away"),
        (91, ""),
        (92, "away"),
        (120, "away"),
    ):
        due.append(blindness.is_due(rules(reason), leads=True, now=float(at)))
        if due[-1]:
            blindness.note_resigned()

    assert [False, True, False, False, False, True] == due
