"""What the admin port serves, as its routes know it; `admin_api.view` implements it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from aiohttp import web

from controlplane.admin_api.documents import Document
from controlplane.admin_api.live import LiveOverview
from controlplane.controller.events import EventHub
from controlplane.controller.history import Query
from controlplane.suggestions import did_you_mean


class UnknownName(Exception):  # noqa: N818 -- says what is the case
    """A service or site that the configuration does not have."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no {kind} '{name}'; {did_you_mean(name, sorted(known))}")


class AdminDocuments(Protocol):
    """What the admin port shows; each method returns a JSON-ready document of this instant."""

    events: EventHub
    live: LiveOverview | None
    """The overview that pages were woken for last."""

    def is_ready(self) -> bool:
        """Return whether a snapshot is being served."""

    async def fleet_document(self) -> Document | None:
        """Return the fleet; None before the first cycle."""

    async def plan_document(self) -> Document | None:
        """Return the plan; None before the first one."""

    async def room_document(self) -> Document | None:
        """Return what fits where, and what more replicas would win; None before the first plan."""

    async def explain_document(self, service: str, site: str) -> Document | None:
        """Explain one pair; None before the first plan.

        Raises:
            UnknownName: there is no such service or site.
        """

    async def overview_document(self) -> Document | None:
        """Return what the dashboard shows at a glance; None before the first plan."""

    def overrides_document(self) -> Document:
        """Return the overrides of the file and those made while running."""

    async def add_override(self, content: bytes) -> Document:
        """Let an override stand, or only say what it would do.

        Raises:
            ControlPlaneError: it cannot be.
        """

    async def remove_override(self, name: str, by: str) -> Document:
        """End an override made while running.

        Raises:
            ControlPlaneError: there is no such one.
        """

    async def history_document(self, query: Query, at: float | None) -> Document | None:
        """Return figures over time, or the sample nearest to the Unix time *at*."""

    async def live_overview(self) -> LiveOverview | None:
        """Return the overview as pages follow it; None before the first plan."""

    async def moment_document(self, at: float) -> Document | None:
        """Return the overview nearest to the Unix time *at*; None if none is kept."""

    async def instance_document(self, name: str) -> Document | None:
        """Return everything about one instance; None before the first plan.

        Raises:
            UnknownName: there is no such instance.
        """

    async def envoys_document(self, name: str | None = None) -> Document:
        """Return the connected Envoys, or the one with an id."""

    async def agents_document(self) -> Document:
        """Return the connected agents."""

    async def config_document(self) -> Document:
        """Return the configuration's status."""

    async def metrics_text(self) -> bytes:
        """Return the Prometheus text."""


DOCUMENTS: web.AppKey[AdminDocuments] = web.AppKey("documents")
