"""What an Envoy refused together with others is taken apart."""

from __future__ import annotations

import pytest

from tests.xds.script import MODES, Script


@pytest.mark.parametrize("delta", MODES)
def test_refused_company_is_taken_apart_after_the_next_change(delta: bool) -> None:
    """The bad one is found by going alone; the others are not kept back."""
    script = Script("E:a1,b1,c1", delta=delta)
    script.ask("E", "abc")
    script.settle()
    script.publish("E:a2,b2,c1")
    assert "E:a,b" == script.sent()
    script.answer("E", refuse="b is bad")
    assert "" == script.sent()
    script.publish("E:a2,b2,c2")
    seen = []
    while sent := script.sent():
        seen.append(sent)
        script.answer("E", refuse="bad" if sent == "E:b" else "")

    assert ["E:c", "E:a", "E:b"] == seen
    script.publish("E:a3,b3,c3")
    assert "E:a,c" == script.sent()
    script.answer("E")
    assert "E:b" == script.sent()


@pytest.mark.parametrize("delta", MODES)
def test_refused_company_is_taken_apart_without_a_change_when_asked(delta: bool) -> None:
    """Each goes once more, alone, and then there is silence."""
    script = Script("E:a1,b1", delta=delta)
    script.ask("E", "ab")
    script.sent()
    script.answer("E", refuse="bad")
    assert script.stream.has_suspects
    script.stream.isolate()
    for name in "ab":
        assert f"E:{name}" == script.sent()
        script.answer("E", refuse="bad")
    script.stream.isolate()

    assert not script.stream.has_suspects
    assert "" == script.sent()
