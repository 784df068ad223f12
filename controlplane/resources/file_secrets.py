"""Secrets that an Envoy reads from files of its own machine, and again when they are replaced."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Any

import yaml

from controlplane.config import Config, InstanceTls
from controlplane.resources import names
from controlplane.resources.credentials import credential_name, credentials

_SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"  # noqa: S105 -- a type
CLIENT_CA = "ca"
"""Name of a secret and of its file: who may sign the control plane's certificate."""
CLIENT_OWN = "own"
"""And what the Envoy proves itself with."""
_SYSTEM_CA = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files on the Envoy's machine with which it proves itself and checks the control plane."""

    ca: str = _SYSTEM_CA
    """Certificates that may sign the control plane's."""
    cert: str | None = None
    """Its own certificate; needed where the control plane sets ``server.tls.client_ca``."""
    key: str | None = None
    server_name: str | None = None
    """Name that the control plane's certificate must carry; by default what it is reached by."""
    secrets: str | None = None
    """Directory of the Envoy's machine with the files of `build_secrets`; then changed certificates
    are read without a restart."""


def build_secrets(tls: ClientTls) -> dict[str, str]:
    """Write the files for `ClientTls.secrets`: name -> YAML that only names certificate files.

    Envoy watches the directories of those, so both a file that is replaced and the swapped link of
    a mounted Kubernetes Secret are noticed.
    """
    return _secret_files((CLIENT_CA, tls.ca), (CLIENT_OWN, tls.cert, tls.key))


def build_instance_secrets(tls: InstanceTls) -> dict[str, str]:
    """Write the files for `InstanceTls.secrets`, as `build_secrets`; clusters refer to them."""
    return _secret_files((names.INSTANCES_CA, tls.ca), (names.INSTANCES_OWN, tls.cert, tls.key))


def build_credential_secrets(config: Config) -> dict[str, str]:
    """Write the files for the credentials of instances, as `build_secrets`."""
    files: dict[str, str] = {}
    for instance in credentials(config):
        assert instance.https is not None and instance.https.credential is not None  # noqa: S101, PT018 -- as `credentials` says
        file, name = instance.https.credential.file, credential_name(instance.name)
        source = {"filename": file, **_watched(file)}
        files |= _named_secret(name, {"generic_secret": {"secret": source}})
    return files


def _named_secret(name: str, secret: dict[str, Any]) -> dict[str, str]:
    document = {"resources": [{"@type": _SECRET, "name": name, **secret}]}
    return {f"{name}.yaml": yaml.safe_dump(document, sort_keys=False)}


def _secret_files(
    authority: tuple[str, str], own: tuple[str, str | None, str | None]
) -> dict[str, str]:
    name, ca = authority
    files = {name: {"validation_context": {"trusted_ca": {"filename": ca}, **_watched(ca)}}}
    name, cert, key = own
    if cert is not None and key is not None:
        files[name] = {
            "tls_certificate": {
                "certificate_chain": {"filename": cert},
                "private_key": {"filename": key},
                **_watched(cert),
            }
        }
    return {
        file: text
        for name, secret in files.items()
        for file, text in _named_secret(name, secret).items()
    }


def _watched(file: str) -> dict[str, Any]:
    return {"watched_directory": {"path": posixpath.dirname(file) or "."}}


def build_secret_source(name: str, directory: str) -> dict[str, Any]:
    """Build the reference to the secret *name* of a directory of the Envoy's machine."""
    path = posixpath.join(directory, f"{name}.yaml")
    return {
        "name": name,
        "sds_config": {"path_config_source": {"path": path}, "resource_api_version": "V3"},
    }
