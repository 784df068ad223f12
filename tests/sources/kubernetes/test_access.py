"""Where an API is: kubeconfig files as tools write them, and those that cannot be used."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from controlplane.config import KubernetesCluster
from controlplane.sources.kubernetes.access import Access, AccessError, Place, parse_kubeconfig
from controlplane.sources.kubernetes.api_answers import ApiError
from controlplane.sources.kubernetes.client import ApiClient, new_session
from controlplane.sources.kubernetes.objects import PODS
from testbed.fakes.certificates import Authority, server_context
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_pod


def kubeconfig(cluster: dict[str, Any], user: dict[str, Any], **more: Any) -> bytes:
    """Return a kubeconfig with one context beside one that is not the current."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "edge",
        "contexts": [
            {"name": "other", "context": {"cluster": "other", "user": "other"}},
            {"name": "edge", "context": {"cluster": "edge-1", "user": "cats"}},
        ],
        "clusters": [
            {"name": "other", "cluster": {"server": "https://other"}},
            {"name": "edge-1", "cluster": {"server": "https://edge:6443", **cluster}},
        ],
        "users": [{"name": "other", "user": {}}, {"name": "cats", "user": user}],
        **more,
    }
    return yaml.safe_dump(document).encode()


PEM = "-----BEGIN CERTIFICATE-----\n"
DATA = base64.b64encode(PEM.encode()).decode()


@pytest.mark.parametrize(
    ("cluster", "user", "place"),
    [
        pytest.param(
            {"certificate-authority": "ca.crt"},
            {"tokenFile": "/run/token"},
            Place("https://edge:6443", "/etc/k/ca.crt", "/run/token"),
            id="files, relative to the kubeconfig",
        ),
        pytest.param(
            {"certificate-authority-data": DATA, "tls-server-name": "kubernetes"},
            {"token": "secret"},
            Place("https://edge:6443", ca_pem=PEM, token="secret", server_name="kubernetes"),
            id="data",
        ),
        pytest.param(
            {},
            {"client-certificate-data": DATA, "client-key": "key.pem"},
            Place("https://edge:6443", cert=PEM.encode(), key="/etc/k/key.pem"),
            id="a certificate",
        ),
    ],
)
def test_the_current_context_is_read(
    cluster: dict[str, Any], user: dict[str, Any], place: Place
) -> None:
    """As kubectl reads it."""
    assert place == parse_kubeconfig(kubeconfig(cluster, user), file="/etc/k/config")


@pytest.mark.parametrize(
    ("content", "reason", "remedy"),
    [
        pytest.param(b"\t: [", "k: not YAML", "--minify --raw", id="no YAML"),
        pytest.param(
            b"[]", "k: its current context names no server", "--minify --raw", id="a list"
        ),
        pytest.param(
            kubeconfig({}, {}, **{"current-context": "gone"}),
            "k: its current context names no server",
            "--minify --raw",
            id="a context that is not there",
        ),
        pytest.param(
            kubeconfig({"server": "http://edge:8080"}, {}),
            "k: http://edge:8080 would send the token in the clear",
            "https://",
            id="clear text",
        ),
        pytest.param(
            kubeconfig({"insecure-skip-tls-verify": True}, {}),
            "k: insecure-skip-tls-verify would send the token to any server",
            "certificate-authority",
            id="unverified",
        ),
        pytest.param(
            kubeconfig({}, {"exec": {"command": "aws"}}),
            "k: its user runs a command for a token, which a server does not",
            "tokenFile",
            id="a command",
        ),
        pytest.param(
            kubeconfig({"certificate-authority-data": "?"}, {}),
            "k: data that is not base64 of PEM",
            "--minify --raw",
            id="damaged data",
        ),
    ],
)
def test_a_kubeconfig_that_cannot_be_used_says_why(
    content: bytes, reason: str, remedy: str
) -> None:
    """With what would be right."""
    with pytest.raises(AccessError) as caught:
        parse_kubeconfig(content, file="k")

    assert reason == str(caught.value)
    assert remedy in caught.value.remedy


async def test_a_client_certificate_of_a_kubeconfig_opens_a_cluster(tmp_path: Path) -> None:
    """Edge distributions write one instead of a token; a renewed file is taken."""
    authority = Authority(tmp_path)
    client = authority.issue("cats")
    tls = server_context(authority.issue("127.0.0.1"), clients_of=authority.ca)
    server = KubernetesApiServer()
    file = tmp_path / "kubeconfig"
    named = KubernetesCluster.model_validate({"name": "edge", "kubeconfig": str(file)})

    def encoded(path: Path) -> str:
        return base64.b64encode(path.read_bytes()).decode()

    user = {
        "client-certificate-data": encoded(client.cert),
        "client-key-data": encoded(client.key),
    }
    async with serving_kubernetes(server, tls=tls), new_session() as session:
        server.put("pods", make_pod("a", "10.0.0.1"))
        cluster = {"server": server.url, "certificate-authority-data": encoded(authority.ca)}
        api = ApiClient(named, session)
        with pytest.raises(ApiError, match="No such file"):
            await api.list_page(PODS, "default")
        file.write_bytes(kubeconfig(cluster, {}))
        # TLS 1.3 shows the refusal with the first answer.
        with pytest.raises((ApiError, aiohttp.ClientError)):
            await api.list_page(PODS, "default")
        file.write_bytes(kubeconfig(cluster, user))
        os.utime(file, ns=(1, 1))
        page = await api.list_page(PODS, "default")

    assert 1 == len(page.items)


def test_a_cluster_without_a_place_is_the_pods_own() -> None:
    """As discovery.api is by default."""
    cluster = KubernetesCluster.model_validate({"name": "own", "api": {}})
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}

    assert "https://10.0.0.1:443" == Access(cluster, environment=environment).place().url
