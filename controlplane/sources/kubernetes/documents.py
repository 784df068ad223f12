"""What is read of every document of the Kubernetes API; nothing in it is taken on trust."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from controlplane.config.addresses import is_dns_name
from controlplane.errors import ReportError

MAX_LABELS = 256
"""Labels of one object that are kept."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Meta:
    """What every object has."""

    namespace: str
    """Empty for a node."""
    name: str
    labels: Labels = field(default_factory=dict)
    uid: str = ""
    """Of this object alone; another of its name has another."""

    @property
    def key(self) -> tuple[str, str]:
        """Return what is unique among objects of one kind."""
        return self.namespace, self.name


def meta_of(document: Any) -> Meta:
    """Return what names an object.

    Raises:
        ReportError: it has no name.
    """
    meta = mapping_of(document, "metadata")
    name = text_of(meta, "name")
    if not name:
        raise ReportError("an object without a name")
    labels = {
        key: value
        for key, value in mapping_of(meta, "labels").items()
        if isinstance(key, str) and isinstance(value, str)
    }
    return Meta(
        namespace=text_of(meta, "namespace"),
        name=name,
        labels=first_of(labels, MAX_LABELS),
        uid=text_of(meta, "uid"),
    )


def owner_of(document: Any, kind: str, namespace: str) -> Meta | None:
    """Return the owner of a kind; None if there is none."""
    for owner in mappings_of(mapping_of(document, "metadata"), "ownerReferences"):
        if owner.get("kind") == kind and text_of(owner, "name"):
            return Meta(namespace, text_of(owner, "name"), uid=text_of(owner, "uid"))
    return None


def mapping_of(document: Any, key: str) -> Mapping[str, Any]:
    """Return the mapping at *key*; an empty one if there is none."""
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, dict) else {}


def mappings_of(document: Any, key: str) -> list[Mapping[str, Any]]:
    """Return the mappings of the list at *key*; none if it is no list."""
    value = document.get(key) if isinstance(document, dict) else None
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text_of(document: Mapping[str, Any], key: str) -> str:
    """Return the text at *key*, of 253 characters at most; empty if it is none."""
    value = document.get(key)
    return value[:253] if isinstance(value, str) else ""


def first_of(values: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the first *count* entries."""
    return dict(list(values.items())[:count])


def dns_name_of(text: str) -> str:
    """Return a DNS name in its usual form; empty if it is none."""
    name = text.lower().rstrip(".")
    return name if is_dns_name(name) else ""


def is_port(value: object) -> TypeGuard[int]:
    """Report whether a value is the number of a port."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535


def is_deleted(document: Any) -> bool:
    """Report whether an object is being deleted."""
    return bool(mapping_of(document, "metadata").get("deletionTimestamp"))


def condition_of(document: Any, kind: str) -> str:
    """Return the status of a condition: True, False or Unknown; empty if there is none."""
    for item in mappings_of(document, "conditions"):
        if item.get("type") == kind:
            return text_of(item, "status")
    return ""


def ip_of(text: str) -> str:
    """Return an address that can be connected to, in its usual form; empty if it is none."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if ip.is_unspecified or ip.is_multicast or "%" in text:
        return ""
    return str(ip)
