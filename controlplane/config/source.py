"""YAML text to plain values, and where in the text each of them stands.

This module knows YAML and nothing of fleets.
It reads parse events instead of loading objects, so that it can bound depth and size before
anything is built, and so that it decides itself what a plain scalar means:
the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), in which only
``true`` and ``false`` are booleans. ``on``, ``no``, ``1:30`` and ``2026-01-01`` stay text,
which the traps of YAML 1.1 would turn into a boolean, the number 90 and a date.
Anchors, aliases and merge keys (``<<``) work; an alias that contains itself, or aliases that
multiply beyond `MAX_NODES`, are faults.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from controlplane.errors import ConfigError, Fault

MAX_BYTES = 16_000_000
"""Longest document. Ten thousand instances, written at length, take three million bytes."""
MAX_DEPTH = 64
"""Deepest nesting. The deepest key of a configuration is at 6."""
MAX_NODES = 2_000_000
"""Most values after aliases are followed."""

Path = tuple[str | int, ...]
"""Keys and list positions from the root to a value."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML 1.2.2, section 5.1: what a stream may hold.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,15}")
_OCT = re.compile(r"0o[0-7]{1,20}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NAN = frozenset({".nan", ".NaN", ".NAN"})
_PLAIN_KEY = re.compile(r"[\w-]+")
_STANDARD = "tag:yaml.org,2002:"


_PLAIN_SCALAR = re.compile(r"[^\s,\[\]{}\"'#]+")
_TEMPLATE = re.compile(r"\$\{[^}]*\}?|\{\{.*?\}\}")
_BARE_IPV6 = re.compile(
    r"(?<![\w\"'\[:])(?:\[(?P<inner>[0-9a-fA-F]*:[0-9a-fA-F:]+)\]"
    r"|(?P<bare>[0-9a-fA-F]{0,4}(?::[0-9a-fA-F]{0,4}){2,7}?))(?::(?P<port>\d{2,5}))?(?=[\s,}\]]|$)"
)
_GLUED = re.compile(r"(?<![\w\"'])[A-Za-z_]\w*:[^\s/:]\S*")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the text."""

    line: int
    """1-based."""
    column: int
    """1-based, in characters."""


@dataclass(frozen=True, slots=True)
class Document:
    """A document's plain values and their places."""

    file: str
    tree: Any
    """Mappings, lists, text, numbers, booleans and None."""
    values: Mapping[Path, Mark]
    """Where each value begins."""
    keys: Mapping[Path, Mark]
    """Where the key of each value in a mapping begins."""
    faults: tuple[Fault, ...] = ()
    """What is wrong with the text though it can be read, such as a key given twice."""
    lines: tuple[str, ...] = ()
    """The text."""

    def line(self, path: Path) -> str:
        """Return the text from the beginning of a value to the end of its line."""
        mark = self.values.get(path)
        if mark is None or mark.line > len(self.lines):
            return ""
        return self.lines[mark.line - 1][mark.column - 1 :]

    def written(self, path: Path) -> str:
        """Return a plain scalar as it is written, such as 007 for the number 7; or nothing."""
        found = _PLAIN_SCALAR.match(self.line(path))
        return "" if found is None else found[0]

    def fault(self, path: Path, message: str, *, at_key: bool = False) -> Fault:
        """Return a fault at the value of *path*, or at its key, or at what should hold it."""
        places = self.keys if at_key else self.values
        mark = next(
            (found for found in (_up(path, places, self.values)) if found is not None), Mark(1, 1)
        )
        return Fault(self.file, mark.line, mark.column, dotted(path), one_line(message))


def _up(path: Path, first: Mapping[Path, Mark], then: Mapping[Path, Mark]) -> Iterator[Mark | None]:
    yield first.get(path)
    for length in range(len(path), -1, -1):
        yield then.get(path[:length])


def dotted(path: Path) -> str:
    """Return a path as operators read it: ``services[0].slo.ttft``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_KEY.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{json.dumps(step, ensure_ascii=False)}]"
    return one_line(text)


def one_line(text: str) -> str:
    """Make text from a file safe to print: one line, printable, not endless."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:600])
    return shown if len(text) <= 600 else shown + "..."


def parse_source(text: str, *, file: str) -> Document:
    """Read a YAML document that holds a mapping.

    Raises:
        ConfigError: with the one fault that keeps it from being read.
    """
    text = text.removeprefix("\ufeff")
    _check_characters(text, file)
    root = _Composer(file).compose(text)
    if root.kind != "map":
        raise _refused(
            file, root.mark, "must be a mapping of keys to values: start with version: 1"
        )
    _Measure(file).check(root)
    flat = _Flattener(file)
    tree = flat.value(root, ())
    return Document(file, tree, flat.values, flat.keys, tuple(flat.faults.values()), _lines(text))


def _lines(text: str) -> tuple[str, ...]:
    """Split as YAML does, which knows fewer line breaks than Python."""
    return tuple(re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text))


