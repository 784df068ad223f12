"""Prometheus text to samples: only the families asked for, as fast as Python reads lines.

Reads the text format 0.0.4 and OpenMetrics 1.0 (exemplars, ``# EOF``), whose sample lines agree
in all that matters here.
Lines of other families are skipped unread: an engine writes hundreds of histogram buckets a
second that no one steers by. ``prometheus_client``'s parser reads them all, unbounded, and takes
some forty times as long on such a page.
Knows nothing of engines or signals; raises nothing but `ReportError`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container
from typing import NamedTuple

from controlplane.errors import ReportError

MAX_TEXT = 8 * 2**20
"""Characters; a busy engine with hundreds of adapters writes about one tenth of it."""
MAX_LINES = 100_000
MAX_SAMPLES = 10_000
"""Samples of the families asked for."""
MAX_REPEATED = 4
MAX_LABELS = 64
MAX_LABEL_VALUE = 1024

_SAMPLE = re.compile(
    r"""(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+
        (?:\{(?P<labels>(?:[^"}]++|"(?:[^"\\]++|\\.)*+")*+)\}[ \t]*+)?
        (?<=[ \t}])(?P<value>[^ \t\r{}"]++)
        (?:[ \t]++(?P<timestamp>[0-9.eE+-]++))?
        (?:[ \t]++\#[ \t]*+\{.*+)?
        [ \t\r]*+$""",
    re.VERBOSE,
)
_QUOTED = re.compile(r'\{[ \t]*+"(?:[^"\\]++|\\.)*+"[ \t]*+[,}].*+[ \t]\S')
_LABEL = re.compile(
    r'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]++|\\.)*+)"[ \t]*+(?:,|$)'
)
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:e[+-]?[0-9]++)?|inf|infinity|nan)",
    re.IGNORECASE,
)
_MILLISECONDS = 1e11
"""Numbers from here on are milliseconds: as seconds they would lie beyond the year 5000, and as
milliseconds smaller ones before 1973."""
_ESCAPE = re.compile(r"\\(.)")
_ESCAPED = {"n": "\n", "\\": "\\", '"': '"'}


class Sample(NamedTuple):
    """One value of one series."""

    labels: dict[str, str]
    value: float
    """As written: NaN and infinity are legal here and judged by who knows the quantity."""
    at: float | None = None
    """Unix time in seconds at which it was measured, where the page says so."""


class Page(NamedTuple):
    """What a page holds of the families asked for."""

    samples: dict[str, list[Sample]]
    """Name -> samples in the order of the text, each series once."""
    repeated: tuple[str, ...] = ()
    """Series that came twice with different values, of which the first is kept; at most
    `MAX_REPEATED`."""
    empty: bool = False
    """Nothing but comments and blank lines."""


def decode_exposition(body: bytes) -> str:
    """Return the text of an HTTP body.

    Raises:
        ReportError: it is too large or not UTF-8.
    """
    if len(body) > MAX_TEXT:
        raise ReportError(f"metrics of {len(body)} bytes; at most {MAX_TEXT} are read")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise ReportError(f"metrics are not UTF-8 text: {error}") from None


def parse_exposition(text: str, names: Container[str]) -> dict[str, list[Sample]]:
    """Read the samples whose metric name is among *names*, as `parse_page` does.

    Raises:
        ReportError: there is no sample at all, or as `parse_page` raises it.
    """
    page = parse_page(text, names)
    if page.empty and not any(
        line.startswith(("# HELP", "# TYPE", "# EOF")) for line in text.split("\n", MAX_LINES)
    ):
        raise ReportError("no metrics: the answer is empty")
    return page.samples


def parse_page(text: str, names: Container[str]) -> Page:
    """Read the samples whose metric name is among *names*.

    A series that comes again is read once: its values are equal where a page is put together
    twice, and where they differ nothing says which is right.

    Raises:
        ReportError: the text is too large, is no exposition or holds a faulty line among the
            families asked for; names the line.
    """
    if len(text) > MAX_TEXT:
        raise ReportError(f"metrics of {len(text)} characters; at most {MAX_TEXT} are read")
    lines = text.split("\n", MAX_LINES)
    if len(lines) > MAX_LINES:
        raise ReportError(f"metrics of more than {MAX_LINES} lines")
    found: dict[str, list[Sample]] = {}
    series: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    repeated: list[str] = []
    count = 0
    for number, line in enumerate(lines, 1):
        cut = line.find("{")
        name = line[:cut] if cut >= 0 else line.partition(" ")[0]
        if name not in names:
            # Blanks before '{' and tabs are legal and rare.
            stripped = name.partition(" ")[0].partition("\t")[0]
            if stripped is name or stripped == name or stripped not in names:
                continue
            name = stripped
        sample = _parse_sample(line, number)
        key = (name, frozenset(sample.labels.items()))
        first = series.setdefault(key, sample.value)
        if len(series) == count:
            # NaN equals nothing, itself included.
            same = first == sample.value or math.isnan(first)
            if not same and len(repeated) < MAX_REPEATED:
                repeated.append(
                    f"line {number}: {line[:120]!r} repeats a series that was {first:g}"
                )
            continue
        count = len(series)
        if len(series) > MAX_SAMPLES:
            raise ReportError(f"line {number}: more than {MAX_SAMPLES} samples of one instance")
        found.setdefault(name, []).append(sample)
    empty = not found and not _has_samples(lines)
    return Page(found, tuple(repeated), empty)


def _parse_sample(line: str, number: int) -> Sample:
    matched = _SAMPLE.match(line)
    if matched is None:
        raise ReportError(f"line {number}: {line[:120]!r} is not 'name{{label=\"value\"}} number'")
    written = matched["value"]
    # float() takes more than the format does: 1_000, for one.
    if _NUMBER.fullmatch(written) is None:
        raise ReportError(f"line {number}: {written[:40]!r} is not a number")
    labels = matched["labels"]
    stamp = matched["timestamp"]
    return Sample(
        _parse_labels(labels, number) if labels else {},
        float(written),
        None if stamp is None else _parse_stamp(stamp, number),
    )


def _parse_stamp(text: str, number: int) -> float:
    """Return Unix seconds: the older format has milliseconds, OpenMetrics seconds."""
    if _NUMBER.fullmatch(text) is None:
        raise ReportError(f"line {number}: {text[:40]!r} is not a timestamp")
    stamp = float(text)
    return stamp / 1000.0 if abs(stamp) >= _MILLISECONDS else stamp


def _parse_labels(text: str, number: int) -> dict[str, str]:
    labels: dict[str, str] = {}
    position = 0
    end = len(text.rstrip(" \t"))
    while position < end:
        matched = _LABEL.match(text, position)
        if matched is None:
            raise ReportError(
                f"line {number}: labels {text[position : position + 80]!r} are faulty"
            )
        name, value = matched[1], matched[2]
        if name in labels:
            raise ReportError(f"line {number}: label {name[:80]!r} comes twice")
        if len(value) > MAX_LABEL_VALUE:
            raise ReportError(
                f"line {number}: label {name[:80]!r} is longer than {MAX_LABEL_VALUE}"
            )
        if len(labels) == MAX_LABELS:
            raise ReportError(f"line {number}: more than {MAX_LABELS} labels")
        if "\\" in value:
            value = _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[0]), value)
        labels[name] = value
        position = matched.end()
    return labels


def _has_samples(lines: list[str]) -> bool:
    """Return whether an exposition holds anything; raise if it is none, such as a web page."""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        # Prometheus 3 writes names outside the old alphabet in quotes inside the braces.
        if not _QUOTED.match(line):
            _parse_sample(line, number)
        return True
    return False
