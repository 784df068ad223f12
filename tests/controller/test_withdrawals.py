"""What went while a decision was under way is left out of the plan that it comes to."""

from __future__ import annotations

from controlplane.controller.withdrawals import Withdrawals

A, B, C = (frozenset({("chat", name)}) for name in "abc")


def test_what_went_before_a_decision_is_known_to_it() -> None:
    """It stays out of the plan in service until the decision is served."""
    went = Withdrawals()
    went.note(A)
    assert (A, A) == (went.from_served, went.from_next)
    went.begin_decision()
    assert (A, frozenset()) == (went.from_served, went.from_next)
    went.end_decision()
    assert not went.from_served


def test_what_goes_during_a_decision_stays_out_until_the_next_one_is_served() -> None:
    """The older decision sends it requests, and must not bring it back."""
    went = Withdrawals()
    went.begin_decision()
    went.note(A)
    went.note_known(B)
    assert (A | B, A) == (went.from_served, went.from_next)
    went.end_decision()
    assert (A, A) == (went.from_served, went.from_next)
    went.begin_decision()
    went.note(C)
    went.end_decision()
    assert C == went.from_served


def test_a_decision_without_a_plan_brings_nothing_back() -> None:
    """A follower that has nothing to follow serves its last plan, without what went."""
    went = Withdrawals()
    went.note(A)
    went.begin_decision()
    went.begin_decision()
    assert A == went.from_served


def test_what_another_replicas_plan_does_not_know_yet_stays_out_of_it() -> None:
    """Its leader may hear of it a moment later."""
    went = Withdrawals()
    went.begin_decision()
    went.end_decision(A)
    assert (A, frozenset()) == (went.from_served, went.from_next)
