"""The admin port off loopback: no token, no answer, but for health."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from controlplane.admin_api.routes import build_admin
from controlplane.auth.admin_tokens import Login, TokenFile
from controlplane.controller.events import EventHub

OLD, NEW = "an-old-token-0123", "a-new-token-45678"

Client = TestClient[web.Request, web.Application]


class Nothing:
    """Shows the least."""

    events = EventHub()

    def is_ready(self) -> bool:
        """Serve."""
        return True

    async def config_document(self) -> dict[str, object]:
        """Return nothing."""
        return {}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a file with one token and a line that is too short to be one."""
    path = tmp_path / "tokens"
    path.write_text(f"{OLD}\n\nshort\n", encoding="utf-8")
    return path


@pytest.fixture
async def client(file: Path) -> AsyncIterator[Client]:
    """Return a client of a port that asks for a token."""
    login = Login(TokenFile(file), certificates=False)
    application = build_admin(Nothing(), host="0.0.0.0", login=login)  # type: ignore[arg-type]
    async with TestClient(TestServer(application)) as client:
        yield client


def basic(password: str) -> str:
    """Return what a browser sends."""
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("header", "status"),
    [
        pytest.param(None, 401, id="none"),
        pytest.param(f"Bearer {OLD}", 200, id="bearer"),
        pytest.param(f"bearer {OLD}", 200, id="lower case"),
        pytest.param(basic(OLD), 200, id="browser"),
        pytest.param(f"Bearer {NEW}", 401, id="unknown"),
        pytest.param("Bearer short", 401, id="a line too short"),
        pytest.param("Bearer ", 401, id="empty"),
        pytest.param(basic(""), 401, id="empty password"),
        pytest.param("Basic !!", 401, id="not base64"),
        pytest.param(f"Digest {OLD}", 401, id="another scheme"),
    ],
)
async def test_who_is_let_in(client: Client, header: str | None, status: int) -> None:
    """A token, as a program or a browser gives it."""
    headers = {} if header is None else {"Authorization": header}
    answer = await client.get("/api/v1/config", headers=headers)

    assert status == answer.status
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_health_is_open(client: Client, path: str) -> None:
    """A kubelet has no secret."""
    assert 200 == (await client.get(path)).status


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/events", "/nothing", "/healthz/"])
async def test_nothing_else_is(client: Client, path: str) -> None:
    """Not even whether it is there."""
    assert 401 == (await client.get(path)).status


def test_a_token_is_rotated_without_a_restart(file: Path) -> None:
    """Both are valid in between; a file that vanishes locks no one out."""
    tokens = TokenFile(file)
    steps = []
    for number, text in enumerate((f"{OLD}\n{NEW}\n", f"{NEW}\n"), start=1):
        file.write_text(text, encoding="utf-8")
        os.utime(file, ns=(0, number))
        steps.append((tokens.knows(OLD), tokens.knows(NEW)))
    file.unlink()
    steps.append((tokens.knows(OLD), tokens.knows(NEW)))

    assert [(True, True), (False, True), (False, True)] == steps
