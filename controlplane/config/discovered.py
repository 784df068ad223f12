"""What was discovered while running, as rules say it, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from controlplane.config.schema import Config
from controlplane.config.schema.instances import Instance
from controlplane.config.schema.services import Match
from controlplane.config.schema.sites import Site


class Conflict(StrEnum):
    """Why a found instance does not take part."""

    NAME = "name"
    ADDRESS = "address"
    SITE = "site"
    MODEL = "model"
    CIRCLE = "circle"
    OVERRIDE = "override"
    LIMIT = "limit"
    MATCH = "match"
    """Another service has the same match."""
    OBJECT = "object"
    """The object does not say what the rule needs."""


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object of a Kubernetes cluster, as an Event names it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


@dataclass(frozen=True, slots=True)
class DiscoveredInstance:
    """An instance that a rule found."""

    rule: str
    """Empty for one that a previous file had, while its successors are awaited."""
    instance: Instance
    site: Site | None = None
    """Where it is, if that site is made of a label; the file's site of that name goes before."""
    about: ObjectRef | None = field(default=None, compare=False)
    """The object that it was read from."""


@dataclass(frozen=True, slots=True)
class DiscoveredMatch:
    """A match of a service that an HTTPRoute says."""

    source: str
    """Which of ``http_routes`` asked for it; see `route_sources`."""
    service: str
    match: Match = field(hash=False)
    route: str
    """NAMESPACE/NAME of the HTTPRoute."""
    about: ObjectRef | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, order=True)
class RejectedInstance:
    """An instance that a rule found and that does not take part."""

    rule: str
    name: str
    """Of the instance, or of the object that is none."""
    conflict: Conflict
    message: str
    """What is wrong, and what would be right."""
    about: ObjectRef | None = field(default=None, compare=False)
    """The object that it was read from."""


@dataclass(frozen=True, slots=True)
class MergedConfig:
    """What is in force."""

    config: Config
    """The file's with the found instances, and without overrides of instances that are away."""
    taken: tuple[DiscoveredInstance, ...] = ()
    """The found instances that take part, those held among them."""
    held: tuple[DiscoveredInstance, ...] = ()
    """Those that are found no longer, and stay because nothing else serves their service."""
    refused: tuple[RejectedInstance, ...] = ()
    matches: tuple[DiscoveredMatch, ...] = ()
    """Those of HTTPRoutes that are in force."""
