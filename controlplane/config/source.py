"""YAML text to plain values, and where in the text each of them stands.

This module knows YAML and nothing of fleets; what a scalar means is in `yaml_nodes`.
Anchors, aliases and merge keys (``<<``) work; an alias that contains itself, or aliases that
multiply beyond `MAX_NODES`, are faults.
"""

from __future__ import annotations

import re
from typing import Any

from controlplane.config.document import Document, Mark, Path, dotted, one_line, refused
from controlplane.config.yaml_nodes import MAX_DEPTH, TOO_DEEP, Composer, Node
from controlplane.errors import Fault

MAX_BYTES = 16_000_000
"""Longest document. Ten thousand instances, written at length, take three million bytes."""
MAX_NODES = 2_000_000
"""Most values after aliases are followed."""
# YAML 1.2.2, section 5.1: what a stream may hold.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def parse_source(text: str, *, file: str) -> Document:
    """Read a YAML document that holds a mapping.

    Raises:
        ConfigError: with the one fault that keeps it from being read.
    """
    text = text.removeprefix("\ufeff")
    _check_characters(text, file)
    root = Composer(file).compose(text)
    if root.kind != "map":
        raise refused(file, root.mark, "must be a mapping of keys to values: start with version: 1")
    _Measure(file).check(root)
    flat = _Flattener(file)
    tree = flat.value(root, ())
    return Document(file, tree, flat.values, flat.keys, tuple(flat.faults.values()), _lines(text))


def _lines(text: str) -> tuple[str, ...]:
    """Split as YAML does, which knows fewer line breaks than Python."""
    return tuple(re.split(r"\r\n|[\r\n\x85\u2028\u2029]", text))


def _check_characters(text: str, file: str) -> None:
    if len(text) > MAX_BYTES or len(text.encode(errors="replace")) > MAX_BYTES:
        raise refused(file, Mark(1, 1), f"longer than {MAX_BYTES // 10**6} MB; split the fleet")
    if odd := _UNPRINTABLE.search(text):
        before = text[: odd.start()]
        mark = Mark(before.count("\n") + 1, odd.start() - (before.rfind("\n") + 1) + 1)
        raise refused(
            file, mark, f"character U+{ord(odd[0]):04X} is not allowed in YAML; remove it"
        )


class _Measure:
    """How large a node is once aliases are followed, before anything is built."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._sizes: dict[int, tuple[int, int]] = {}
        """Values and depth of a node, by its identity."""
        self._open: set[int] = set()

    def check(self, node: Node) -> tuple[int, int]:
        if node.kind == "scalar":
            return 1, 0
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        if id(node) in self._open:
            raise refused(self._file, node.mark, "contains an alias of itself; write it out")
        self._open.add(id(node))
        if len(self._open) > MAX_DEPTH:
            raise refused(self._file, node.mark, TOO_DEEP)
        measured = [self.check(item) for item in node.items]
        self._open.remove(id(node))
        size = 1 + sum(nodes for nodes, _ in measured)
        depth = 1 + max((depth for _, depth in measured), default=0)
        if size > MAX_NODES:
            raise refused(
                self._file, node.mark, f"its aliases multiply to over {MAX_NODES:,} values"
            )
        if depth > MAX_DEPTH:
            raise refused(self._file, node.mark, TOO_DEEP)
        self._sizes[id(node)] = size, depth
        return size, depth


class _Flattener:
    """Nodes to plain values and the places of their paths."""

    def __init__(self, file: str) -> None:
        self._file = file
        self.values: dict[Path, Mark] = {}
        self.keys: dict[Path, Mark] = {}
        self.faults: dict[tuple[Mark, str], Fault] = {}

    def value(self, node: Node, path: Path) -> Any:
        self.values[path] = node.mark
        if node.kind == "scalar":
            return node.value
        if node.kind == "seq":
            return [self.value(item, (*path, i)) for i, item in enumerate(node.items)]
        entries: dict[str, tuple[Mark, Node]] = {}
        merged: list[Node] = []
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
        key: Node,
        item: Node,
        path: Path,
        entries: dict[str, tuple[Mark, Node]],
        merged: list[Node],
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

    def _merge(self, source: Node, entries: dict[str, tuple[Mark, Node]]) -> None:
        """Add what *entries* lacks (https://yaml.org/type/merge.html)."""
        inner: list[Node] = []
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
