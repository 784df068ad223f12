"""What the routes of the admin port share with the view that answers them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from aiohttp import web

from controlplane.suggestions import did_you_mean

if TYPE_CHECKING:
    from controlplane.admin_api.view import AdminView

DOCUMENTS: web.AppKey[AdminView] = web.AppKey("documents")


class UnknownName(Exception):  # noqa: N818 -- says what is the case
    """A service, site, model or instance that the configuration does not have."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"no {kind} '{name}'; {did_you_mean(name, sorted(known))}")
