"""Parse events of YAML to nodes, and what a plain scalar means.

Events are read instead of loading objects, so that depth and size can be bounded before anything is
built, and so that the meaning of a plain scalar is decided here: the core schema of YAML 1.2
(https://yaml.org/spec/1.2.2/#103-core-schema), in which only ``true`` and ``false`` are booleans.
``on``, ``no``, ``1:30`` and ``2026-01-01`` stay text, which the traps of YAML 1.1 would turn into a
boolean, the number 90 and a date.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from controlplane.config.document import Mark, refused
from controlplane.errors import ConfigError

MAX_DEPTH = 64
"""Deepest nesting. The deepest key of a configuration is at 6."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,15}")
_OCT = re.compile(r"0o[0-7]{1,20}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})
_STANDARD = "tag:yaml.org,2002:"
_TEMPLATE = re.compile(r"\$\{[^}]*\}?|\{\{.*?\}\}")
_BARE_IPV6 = re.compile(
    r"(?<![\w\"'\[:])(?:\[(?P<inner>[0-9a-fA-F]*:[0-9a-fA-F:]+)\]"
    r"|(?P<bare>[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}?))(?::(?P<port>\d{2,5}))?(?=[\s,}\]]|$)"
)
_GLUED = re.compile(r"(?<![\w\"'])[A-Za-z_]\w*:[^\s/:]\S*")


@dataclass(slots=True)
class Node:
    """A scalar, sequence or mapping as it stands in the text."""

    kind: str
    """``map``, ``seq`` or ``scalar``."""
    mark: Mark
    value: Any = None
    """Of a scalar."""
    items: list[Node] = field(default_factory=list)
    """Of a sequence; of a mapping, keys and values in turn."""
    plain: bool = False
    """A scalar without quotes."""


class Composer:
    """Turns parse events into nodes, without recursion."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._anchors: dict[str, Node] = {}

    def compose(self, text: str) -> Node:
        """Return the root of the only document.

        Raises:
            ConfigError: there is none or a second one, or it cannot be read.
        """
        root: Node | None = None
        try:
            for node in self._roots(text):
                if root is not None:
                    raise refused(
                        self._file, node.mark, "a second document begins; keep one in a file"
                    )
                root = node
        except yaml.MarkedYAMLError as error:
            raise self._unreadable(error, text) from error
        except yaml.YAMLError as error:
            raise refused(self._file, Mark(1, 1), f"not YAML: {error}") from error
        if root is None or (root.kind == "scalar" and root.plain and root.value is None):
            raise refused(self._file, Mark(1, 1), "empty; a configuration starts with version: 1")
        return root

    def _roots(self, text: str) -> Iterator[Node]:
        """Return the root of each document once all of it is read."""
        root: Node | None = None
        open_nodes: list[Node] = []
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, yaml.CollectionEndEvent):
                open_nodes.pop()
            elif isinstance(event, yaml.NodeEvent):
                node = self._node(event)
                if open_nodes:
                    open_nodes[-1].items.append(node)
                else:
                    root = node
                if isinstance(event, yaml.CollectionStartEvent):
                    open_nodes.append(node)
                if len(open_nodes) > MAX_DEPTH:
                    raise refused(self._file, node.mark, TOO_DEEP)
            elif isinstance(event, yaml.DocumentEndEvent) and root is not None:
                yield root

    def _node(self, event: yaml.NodeEvent) -> Node:
        mark = _mark(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise refused(
                    self._file,
                    mark,
                    f"alias *{event.anchor} has no anchor &{event.anchor} above it",
                )
            return self._anchors[event.anchor]
        if isinstance(event, yaml.ScalarEvent):
            plain = bool(event.implicit[0])
            value = resolve(event.value) if plain else event.value
            node = Node("scalar", mark, value, [], plain)
            allowed = (None, "!", f"{_STANDARD}str")
            if plain:
                node.items = [Node("scalar", mark, event.value)]  # the text, should it be a key
        elif isinstance(event, yaml.SequenceStartEvent):
            node, allowed = Node("seq", mark), (None, "!", f"{_STANDARD}seq")
        else:
            node, allowed = Node("map", mark), (None, "!", f"{_STANDARD}map")
        tag: str | None = getattr(event, "tag", None)
        if tag not in allowed:
            shown = str(tag).replace(_STANDARD, "!!")
            raise refused(self._file, mark, f"tag {shown} is not understood; remove it")
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _unreadable(self, error: yaml.MarkedYAMLError, text: str) -> ConfigError:
        at = error.problem_mark or error.context_mark
        mark = Mark(1, 1) if at is None else Mark(at.line + 1, at.column + 1)
        lines = text.splitlines()
        line = lines[mark.line - 1] if mark.line <= len(lines) else ""
        problem = " ".join(filter(None, (error.context, error.problem)))
        if "nesting depth" in problem:
            # The newest libyaml reads a thousand levels ahead of the events that are counted here.
            return refused(self._file, mark, TOO_DEEP)
        begun = error.context_mark
        if error.context is not None and begun is not None and begun.line + 1 != mark.line:
            problem = f"{error.context} begun on line {begun.line + 1} {error.problem}"
        above = lines[mark.line - 2] if 2 <= mark.line <= len(lines) + 1 else ""
        if (template := _TEMPLATE.search(line)) is not None:
            remedy = f"'{template[0]}' looks like a template; render it first"
        elif (ipv6 := _BARE_IPV6.search(line)) is not None:
            remedy = f"write an IPv6 address in brackets and quotes: {_quoted_ipv6(ipv6)}"
        elif (glued := _GLUED.search(above) or _GLUED.search(line)) is not None and (
            "mapping values" in problem or "':'" in problem
        ):
            remedy = f"put a space after the colon of '{glued[0]}'"
        elif "\t" in line[: mark.column] and not line[: mark.column].strip():
            remedy = "indent with spaces, not tabs"
        elif "mapping values are not allowed" in problem:
            remedy = "put text that holds ': ' in quotes, or check the indentation"
        elif "cannot start any token" in problem:
            remedy = "put text that starts with this character in quotes"
        elif "expected ',' or" in problem:
            remedy = "close the bracket, or put a comma between the entries"
        else:
            remedy = "check indentation, quotes and brackets"
        return refused(self._file, mark, f"not YAML: {problem}; {remedy}")


def _quoted_ipv6(found: re.Match[str]) -> str:
    address = found["bare"] or found["inner"]
    return f'"[{address}]:{found["port"] or 8000}"'


TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def _mark(event: yaml.Event) -> Mark:
    at = event.start_mark
    assert at is not None, "the parser marks every event"  # noqa: S101
    return Mark(at.line + 1, at.column + 1)


def resolve(text: str) -> str | float | bool | None:
    """Return what a plain scalar means in the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        return int(text)
    if _HEX.fullmatch(text) or _OCT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    if infinite := _INFINITE.fullmatch(text):
        return float(f"{infinite[1]}inf")
    return float("nan") if text in _NAN else text
