"""The state of discovery as values."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.config import RejectedInstance

HTTP_ROUTES = "http_routes"
"""Kind of what is no rule, but an entry of a service's ``http_routes``."""


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """One rule, or one entry of a service's ``http_routes``, now."""

    name: str
    kind: str
    listed: bool
    """Whether its objects were ever known to this process."""
    age: float | None
    """Seconds since the API last answered for it; None if it never did."""
    reason: str = ""
    """Why the API does not answer; empty while it does."""
    remedy: str = ""
    instances: int = 0
    """That take part."""
    held: int = 0
    """Among these, those that no longer exist but whose service nothing else serves."""
    matches: int = 0
    """Of HTTPRoutes that are in force, where the source is a service's ``http_routes``."""
    cluster: str = ""
    """Where it looks; empty for the cluster of ``discovery.api``."""
    refused: tuple[RejectedInstance, ...] = ()
