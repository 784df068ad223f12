"""A document as the rules read it: its entries, its lists and the names in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticCustomError

from controlplane.config.document import Document, Path
from controlplane.config.faults import nearest
from controlplane.config.schema.values import NAME_PATTERN
from controlplane.errors import Fault

_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping of the document; anything else reads as an empty one."""

    path: Path
    raw: Any

    def get(self, key: str) -> Any:
        """Return the value at *key*, or None."""
        return self.raw.get(key) if isinstance(self.raw, dict) else None

    def text(self, key: str) -> str | None:
        """Return the text at *key*, or None where it is no text."""
        value = self.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str, parse: Callable[[object], float]) -> float | None:
        """Return the value at *key* as *parse* reads it, or None where it cannot."""
        value = self.get(key)
        try:
            return None if value is None else parse(value)
        except PydanticCustomError:
            return None

    def entry(self, key: str) -> Entry:
        """Return the mapping at *key*."""
        return Entry((*self.path, key), self.get(key))

    def entries(self, key: str) -> list[Entry]:
        """Return the items of the list at *key*."""
        value = self.get(key)
        items = value if isinstance(value, list) else []
        return [Entry((*self.path, key, i), item) for i, item in enumerate(items)]


def models_of(instance: Entry) -> set[str]:
    """Return the names of the models that an instance, or a rule's instances, run."""
    several = instance.get("models")
    if isinstance(several, list):
        names = (each.get("name") if isinstance(each, dict) else each for each in several)
        return {name for name in names if isinstance(name, str)}
    model = instance.text("model")
    return set() if model is None else {model}


class Names:
    """The names of one list, and whether all of them can be read."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries: dict[str, Entry] = {}
        for entry in entries:
            name = entry.text("name")
            if name is not None:
                self.entries.setdefault(name, entry)
        self.complete = bool(entries) and all(_NAME.match(e.text("name") or "") for e in entries)
        """False leaves dangling references unreported: what is missing may be unreadable."""


class Sections:
    """The lists of a document, the names in them, and faults at their places."""

    def __init__(self, document: Document) -> None:
        self._document = document
        root = Entry((), document.tree)
        self.root = root
        self.site_list = root.entries("sites")
        self.model_list = root.entries("models")
        self.service_list = root.entries("services")
        self.instance_list = root.entries("instances")
        self.override_list = root.entries("overrides")
        self.sites = Names(self.site_list)
        self.models = Names(self.model_list)
        self.services = Names(self.service_list)
        self.instances = Names(self.instance_list)
        self.rule_list = root.entry("discovery").entries("rules")
        if self.rule_list:
            self.instances.complete = False  # who else there is shows while running
        if any(rule.get("site_template") is not None for rule in self.rule_list):
            self.sites.complete = False
        self.devices = {
            name for name, e in self.sites.entries.items() if e.text("kind") == "device"
        }

    def at(self, entry: Entry, key: str | None, message: str) -> Fault:
        """Return a fault at *key* of *entry*, or at the entry itself."""
        path = entry.path if key is None else (*entry.path, key)
        return self._document.fault(path, message)

    def line(self, path: Path) -> int:
        """Return the line that *path* is on."""
        return self._document.fault(path, "").line

    def unique(self, entries: Sequence[Entry], what: str) -> Iterator[Fault]:
        """Check that no two *entries* share a name."""
        seen: dict[str, Entry] = {}
        for entry in entries:
            name = entry.text("name")
            if name is None:
                continue
            first = seen.setdefault(name, entry)
            if first is not entry:
                yield self.at(
                    entry,
                    "name",
                    f"'{name}' already names the {what} on line"
                    f" {self.line((*first.path, 'name'))}; choose another",
                )

    def known(self, entry: Entry, key: str, what: str, names: Names) -> Iterator[Fault]:
        """Check that the name at *key* is one of *names*."""
        name = entry.text(key)
        if name is not None and name not in names.entries and names.complete:
            yield self.at(entry, key, f"no {what} is named '{name}'{nearest(name, names.entries)}")
        elif name is None or self.rule_list:
            return
        elif what == "instance" and not self.instance_list:
            yield self.at(entry, key, f"no instance is named '{name}'; instances is empty")

    def fault(self, path: Path, message: str) -> Fault:
        """Return a fault at *path*."""
        return self._document.fault(path, message)
