"""Where a cluster's API is and how a client proves itself to it: configuration, kubeconfig or pod.

The form of a kubeconfig is that of kubernetes.io/docs/concepts/configuration/organize-cluster-
access-kubeconfig; of its current context what a server in the background can use is read.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from controlplane.config import KubernetesApi, KubernetesCluster
from controlplane.errors import ReportError
from controlplane.runtime.files import read_file
from controlplane.runtime.tls import client_context, load_pair
from controlplane.sources.tokens import read_token

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds the token and the authority of its service account."""
MAX_KUBECONFIG = 1_000_000
"""Bytes of a kubeconfig."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class AccessError(ReportError):
    """Nothing says where the API is, or what says so cannot be used.

    Attributes:
        remedy: what would be right.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Place:
    """Where the API is and how one proves oneself to it."""

    url: str
    ca: str | None = None
    """File of authorities; the system's if neither this nor *ca_pem* is there."""
    token_file: str | None = None
    ca_pem: str = ""
    token: str = ""
    cert: str | bytes | None = None
    """File or PEM of a client certificate."""
    key: str | bytes | None = None
    server_name: str | None = None
    """Name that the server's certificate carries, if not the URL's."""


class Access:
    """The way to one API server; files are read again when they change.

    Args:
        cluster: from the configuration.
        environment: of the process, which says a pod where its API is.
    """

    def __init__(
        self,
        cluster: KubernetesApi | KubernetesCluster,
        *,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        if isinstance(cluster, KubernetesCluster):
            self._api = cluster.api or KubernetesApi()
            self._kubeconfig = cluster.kubeconfig
        else:
            self._api, self._kubeconfig = cluster, None
        self._environment = environment
        self._read: tuple[int, Place] | None = None
        self._context: tuple[tuple[object, ...], ssl.SSLContext] | None = None

    def place(self) -> Place:
        """Return where the API is now.

        Raises:
            AccessError: nothing says so.
            OSError: a file cannot be read.
        """
        if self._kubeconfig is None:
            return place_of(self._api, self._environment)
        stamp = Path(self._kubeconfig).stat().st_mtime_ns
        if self._read is None or self._read[0] != stamp:
            content = read_file(Path(self._kubeconfig), limit=MAX_KUBECONFIG + 1)
            self._read = stamp, parse_kubeconfig(content, file=self._kubeconfig)
        return self._read[1]

    def headers(self, place: Place) -> dict[str, str]:
        """Return the headers that carry the token, which is read at every request.

        Raises:
            ReportError, OSError: the token cannot be read.
        """
        token = place.token if place.token_file is None else read_token(place.token_file)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def trust(self, place: Place) -> ssl.SSLContext | bool:
        """Return whom to trust and what to show.

        Raises:
            OSError: a file cannot be read, or holds something else.
        """
        files = [each for each in (place.ca, place.cert, place.key) if isinstance(each, str)]
        if not files and not place.ca_pem and place.cert is None:
            return True
        stamp = (place, *(Path(file).stat().st_mtime_ns for file in files))
        if self._context is None or self._context[0] != stamp:
            context = client_context(place.ca, pem=place.ca_pem)
            if place.cert is not None:
                with _file_of(place.cert) as cert, _file_of(place.key or place.cert) as key:
                    load_pair(context, cert, key)
            self._context = stamp, context
        return self._context[1]


def place_of(api: KubernetesApi, environment: Mapping[str, str] = os.environ) -> Place:
    """Return the place that the configuration names, or the one that every pod knows.

    Raises:
        AccessError: it names none, and this is no pod.
    """
    if api.server is not None:
        return Place(api.server, api.ca, api.token_file)
    host = environment.get("KUBERNETES_SERVICE_HOST", "")
    port = environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise AccessError(
            "this is not a pod of a cluster: KUBERNETES_SERVICE_HOST is not set",
            remedy="set discovery.api.server, ca and token_file, or list it in discovery.clusters",
        )
    shown = f"[{host}]" if ":" in host else host
    return Place(
        f"https://{shown}:{port}",
        api.ca or str(ACCOUNT / "ca.crt"),
        api.token_file or str(ACCOUNT / "token"),
    )


def parse_kubeconfig(content: bytes, *, file: str) -> Place:
    """Return the place of the current context.

    Args:
        content: YAML or JSON.
        file: where it is from; its directory is where relative paths begin.

    Raises:
        AccessError: it cannot be used.
    """
    remedy = "write it with 'kubectl config view --minify --raw' and a token or a certificate"
    try:
        if len(content) > MAX_KUBECONFIG:
            raise AccessError(f"{file}: more than {MAX_KUBECONFIG} bytes", remedy=remedy)
        document = yaml.load(content, Loader=_Loader)  # noqa: S506 -- a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise AccessError(f"{file}: not YAML", remedy=remedy) from error
    context = _named(document, "contexts", _text(document, "current-context"), "context")
    cluster = _named(document, "clusters", _text(context, "cluster"), "cluster")
    user = _named(document, "users", _text(context, "user"), "user")
    server = _text(cluster, "server")
    if not server:
        raise AccessError(f"{file}: its current context names no server", remedy=remedy)
    loopback = server.startswith(("http://127.0.0.1", "http://localhost", "http://[::1]"))
    if not server.startswith("https://") and not loopback:
        raise AccessError(f"{file}: {server[:80]} would send the token in the clear",
                          remedy="write https://")  # fmt: skip
    if cluster.get("insecure-skip-tls-verify"):
        raise AccessError(
            f"{file}: insecure-skip-tls-verify would send the token to any server",
            remedy="set certificate-authority, and tls-server-name if the names differ",
        )
    if "exec" in user or "auth-provider" in user:
        raise AccessError(
            f"{file}: its user runs a command for a token, which a server does not",
            remedy="create a service account in that cluster and set its token (tokenFile)",
        )
    directory = Path(file).parent

    def path(mapping: Mapping[str, Any], key: str) -> str | None:
        named = _text(mapping, key)
        return str(directory / named) if named else None

    try:
        ca_pem = _decoded(cluster, "certificate-authority-data").decode("ascii")
        cert = _decoded(user, "client-certificate-data") or path(user, "client-certificate")
        key = _decoded(user, "client-key-data") or path(user, "client-key")
    except (ValueError, binascii.Error) as error:
        raise AccessError(f"{file}: data that is not base64 of PEM", remedy=remedy) from error
    return Place(
        server.rstrip("/"),
        None if ca_pem else path(cluster, "certificate-authority"),
        path(user, "tokenFile"),
        ca_pem=ca_pem,
        token=_text(user, "token"),
        cert=cert,
        key=key,
        server_name=_text(cluster, "tls-server-name") or None,
    )


def _named(document: Any, key: str, name: str, what: str) -> Mapping[str, Any]:
    entries = document.get(key) if isinstance(document, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and entry.get("name") == name:
            inner = entry.get(what)
            return inner if isinstance(inner, dict) else {}
    return {}


def _text(document: Any, key: str) -> str:
    value = document.get(key) if isinstance(document, dict) else None
    return value if isinstance(value, str) else ""


def _decoded(document: Mapping[str, Any], key: str) -> bytes:
    return base64.b64decode(_text(document, key), validate=True)


@contextlib.contextmanager
def _file_of(pem: str | bytes) -> Any:
    """Return a file that holds *pem*, which may be one; OpenSSL loads keys from files only."""
    if isinstance(pem, str):
        yield pem
        return
    with tempfile.NamedTemporaryFile(prefix="cats-") as file:  # readable by its owner alone
        file.write(pem)
        file.flush()
        yield file.name
