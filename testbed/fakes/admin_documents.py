"""A small control plane to show on an admin port."""

from __future__ import annotations

from controlplane.admin_api.live import LiveOverview
from controlplane.admin_api.served import UnknownName
from controlplane.admin_api.values import Document
from controlplane.admin_api.view import AdminView
from controlplane.controller.events import EventHub
from controlplane.controller.history import Query
from controlplane.errors import ReportError


class FakeDocuments(AdminView):
    """A small control plane to show."""

    def __init__(self) -> None:  # no control plane: every document is its own
        self.events = EventHub(client_limit=1)
        self.decided = False
        self.live: LiveOverview | None = None

    def is_ready(self) -> bool:
        """Return whether the plan was made."""
        return self.decided

    async def fleet_document(self) -> Document | None:
        """Return a fleet."""
        return {"sites": []} if self.decided else None

    async def plan_document(self) -> Document | None:
        """Return a plan."""
        return {"version": "v1"} if self.decided else None

    async def room_document(self, site: str | None, model: str | None) -> Document | None:
        """Know one site and one model."""
        if site not in (None, "north"):
            raise UnknownName("site", site, ["north"])
        if model not in (None, "m"):
            raise UnknownName("model", model, ["m"])
        return {"groups": []} if self.decided else None

    async def explain_document(self, service: str, site: str) -> Document | None:
        """Know one service."""
        if service != "chat":
            raise UnknownName("service", service, ["chat"])
        return {"service": service, "from": site}

    async def overview_document(self) -> Document | None:
        """Return what the dashboard shows."""
        return {"sites": []} if self.decided else None

    def overrides_document(self) -> Document:
        """Return none."""
        return {"overrides": []}

    async def add_override(self, content: bytes) -> Document:
        """Receive anything but nothing."""
        if content == b"{}":
            raise ReportError("reason: is missing")
        return {"added": "1"}

    async def remove_override(self, name: str, by: str) -> Document:
        """Know one."""
        if name != "1":
            raise ReportError(f"no override '{name}'")
        return {"removed": name, "by": by}

    async def history_document(self, query: Query, at: float | None) -> Document | None:
        """Say what was asked for, at length."""
        return {"span": query.span, "service": query.service, "nearest": at, "at": [0.0] * 5000}

    async def live_overview(self) -> LiveOverview | None:
        """Return none."""
        return self.live

    async def moment_document(self, at: float) -> Document | None:
        """Return the instant that was asked for."""
        return {"at": at} if self.decided else None

    async def instance_document(self, name: str) -> Document | None:
        """Know one instance."""
        if name != "near":
            raise UnknownName("instance", name, ["near"])
        return {"name": name}

    async def envoys_document(self, name: str | None = None) -> Document:
        """Return no Envoys."""
        del name
        return {"envoys": []}

    async def agents_document(self) -> Document:
        """Return no agents."""
        return {"agents": []}

    async def config_document(self) -> Document:
        """Return a sound configuration."""
        return {"ok": True}

    async def metrics_text(self) -> bytes:
        """Return one metric."""
        return b"cats_ready 1\n"
