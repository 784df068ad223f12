"""Instances with HTTPS and a credential of their own, such as a provider's API, behind an Envoy."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from controlplane.resources.file_secrets import build_credential_secrets
from testbed.background import until
from testbed.fakes.certificates import Authority, server_context
from testbed.fakes.fleets import make_config
from testbed.processes.envoy_mesh import Mesh, Split, running_mesh

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.envoy

HOST = "api.example.net"
MODELS = [{"name": "m"}, {"name": "large", "served_as": "large-2026"}]
SERVICES: list[dict[str, Any]] = [
    {
        "name": "chat",
        "match": [{"path": "/v1/chat"}],
        "models": [{"name": "large"}, {"name": "m", "penalty": "1s"}],
    }
]
CLIENTS = {
    "authorization": "Bearer of-the-client",
    "cookie": "session=1",
    "x-api-key": "key-of-the-client",
    "x-real-ip": "192.0.2.7",
    "forwarded": "for=192.0.2.7",
}
ATTEMPTS = {"outlier_detection": None, "retries": {"retry_after": "0s"}}


class Provider:
    """A provider's certificate, its authority, and the credential that it wants."""

    def __init__(self, directory: Path, *, certificate: str = HOST) -> None:
        self.directory = directory
        self.authority = Authority(directory)
        self.key = directory / "keys" / "provider.key"
        self.key.parent.mkdir()
        self.key.write_text("secret-1\n", encoding="utf-8")
        self.asked: list[str | None] = []
        """Names that clients asked for (SNI)."""
        self.context = server_context(self.authority.issue(certificate))
        self.context.sni_callback = self._note

    def _note(self, _: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
        self.asked.append(name)

    @property
    def fields(self) -> dict[str, Any]:
        """Return the keys of the instance in ``fleet.yaml``."""
        credential = {"file": str(self.key), "secrets": str(self.directory)}
        https = {
            "name": HOST,
            "ca": str(self.authority.ca),
            "path": "/openai/",
            "credential": credential,
        }
        return {"model": "large", "https": https}

    def write_secrets(self) -> None:
        """Write what ``cats bootstrap --secrets`` does."""
        config = make_config(
            instances={"provider": ("cloud", "127.0.0.1:1")},
            services=SERVICES,
            models=MODELS,
            fields={"provider": self.fields},
        )
        for name, text in build_credential_secrets(config).items():
            (self.directory / name).write_text(text, encoding="utf-8")


@asynccontextmanager
async def provider_mesh(
    provider: Provider, split: Split, *, version: str = "", **envoy: Any
) -> AsyncIterator[Mesh]:
    """Run an Envoy before an instance of the fleet and the provider."""
    async with running_mesh(
        {"own": "north", "provider": "cloud"},
        services=SERVICES,
        models=MODELS,
        fields={"provider": provider.fields},
        split={"chat": split},
        tls={"provider": provider.context},
        envoy=ATTEMPTS | envoy,
        version=version,
    ) as mesh:
        yield mesh


@pytest.mark.parametrize("version", ["1.37", "1.38", "1.39", ""])
async def test_a_provider_is_asked_as_it_wants_and_no_one_else_sees_its_credential(
    tmp_path: Path, version: str
) -> None:
    """Its host, path, name of the model and key; a retry at another instance is the client's own.

    A replaced key is taken without a restart, and the client's credentials stay here.
    """
    provider = Provider(tmp_path)
    provider.write_secrets()
    split: Split = {"provider": 1, "own": (1, 1)}
    async with provider_mesh(provider, split, version=version) as mesh:
        there, own = mesh.origins["provider"], mesh.origins["own"]
        there.serves = "large-2026"

        async def ask() -> str:
            body = json.dumps({"model": "large"})
            answer = await mesh.request(
                "/v1/chat?beta=1&model=large", data=body, headers=CLIENTS | JSON
            )
            assert 200 == answer.status, answer
            return answer.headers["x-cats-model"]

        assert "large" == await ask()
        seen = {name.lower(): value for name, value in there.headers.items()}
        assert ("Bearer secret-1", HOST) == (seen["authorization"], seen["host"])
        assert "/openai/v1/chat?beta=1&model=large-2026" == there.path
        assert not {*CLIENTS, "x-forwarded-for", "x-envoy-external-address"} & {
            name for name in seen if name != "authorization"
        }
        assert not [name for name in seen if name.startswith("x-cats")]
        assert [HOST] == provider.asked

        there.answers = [(429, {}), (503, {})]
        assert "m" == await ask()
        seen = {name.lower(): value for name, value in own.headers.items()}
        assert CLIENTS == {name: seen[name] for name in CLIENTS}
        assert "/v1/chat?beta=1&model=m" == own.path
        assert mesh.url.endswith(seen["host"])
        assert "secret-1" not in str(seen)
        assert not [name for name in seen if name.startswith("x-cats")]

        draft = provider.key.with_suffix(".new")
        draft.write_text("secret-2\n", encoding="utf-8")
        draft.replace(provider.key)
        async with asyncio.timeout(60):
            while there.headers.get("Authorization") != "Bearer secret-2":
                assert "large" == await ask()
                await asyncio.sleep(0.05)


JSON = {"content-type": "application/json"}


async def test_a_retry_reaches_the_provider_after_an_own_instance(tmp_path: Path) -> None:
    """Each attempt is prepared for its instance, in either order."""
    provider = Provider(tmp_path)
    provider.write_secrets()
    async with provider_mesh(provider, {"own": 1, "provider": (1, 1)}) as mesh:
        mesh.origins["own"].status = 503
        answer = await mesh.request(headers=CLIENTS)
        headers = mesh.origins["provider"].headers
    assert (200, "large") == (answer.status, answer.headers["x-cats-model"])
    assert ("Bearer secret-1", HOST) == (headers["Authorization"], headers["Host"])


async def test_a_client_cannot_choose_the_credential(tmp_path: Path) -> None:
    """Without its file the provider is asked without any, and says so; others serve."""
    provider = Provider(tmp_path)
    provider.write_secrets()
    provider.key.write_text("", encoding="utf-8")
    forged = CLIENTS | {"x-cats-credential-provider": "forged"}
    async with provider_mesh(provider, {"provider": 1, "own": (1, 1)}) as mesh:
        there = mesh.origins["provider"]
        await mesh.request(headers=forged)
        assert not {"Authorization", "x-cats-credential-provider"} & set(there.headers)
        there.status = 401
        answer = await mesh.request(headers=forged)
    assert (200, "m") == (answer.status, answer.headers["x-cats-model"])


async def test_a_server_with_another_name_gets_nothing(tmp_path: Path) -> None:
    """A certificate of the same authority for another name is not the provider's."""
    provider = Provider(tmp_path, certificate="other.example.net")
    provider.write_secrets()
    async with provider_mesh(provider, {"provider": 1, "own": (1, 1)}) as mesh:
        answer = await mesh.request(headers=CLIENTS)
        assert (200, "m") == (answer.status, answer.headers["x-cats-model"])
        assert 0 == mesh.origins["provider"].requests
        await mesh.envoy.wait_for_stat("cluster.chat.ssl.fail_verify_san", lambda count: count > 0)


async def test_no_envoy_checks_a_provider_by_itself(tmp_path: Path) -> None:
    """It would be one check every two seconds from each of a fleet's Envoys."""
    provider = Provider(tmp_path)
    provider.write_secrets()
    check = {"path": "/health", "interval": "50ms"}
    async with provider_mesh(provider, {"provider": 1, "own": 1}, health_check=check) as mesh:
        await until(lambda: mesh.origins["own"].requests >= 10)
        assert 0 == mesh.origins["provider"].requests
        assert 200 == (await mesh.request(headers=CLIENTS)).status
