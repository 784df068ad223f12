"""Gateways that several instances stand behind, at one address."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from controlplane.config.schema.values import HostName, PathPrefix, Settings, without_default


class BehindGateway(Settings):
    """How a gateway at an instance's address recognises requests for the instance.

    Two instances may have one address if these differ and no service has both of them: within a
    service Envoys know instances by their addresses.
    """

    host: Annotated[HostName, Field(json_schema_extra=without_default)] = ""
    """Replaces the request's host; by default the client's is kept."""
    path: Annotated[PathPrefix, Field(json_schema_extra=without_default)] = ""
    """Put before the request's path, such as ``/pool-a`` for a gateway that strips it.
    Envoys' active checks know nothing of it, so they leave the instance out."""
