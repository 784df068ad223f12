"""Gateways that several instances stand behind, at one address."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import HostName, PathPrefix, Settings, without_default


class BehindGateway(Settings):
    """Host and path by which a gateway at an instance's address routes to it.

    Two instances may share an address if these differ and no service uses both of them: within a
    service, Envoys identify instances by address.
    """

    host: Annotated[HostName, Field(json_schema_extra=without_default)] = ""
    """Host header that replaces the client's; by default the client's is kept."""
    path: Annotated[PathPrefix, Field(json_schema_extra=without_default)] = ""
    """Path prefix to add, such as ``/pool-a`` for a gateway that strips it. Envoys' active health
    checks do not use it, so they skip the instance."""
