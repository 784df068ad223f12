"""Which instances have a credential, and what Envoys call it; loads no generated class."""

from __future__ import annotations

from controlplane.config import Config, Instance


def credential_name(instance: str) -> str:
    """Return the name of an instance's secret, and of its file without the suffix."""
    return f"credential-{instance}"


def credentials(fleet: Config) -> list[Instance]:
    """Return the instances that have a credential."""
    return [each for each in fleet.instances if each.https is not None and each.https.credential]
