"""YAML text to plain values and places."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.config import source
from controlplane.config.document import Mark, dotted, one_line
from controlplane.config.source import parse_source
from controlplane.config.yaml_nodes import resolve
from controlplane.errors import ConfigError


def refusal(text: str) -> str:
    """Return the one fault that keeps *text* from being read."""
    with pytest.raises(ConfigError) as caught:
        parse_source(text, file="f")
    (fault,) = caught.value.faults
    return str(fault)


def test_values_and_keys_have_their_places() -> None:
    """Each value is found at its own line and column, each key at its."""
    document = parse_source("a:\n  - {b: 1}\n  - 'ü': {c: x}\n", file="f")

    assert {"a": [{"b": 1}, {"ü": {"c": "x"}}]} == document.tree
    assert Mark(1, 1) == document.keys["a",]
    assert Mark(2, 6) == document.keys["a", 0, "b"]
    assert Mark(2, 9) == document.values["a", 0, "b"]
    assert Mark(3, 14) == document.values["a", 1, "ü", "c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("on", "on", id="on is no boolean"),
        pytest.param("no", "no", id="no is no boolean"),
        pytest.param("y", "y", id="y is no boolean"),
        pytest.param("1:30", "1:30", id="no base 60"),
        pytest.param("2026-01-01", "2026-01-01", id="no date"),
        pytest.param("1_000", "1_000", id="no underscores"),
        pytest.param("010", 10, id="no octal by a zero"),
        pytest.param("0o10", 8, id="octal"),
        pytest.param("0x1F", 31, id="hexadecimal"),
        pytest.param("-3", -3, id="negative"),
        pytest.param("1e3", 1000.0, id="exponent without a point"),
        pytest.param(".5", 0.5, id="point first"),
        pytest.param("-.inf", -math.inf, id="infinity"),
        pytest.param("True", True, id="true"),
        pytest.param("false", False, id="false"),
        pytest.param("~", None, id="null"),
        pytest.param("9" * 40, 1e40, id="a number beyond 64 bits"),
    ],
)
def test_plain_scalars_mean_what_yaml_1_2_says(text: str, expected: object) -> None:
    """The traps of YAML 1.1 stay text."""
    actual = resolve(text)

    assert expected == actual
    assert type(expected) is type(actual)


def test_quotes_keep_text() -> None:
    """What stands in quotes is text, whatever it looks like; so is ``!!str``."""
    document = parse_source("a: '1'\nb: \"true\"\nc: !!str 5\nd: |\n  7\n", file="f")

    assert {"a": "1", "b": "true", "c": "5", "d": "7\n"} == document.tree


def test_keys_are_text() -> None:
    """``on`` and ``1`` are keys as they are written."""
    assert {"on": 1, "1": 2, "null": 3} == parse_source("on: 1\n1: 2\nnull: 3", file="f").tree


def test_aliases_and_merge_keys_work() -> None:
    """Repeated parts can be written once; what a mapping says itself goes first."""
    text = "base: &b {x: 1, y: 2}\nuse: *b\nmore: {<<: *b, y: 3}\nlist: {<<: [{z: 1}, *b]}\n"

    assert {
        "base": {"x": 1, "y": 2},
        "use": {"x": 1, "y": 2},
        "more": {"x": 1, "y": 3},
        "list": {"x": 1, "y": 2, "z": 1},
    } == parse_source(text, file="f").tree


def test_an_alias_has_the_place_where_its_value_is_written() -> None:
    """A fault in repeated text points to the text."""
    document = parse_source("a: &x\n  b: 1\nc: *x\n", file="f")

    assert Mark(2, 6) == document.values["c", "b"]


def test_a_byte_order_mark_is_no_character() -> None:
    """Files from editors that write one are read."""
    assert {"a": 1} == parse_source("\ufeffa: 1", file="f").tree


BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", "f:1:1: empty; a configuration starts with version: 1", id="empty"),
        pytest.param("# x\n", "f:1:1: empty; a configuration starts with version: 1", id="comment"),
        pytest.param("\n- a", "f:2:1: must be a mapping of keys to values", id="a list"),
        pytest.param("x", "f:1:1: must be a mapping of keys to values", id="text"),
        pytest.param("a: &a [*a]", "f:1:4: contains an alias of itself", id="endless alias"),
        pytest.param(BOMB, "its aliases multiply to over 2,000,000 values", id="alias bomb"),
        pytest.param("[" * 500, "f:1:65: nested deeper than 64 levels", id="deep"),
        pytest.param("[" * 10**6, ": nested deeper than 64 levels", id="deeper than is read"),
        pytest.param("a: &a [[*b]]", "alias *b has no anchor &b above it", id="no anchor"),
        pytest.param("a: b\x00", "f:1:5: character U+0000 is not allowed", id="control character"),
        pytest.param("a: \ud800", "f:1:4: character U+D800 is not allowed", id="half a character"),
        pytest.param("a: b: c", "put text that holds ': ' in quotes", id="colon"),
        pytest.param("a: @b", "put text that starts with this character in quotes", id="at sign"),
        pytest.param("a:\n\t- b", "f:2:1: not YAML", id="tab"),
        pytest.param("a: 'b", "f:1:6: not YAML", id="open quote"),
        pytest.param("a: 1\n---\nb: 2", "f:3:1: a second document begins", id="two documents"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_at_its_place(text: str, expected: str) -> None:
    """The one fault says where reading ended and why."""
    assert expected in refusal(text)


def test_aliases_that_nest_too_deep_are_refused() -> None:
    """Depth counts after aliases are followed."""
    text = "a0: &a0 " + "[" * 40 + "]" * 40 + "\na1: " + "[" * 40 + "*a0" + "]" * 40

    assert "nested deeper than 64 levels" in refusal(text)


def test_a_document_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was meant to be something else is not read at all."""
    monkeypatch.setattr(source, "MAX_BYTES", 10)

    assert "longer than" in refusal("a: 'äääää'")


def test_a_dotted_path_distinguishes_odd_keys() -> None:
    """Keys with dots or spaces stand in brackets and quotes."""
    assert 'a[0]["b.c"].d' == dotted(("a", 0, "b.c", "d"))
    assert '["a b"]' == dotted(("a b",))


@given(st.text())
def test_one_line_is_one_printable_line(text: str) -> None:
    """Nothing from a file can move a terminal's cursor or break a line."""
    assert one_line(text).isprintable()


@given(st.text(alphabet=" \t\n-:,[]{}&*!|>'\"%@`#?<~ab01.", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Reading raises nothing but `ConfigError`, and places lie within the text."""
    try:
        document = parse_source(text, file="f")
    except ConfigError as error:
        faults = error.faults
    else:
        faults = document.faults
    lines = text.count("\n") + 1
    assert all(1 <= fault.line <= lines + 1 and fault.column >= 1 for fault in faults)
