"""Prometheus text is read, or refused by our own error."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from controlplane.errors import ReportError
from controlplane.telemetry import exposition
from controlplane.telemetry.exposition import Sample, decode_exposition, parse_exposition

NAMES = frozenset({"a", "vllm:b", "c_total", "d_sum", "d_count"})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param("a 1", Sample({}, 1.0), id="bare"),
        pytest.param("a\t1", Sample({}, 1.0), id="tab"),
        pytest.param("a {} 1", Sample({}, 1.0), id="blank_before_braces"),
        pytest.param("a{}1", Sample({}, 1.0), id="no_blank"),
        pytest.param("a 1 1700000000000", Sample({}, 1.0, 1700000000.0), id="timestamp"),
        pytest.param("a 1 1700000000.5", Sample({}, 1.0, 1700000000.5), id="openmetrics_timestamp"),
        pytest.param("a 1\r", Sample({}, 1.0), id="carriage_return"),
        pytest.param("a 1.5e-3", Sample({}, 0.0015), id="exponent"),
        pytest.param("a +Inf", Sample({}, math.inf), id="infinity"),
        pytest.param("a -1", Sample({}, -1.0), id="negative"),
        pytest.param('vllm:b{x="1",y="2"} 3', Sample({"x": "1", "y": "2"}, 3.0), id="labels"),
        pytest.param('a{x="1",} 3', Sample({"x": "1"}, 3.0), id="trailing_comma"),
        pytest.param('a{x="} 9 {"} 3', Sample({"x": "} 9 {"}, 3.0), id="braces_in_a_label"),
        pytest.param(r'a{x="\"\\\n"} 3', Sample({"x": '"\\\n'}, 3.0), id="escapes"),
        pytest.param(
            'c_total{x="1"} 3 # {trace_id="abc"} 0.67 1600.1', Sample({"x": "1"}, 3.0),
            id="exemplar",
        ),
    ],
)  # fmt: skip
def test_a_sample_is_read(line: str, expected: Sample) -> None:
    """In every form that the two formats have."""
    assert [[expected]] == list(parse_exposition(f"# HELP a b\n{line}\n# EOF\n", NAMES).values())


def test_other_families_are_skipped_unread() -> None:
    """Even faulty ones: no one steers by them."""
    text = 'other{x="1" 5\n{"my.name",x="1"} 5\nbucket{le="1"} nonsense\na 2\n'

    assert {"a": [Sample({}, 2.0)]} == parse_exposition(text, NAMES)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("<html><body>404</body></html>", "line 1", id="web_page"),
        pytest.param('{"error": "not found"}', "line 1", id="json"),
        pytest.param("a", "line 1", id="no_value"),
        pytest.param("x 1\na one", "line 2: 'one' is not a number", id="word"),
        pytest.param("a 1_000", "not a number", id="underscore"),
        pytest.param("a 0x10", "not a number", id="hexadecimal"),
        pytest.param('a{x="1} 2', "line 1", id="open_quote"),
        pytest.param('a{x="1"', "line 1", id="open_brace"),
        pytest.param("a{x=1} 2", "labels", id="unquoted"),
        pytest.param('a{x="1" y="2"} 2', "labels", id="no_comma"),
        pytest.param('a{x="1",x="2"} 2', "'x' comes twice", id="label_twice"),
        pytest.param("a 1 yesterday", "line 1", id="no_timestamp"),
        pytest.param("a 1 1-2", "not a timestamp", id="faulty_timestamp"),
        pytest.param('a{x="' + "y" * 2000 + '"} 2', "longer than", id="long_label"),
        pytest.param(
            "a{" + ",".join(f'l{n}="1"' for n in range(100)) + "} 2", "labels", id="many_labels"
        ),
        pytest.param("a 1 2 3 4", "line 1", id="trailing_words"),
    ],
)  # fmt: skip
def test_a_fault_names_its_line(text: str, words: str) -> None:
    """Anyone who writes the exporter finds it."""
    with pytest.raises(ReportError, match=words):
        parse_exposition(text, NAMES)


def test_bounds_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance cannot make the control plane large."""
    monkeypatch.setattr(exposition, "MAX_LINES", 10)
    monkeypatch.setattr(exposition, "MAX_SAMPLES", 3)
    monkeypatch.setattr(exposition, "MAX_TEXT", 100)

    with pytest.raises(ReportError, match="lines"):
        parse_exposition("\n" * 20, NAMES)
    with pytest.raises(ReportError, match="samples"):
        parse_exposition("".join(f'a{{x="{n}"}} 1\n' for n in range(5)), NAMES)
    with pytest.raises(ReportError, match="characters"):
        parse_exposition("a" * 101, NAMES)
    with pytest.raises(ReportError, match="bytes"):
        decode_exposition(b"a" * 101)
    with pytest.raises(ReportError, match="UTF-8"):
        decode_exposition(b"\xff")


LINES = st.lists(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(r'(a|vllm:b)(\{[a-z]{0,2}="?[^\n]{0,5}"?,?\})? ?[0-9.eE+\-NaIinf]{0,6}'),
    ),
    max_size=8,
).map("\n".join)


@given(st.one_of(st.binary(max_size=300), LINES.map(lambda text: text.encode(errors="replace"))))
@example(b'a{x="' + b"\\" * 5000)
@example(b"a{" + b'"' * 5001)
@example(b"a " + b"9" * 5000)
@settings(max_examples=250)
def test_whatever_comes_only_our_error_is_raised(body: bytes) -> None:
    """Any bytes at all."""
    try:
        found = parse_exposition(decode_exposition(body), NAMES)
    except ReportError:
        return

    assert all(isinstance(sample.value, float) for series in found.values() for sample in series)


@given(
    st.lists(st.text(max_size=8), min_size=3, max_size=3),
    st.lists(st.floats(min_value=0, allow_nan=False), min_size=1, max_size=5),
)
@settings(max_examples=100)
def test_both_formats_of_the_reference_client_are_read_as_it_reads_them(
    labels: list[str], values: list[float]
) -> None:
    """What prometheus_client writes and parses, we parse alike."""
    registry = CollectorRegistry()
    gauge = Gauge("a", "help {of} it", ["x", "y"], registry=registry)
    gauge.labels(labels[0], labels[1]).set(values[0])
    Counter("c", "count", ["x"], registry=registry).labels(labels[2]).inc(values[-1])
    histogram = Histogram("d", "times", registry=registry)
    for value in values:
        histogram.observe(value)

    text = generate_latest(registry).decode()
    theirs: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in NAMES:
                theirs.setdefault(sample.name, []).append(Sample(sample.labels, sample.value))

    assert theirs == parse_exposition(text, NAMES)
    modern = openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]
    assert theirs == parse_exposition(modern, NAMES)