def _refused(file: str, mark: Mark, message: str) -> ConfigError:
    return ConfigError([Fault(file, mark.line, mark.column, "", one_line(message))])


def _check_characters(text: str, file: str) -> None:
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        raise _refused(file, Mark(1, 1), f"longer than {MAX_BYTES // 10**6} MB; split the fleet")
    if odd := _UNPRINTABLE.search(text):
        before = text[: odd.start()]
        mark = Mark(before.count("\n") + 1, odd.start() - (before.rfind("\n") + 1) + 1)
        raise _refused(
            file, mark, f"character U+{ord(odd[0]):04X} is not allowed in YAML; remove it"
        )


@dataclass(slots=True)
class _Node:
    kind: str
    """``map``, ``seq`` or ``scalar``."""
    mark: Mark
    value: Any = None
    """Of a scalar."""
    items: list[_Node] = field(default_factory=list)
    """Of a sequence; of a mapping, keys and values in turn."""
    plain: bool = False
    """A scalar without quotes."""


class _Composer:
    """Parse events to nodes, without recursion."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._anchors: dict[str, _Node] = {}

    def compose(self, text: str) -> _Node:
        root: _Node | None = None
        try:
            for node in self._roots(text):
                if root is not None:
                    raise _refused(
                        self._file, node.mark, "a second document begins; keep one in a file"
                    )
                root = node
        except yaml.MarkedYAMLError as error:
            raise self._unreadable(error, text) from error
        except yaml.YAMLError as error:
            raise _refused(self._file, Mark(1, 1), f"not YAML: {error}") from error
        if root is None or (root.kind == "scalar" and root.plain and root.value is None):
            raise _refused(self._file, Mark(1, 1), "empty; a configuration starts with version: 1")
        return root

    def _roots(self, text: str) -> Iterator[_Node]:
        """Return the root of each document once all of it is read."""
        root: _Node | None = None
        open_nodes: list[_Node] = []
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
                    raise _refused(self._file, node.mark, _TOO_DEEP)
            elif isinstance(event, yaml.DocumentEndEvent) and root is not None:
                yield root

    def _node(self, event: yaml.NodeEvent) -> _Node:
        mark = _mark(event)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise _refused(
                    self._file,
                    mark,
                    f"alias *{event.anchor} has no anchor &{event.anchor} above it",
                )
            return self._anchors[event.anchor]
        if isinstance(event, yaml.ScalarEvent):
            plain = bool(event.implicit[0])
            value = resolve(event.value) if plain else event.value
            node = _Node("scalar", mark, value, [], plain)
            allowed = (None, "!", f"{_STANDARD}str")
            if plain:
                node.items = [_Node("scalar", mark, event.value)]  # the text, should it be a key
        elif isinstance(event, yaml.SequenceStartEvent):
            node, allowed = _Node("seq", mark), (None, "!", f"{_STANDARD}seq")
        else:
            node, allowed = _Node("map", mark), (None, "!", f"{_STANDARD}map")
        tag: str | None = getattr(event, "tag", None)
        if tag not in allowed:
            shown = str(tag).replace(_STANDARD, "!!")
            raise _refused(self._file, mark, f"tag {shown} is not understood; remove it")
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
            return _refused(self._file, mark, _TOO_DEEP)
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
        return _refused(self._file, mark, f"not YAML: {problem}; {remedy}")


def _quoted_ipv6(found: re.Match[str]) -> str:
    address = found["bare"] or found["inner"]
    return f'"[{address}]:{found["port"] or 8000}"'


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


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


class _Measure:
    """How large a node is once aliases are followed, before anything is built."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._sizes: dict[int, tuple[int, int]] = {}
        """Values and depth of a node, by its identity."""
        self._open: set[int] = set()

    def check(self, node: _Node) -> tuple[int, int]:
        if node.kind == "scalar":
            return 1, 0
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise _refused(self._file, node.mark, "contains an alias of itself; write it out")
        self._open.add(id(node))
        if len(self._open) > MAX_DEPTH:
            raise _refused(self._file, node.mark, _TOO_DEEP)
        measured = [self.check(item) for item in node.items]
        self._open.remove(id(node))
        size = 1 + sum(nodes for nodes, _ in measured)
        depth = 1 + max((depth for _, depth in measured), default=0)
        if size > MAX_NODES:
            raise _refused(
                self._file, node.mark, f"its aliases multiply to over {MAX_NODES:,} values"
            )
        if depth > MAX_DEPTH:
            raise _refused(self._file, node.mark, _TOO_DEEP)
        self._sizes[id(node)] = size, depth
        return size, depth


class _Flattener:
    """Nodes to plain values and the places of their paths."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.values: dict[Path, Mark] = {}
        self.keys: dict[Path, Mark] = {}
        self.faults: dict[tuple[Mark, str], Fault] = {}

    def value(self, node: _Node, path: Path) -> Any:
        self.values[path] = node.mark
        if node.kind == "scalar":
            return node.value
        if node.kind == "seq":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.items)]
        entries: dict[str, tuple[Mark, _Node]] = {}
        merged: list[_Node] = []
        for key, item in zip(node.items[::2], node.items[1::2], strict=True):
            self._entry(key, item, path, entries, merged)
        for source in merged:
            self._merge(source, entries)
        mapping = {}
        for name, (mark, item) in entries.items():
            self.keys[*path, name] = mark
            mapping[name] = self.value(item, (*path, name))
        return mapping

    def _entry(
        self,
        key: _Node,
        item: _Node,
        path: Path,
        entries: dict[str, tuple[Mark, _Node]],
        merged: list[_Node],
    ) -> None:
        if key.kind != "scalar":
            self._fault(key.mark, path, "a key must be text, not a list or a mapping")
            return
        name = str(key.items[0].value if key.plain else key.value)
        if key.plain and name == "<<":
            sources = item.items if item.kind == "seq" else [item]
            if any(source.kind != "map" for source in sources):
                self._fault(item.mark, (*path, name), "'<<' takes a mapping, such as *anchor")
            merged += [source for source in sources if source.kind == "map"]
        elif name in entries:
            first = entries[name][0]
            self._fault(
                key.mark,
                (*path, name),
                f"key '{name}' is given twice, first on line {first.line}; remove one",
            )
        else:
            entries[name] = key.mark, item

    def _merge(self, source: _Node, entries: dict[str, tuple[Mark, _Node]]) -> None:
        """Add what *entries* lacks (https://yaml.org/type/merge.html)."""
        inner: list[_Node] = []
        for key, item in zip(source.items[::2], source.items[1::2], strict=True):
            if key.kind != "scalar":
                continue
            name = str(key.items[0].value if key.plain else key.value)
            if key.plain and name == "<<":
                inner += item.items if item.kind == "seq" else [item]
            else:
                entries.setdefault(name, (key.mark, item))
        for further in inner:
            if further.kind == "map":
                self._merge(further, entries)

    def _fault(self, mark: Mark, path: Path, message: str) -> None:
        fault = Fault(self._file, mark.line, mark.column, dotted(path), one_line(message))
        self.faults.setdefault((mark, message), fault)
